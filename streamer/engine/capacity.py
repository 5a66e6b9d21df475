"""How many live speakers this machine holds: by denoising at full tilt for a moment, as many workers at once.

A speaker asks for a window each hop. What the workers denoise a second, times ``HEADROOM``, over what a
speaker asks for a second is how many are admitted. The headroom is for what sockets and crossfading need
beside it, and for the moments when several windows fall due at once; ``benchmarks.capacity`` and
``benchmarks.overload`` hold it to real speakers. No more than ``MOST`` are promised unasked: beyond it the
event loop, not the model, is the bound.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from streamer.contract.errors import FaceError
from streamer.core.session import WindowRequest
from streamer.engine.backend import Backend
from streamer.engine.bundle import Bundle
from streamer.engine.tuning import requests_of

HEADROOM = 0.5
MOST = 64
_SECONDS = 0.8
_LARGEST = 8  # what a loaded server's batches come to


def measured_capacity(
    backends: Sequence[Backend], bundle: Bundle, max_batch: int, hop_ms: float, seconds: float = _SECONDS
) -> int:
    """How many speakers with a hop of ``hop_ms`` are admitted; takes ``seconds``.

    Args:
        backends: one for each worker, warm. bundle: theirs. max_batch: the largest batch they get.

    Raises:
        FaceError: a backend fails.
    """
    requests = requests_of(bundle, min(max_batch, _LARGEST))
    return capacity(windows_per_s(backends, requests, seconds), hop_ms)


def capacity(windows_a_second: float, hop_ms: float) -> int:
    """How many speakers so many windows a second are enough for; 1 to ``MOST``."""
    return max(1, min(MOST, int(HEADROOM * windows_a_second * hop_ms / 1000)))


def windows_per_s(backends: Sequence[Backend], requests: Sequence[WindowRequest], seconds: float) -> float:
    """What the backends denoise side by side, each one batch of ``requests`` after the other."""
    counts, failures = [0.0] * len(backends), []
    start = threading.Barrier(len(backends))

    def work(place: int) -> None:
        try:
            backends[place].infer(requests)
            start.wait()
            began, batches = time.perf_counter(), 0
            while (took := time.perf_counter() - began) < seconds:
                backends[place].infer(requests)
                batches += 1
            counts[place] = batches * len(requests) / took
        except FaceError as error:
            failures.append(error)
            start.abort()
        except threading.BrokenBarrierError:
            pass

    threads = [threading.Thread(target=work, args=(place,)) for place in range(len(backends))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return sum(counts)
