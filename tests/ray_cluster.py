"""``python -m tests.ray_cluster``: a Ray cluster of two nodes on this machine, while its stdin is open.

It prints the address, then obeys lines on stdin and answers each with one line: ``kill replica`` (SIGKILL,
the newest), ``kill node`` (the second, with all that runs on it), ``add node``, ``replicas`` (how many).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import psutil

from tests.processes import ROOT

_REPLICA = "ray::ServeReplica:diffspeaker"
_NODE = {"num_cpus": 4, "object_store_memory": 80 << 20}


def replicas() -> list[psutil.Process]:
    """The replicas' processes, the oldest first."""
    found = []
    for process in psutil.process_iter(["name", "cmdline", "create_time"]):
        if " ".join(process.info["cmdline"] or [""]).startswith(_REPLICA):
            found.append(process)
    return sorted(found, key=lambda process: process.info["create_time"])


class RayCluster:
    """A running cluster, seen from a test."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self._process = process
        self.environment = {**os.environ, "RAY_ADDRESS": address}

    def processes(self) -> list[psutil.Process]:
        """All that belong to it, with what runs on it."""
        root = psutil.Process(self._process.pid)
        return [root, *root.children(recursive=True)]

    def order(self, line: str) -> str:
        """Has something done; returns the answer."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        assert answer, f"the cluster ended at {line!r}"
        return answer


@contextlib.contextmanager
def ray_cluster() -> Iterator[RayCluster]:
    """A cluster, for as long as the context lasts."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.ray_cluster"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield RayCluster(process, process.stdout.readline().strip())
    finally:
        process.communicate()


def _obey() -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={**_NODE, "include_dashboard": False})
    second = cluster.add_node(**_NODE)
    print(cluster.address, flush=True)
    try:
        for line in sys.stdin:
            match line.strip():
                case "kill replica":
                    newest = replicas()[-1]
                    newest.send_signal(signal.SIGKILL)
                    print(newest.pid, flush=True)
                case "kill node":
                    cluster.remove_node(second, allow_graceful=False)
                    print("killed", flush=True)
                case "add node":
                    second = cluster.add_node(**_NODE)
                    print("added", flush=True)
                case "replicas":
                    print(len(replicas()), flush=True)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    _obey()
