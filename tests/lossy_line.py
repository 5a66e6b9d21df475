"""Two networks on this machine with a bad line between them, made and unmade by the test that uses it.

Each is a network namespace of its own with one device, whose packets a process here carries to the other
side. It loses some and delays the rest, each way. ``tc netem`` does as much where the kernel has it; this
needs nothing but root and ``/dev/net/tun``.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import itertools
import os
import random
import select
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

LOSS, DELAY_S, JITTER_S = 0.05, 0.2, 0.03
HERE, THERE = "10.137.0.1", "10.137.0.2"


@contextlib.contextmanager
def lossy_line() -> Iterator[tuple[list[str], list[str]]]:
    """The two networks: what to put before a command to run it in the one or in the other.

    Raises:
        PermissionError: not allowed here, with the reason.
    """
    names = [f"face-{os.getpid()}-{side}" for side in ("here", "there")]
    with contextlib.ExitStack() as leaving:
        for name in names:
            _ip("netns", "add", name)
            leaving.callback(_ip, "netns", "delete", name)
        carrier = subprocess.Popen([sys.executable, "-m", "tests.lossy_line", *names], stdout=subprocess.PIPE)
        leaving.callback(carrier.communicate)
        leaving.callback(carrier.kill)
        assert carrier.stdout is not None
        if carrier.stdout.readline() != b"carrying\n":
            raise PermissionError("a network device cannot be made here")
        for name, own, other in zip(names, (HERE, THERE), (THERE, HERE), strict=True):
            inside = ("netns", "exec", name, "ip")
            _ip(*inside, "address", "add", own, "peer", other, "dev", "line")
            _ip(*inside, "link", "set", "line", "up")
            _ip(*inside, "link", "set", "lo", "up")
        yield tuple(["ip", "netns", "exec", name] for name in names)  # type: ignore[misc]


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise PermissionError(f"ip {' '.join(words)}: {done.stderr.strip()}")


def carry_packets(names: Sequence[str]) -> None:
    """Carries packets between the devices of two network namespaces until it is killed."""
    devices = [_device_in(name) for name in names]
    print("carrying", flush=True)
    dice = random.Random(7)
    waiting: list[tuple[float, int, int, bytes]] = []  # due, number, device, packet
    numbers = itertools.count()
    newest = [0.0, 0.0]
    while True:
        pause_s = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        for device in select.select(devices, [], [], pause_s)[0]:
            packet = os.read(device, 65536)
            if dice.random() >= LOSS:
                side = devices.index(device)
                due = time.monotonic() + DELAY_S + JITTER_S * dice.uniform(-1, 1)
                newest[side] = max(newest[side], due)  # packets of one line stay in order
                heapq.heappush(waiting, (newest[side], next(numbers), devices[1 - side], packet))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, device, packet = heapq.heappop(waiting)
            os.write(device, packet)


def _device_in(namespace: str) -> int:
    """Enters a network namespace and makes the device ``line`` in it, for reading and writing packets."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{namespace}") as entrance:
        if libc.setns(entrance.fileno(), 0x40000000):  # CLONE_NEWNET
            raise OSError(ctypes.get_errno(), "setns")
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    # TUNSETIFF of a device of packets without a header: IFF_TUN | IFF_NO_PI
    fcntl.ioctl(device, 0x400454CA, struct.pack("16sH22x", b"line", 0x0001 | 0x1000))
    return device


if __name__ == "__main__":
    carry_packets(sys.argv[1:])
