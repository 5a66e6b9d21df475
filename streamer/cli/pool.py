"""``diffspeaker pool``: the model on the machines of a Ray cluster, for servers with ``--engine`` to ask."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from streamer.cli.config import option, parse
from streamer.contract.errors import FaceError
from streamer.engine.bundle import Bundle
from streamer.engine.pool.deploy import deploy, remove

DESCRIPTION = """Puts replicas of the model into a Ray cluster, or changes those that run there, and ends.

  ray start --head                       on the first machine; on others: ray start --address=FIRST:6379
  diffspeaker pool --replicas 4 --gpus 0.25
  diffspeaker serve --engine ray://auto  on a machine of the cluster; elsewhere ray://FIRST:10001

The bundle's folder must be at the same place on every machine; the one that ships with the package is."""


@dataclass(frozen=True)
class PoolCommandOptions:
    """The options of ``diffspeaker pool``."""

    engine: str = option(
        "ray://auto", "the cluster: ray://HOST:10001, or ray://auto on a machine of it", metavar="URL"
    )
    bundle: Path | None = option(None, "the model's folder; the one that ships where none is given")
    replicas: int = option(1, "how many replicas there are at first, and at least", minimum=1)
    max_replicas: int | None = option(
        None, "how many there may be under load; as many as at first where not given", minimum=1
    )
    calls: float = option(2.0, "batches at a replica beyond which another one is added", minimum=0.1)
    cpus: float = option(1.0, "processors of a machine for each replica", minimum=0)
    gpus: float = option(0.0, "GPUs of a machine for each replica: 0.25 puts four on one", minimum=0)
    provider: str | None = option(
        None, "what computes, best first, as for serve; by default what is found", metavar="NAME,…"
    )
    variant: str | None = option(None, "how it computes: fp32, fp16, int8", metavar="NAME")
    threads: int = option(1, "threads of each replica", minimum=1)
    max_batch: int = option(32, "the most windows that a replica denoises together", minimum=1, maximum=256)
    stop: bool = option(False, "take the pool out of the cluster")


def run(argv: list[str]) -> int:
    """Runs the command; returns its exit code."""
    options = parse(PoolCommandOptions, argv, "diffspeaker pool", DESCRIPTION)
    if options.stop:
        remove(options.engine)
        print("The pool is stopped.")
        return 0
    most = options.max_replicas or options.replicas
    if most < options.replicas:
        raise FaceError(
            "bad_config", f"--max-replicas {most} is less than --replicas {options.replicas}.", "Swap them."
        )
    bundle = Bundle.load(options.bundle)
    chosen = {
        "bundle": None if options.bundle is None else str(options.bundle.resolve()),
        "provider": options.provider,
        "variant": options.variant,
        "threads": options.threads,
        "max_batch": options.max_batch,
        "replicas": options.replicas,
        "max_replicas": most,
        "calls": options.calls,
        "cpus": options.cpus,
        "gpus": options.gpus,
    }
    with _ending_at_once():
        pool = deploy(options.engine, chosen, bundle)
    number = f"{options.replicas} to {most}" if most > options.replicas else str(options.replicas)
    print(
        f"The pool answers: {number} replica{'s' if most > 1 else ''} of {bundle.manifest.name} "
        f"{bundle.manifest.version} ({bundle.digest[:12]}), {pool.provider} {pool.variant}."
    )
    return 0


@contextlib.contextmanager
def _ending_at_once() -> Iterator[None]:
    """Ctrl-C ends the process without an exception, which may be lost in a callback of Ray's.

    There is nothing to tidy: what was asked of the cluster stays asked.
    """
    before = signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
