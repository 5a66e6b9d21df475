"""Which variant, how many threads and how large a batch serve the most speakers on this machine: by trying.

Every setting computes real windows of a session for a fraction of a second, and the settings take turns for a
few rounds, so that what else the machine does disturbs all alike. The choice:

1. the variant and the thread count with the most windows per second at their best batch, times the workers
   that have room side by side; of those within 10 % of the best, the one with the fewest threads;
2. then the largest batch that takes at most half a hop, so that no speaker waits longer for the others.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from streamer.core.options import SessionOptions
from streamer.core.session import Session, WindowRequest
from streamer.engine.backend import OnnxBackend
from streamer.engine.bundle import Bundle
from streamer.engine.providers import CPU

BATCHES = (1, 2, 4, 8, 16, 32)
ROUNDS = 5
_NEARLY = 0.9
_PART_OF_HOP = 0.5


@dataclass(frozen=True)
class Row:
    """One setting, measured.

    Attributes:
        provider, variant: what computed. threads: within an operator. batch: windows at a time.
        batch_ms: how long a batch took, the median of the rounds.
    """

    provider: str
    variant: str
    threads: int
    batch: int
    batch_ms: float

    @property
    def windows_per_s(self) -> float:
        """How many windows a second it denoises."""
        return 1000 * self.batch / self.batch_ms


def requests_of(bundle: Bundle, count: int) -> list[WindowRequest]:
    """First windows of ``count`` sessions that hear noise."""
    random, requests = np.random.default_rng(0), []
    for seed in range(count):
        session = Session(bundle.manifest, SessionOptions.choose(bundle.manifest, seed=seed))
        while not session.pending_windows:
            session.feed((0.1 * random.standard_normal(8000)).astype(np.float32))
        request = session.next_request()
        assert request is not None
        requests.append(request)
    return requests


def measure(
    bundle: Bundle,
    threads: Sequence[int],
    providers: Sequence[str] | None = None,
    variants: Sequence[str] | None = None,
    batches: Sequence[int] = BATCHES,
    rounds: int = ROUNDS,
    on_row: Callable[[], None] = lambda: None,
) -> list[Row]:
    """Times every setting.

    Args:
        bundle: what computes. threads: the counts to try. providers: as for ``OnnxBackend``.
        variants: which to try; each provider's best where None. batches: sizes to try.
        rounds: how often each is timed. on_row: called after each timing.

    Raises:
        FaceError: as ``OnnxBackend``.
    """
    requests = requests_of(bundle, max(batches))
    backends = [
        (count, OnnxBackend(bundle, providers, count, variant))
        for variant in variants or (None,)
        for count in threads
    ]
    times: dict[tuple[int, int], list[float]] = {}
    for turn in range(rounds + 1):  # the first is the warm-up
        for number, (_, backend) in enumerate(backends):
            for batch in batches:
                started = time.perf_counter()
                backend.infer(requests[:batch])
                if turn:
                    took_ms = 1000 * (time.perf_counter() - started)
                    times.setdefault((number, batch), []).append(took_ms)
                    on_row()
    return [
        Row(backend.provider, backend.variant, count, batch, statistics.median(times[number, batch]))
        for number, (count, backend) in enumerate(backends)
        for batch in batches
    ]


def workers_of(row: Row, cores: int) -> int:
    """How many workers of a setting have room side by side; a GPU is one."""
    return max(1, cores // row.threads) if row.provider == CPU else 1


def choose(rows: Sequence[Row], hop_ms: float, cores: int = 1) -> Row:
    """The setting to serve with; its ``batch`` is the largest to allow. See the top for the rules."""

    def rate(row: Row) -> float:
        return row.windows_per_s * workers_of(row, cores)

    best = max(map(rate, rows))
    good = [row for row in rows if rate(row) >= _NEARLY * best]
    chosen = min(good, key=lambda row: (row.threads, -rate(row)))
    same = [row for row in rows if (row.provider, row.variant, row.threads) == _setting(chosen)]
    fitting = [row for row in same if row.batch_ms <= _PART_OF_HOP * hop_ms]
    return max(fitting, key=lambda row: row.batch) if fitting else min(same, key=lambda row: row.batch)


def _setting(row: Row) -> tuple[str, str, int]:
    return row.provider, row.variant, row.threads
