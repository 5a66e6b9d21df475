"""Service times out of measurements: ``benchmarks.cluster`` at few speakers, ``benchmarks.engine``.

Rules:

1. Only the levels of up to ``LOW`` speakers are looked at. The higher ones are what the model is held to.
2. A part's cores at a level are what it takes anyhow, and what each window and each call takes: non-negative
   least squares over the levels, each level's error relative to what was measured.
3. Cores were measured over a generator's whole life, which is longer than its speech by what starting and
   connecting take; windows are counted over the same time.
4. At few speakers a call holds one window or two, so the mean batch that a window sees tells how many calls
   there were.
5. How much longer a call of two takes than a call of one is the engine's second window, the replica's work
   for it, and the gateway's; what is left of a call's time is its way.
6. A server that denoises by itself wakes for the same things as a gateway, and at the same cost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import nnls

from benchmarks.load import CHUNK_S

LOW = 4
FRAME_S, HOP_FRAMES = 1 / 30, 2
HOP_S = HOP_FRAMES * FRAME_S
BATCH_WAIT_S = 0.001  # streamer.engine.pool.replica
WAKES = HOP_S / CHUNK_S + 2  # of a gateway for each window: its chunks, its question and its answer
_STARTS_S = 0.5  # a generator's imports, and the ends of its streams
_P99 = 2.326  # of a normal distribution, in sigmas
Row = dict[str, Any]
Batches = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Costs:
    """Core seconds that were measured, and the way.

    Attributes:
        wake_s: of a gateway's loop, each time it wakes.
        call_s, call_window_s: of a gateway, for a call and for each window in it.
        way_s: of a call, there and back: delay, no work.
        replica_s, replica_window_s: of a replica's loop, for a call and for each window in it.
        batch_s: of a batch, (windows, median seconds) in rising order. spread: sigma of its logarithm.
        batch_extra_s: of a batch in a server at work, beyond ``batch_s``, which is measured with warm caches.
        client_s: of the load generator, for each window. aside_s: of what else works for a window.
        idle_cores: taken all the time by what only keeps itself going.
    """

    batch_s: tuple[tuple[int, float], ...]
    wake_s: float = 0.0
    call_s: float = 0.0
    call_window_s: float = 0.0
    way_s: float = 0.0
    replica_s: float = 0.0
    replica_window_s: float = 0.0
    spread: float = 0.0
    batch_extra_s: float = 0.0
    client_s: float = 0.0
    aside_s: float = 0.0
    idle_cores: float = 0.0

    def of_batch(self, windows: int) -> float:
        """Median seconds of a batch; between those that were measured, and beyond, on a line."""
        points = self.batch_s
        if len(points) == 1:
            return points[0][1] * windows / points[0][0] + self.batch_extra_s
        place = next((i for i, (size, _) in enumerate(points) if size >= windows), len(points) - 1)
        (low, low_s), (high, high_s) = points[max(0, place - 1)], points[max(1, place)]
        return low_s + (high_s - low_s) * (windows - low) / (high - low) + self.batch_extra_s


def calibrated(cluster: Row, engine: Row, kind: str, low: int = LOW) -> Costs:
    """The costs of a server with its own engine (``kind`` is ``local``) or of a pool (``pool``).

    Args:
        cluster, engine: results of the two benchmarks, of one machine. low: the highest level that is used.

    Raises:
        ValueError: there are fewer than three levels to learn from, or the engine's variant is missing.
    """
    rows = [row for row in cluster[kind] if row["streams"] <= low]
    if len(rows) < 3:
        raise ValueError(f"Three levels of at most {low} speakers are needed, there are {len(rows)}.")
    pace = [windows_and_calls(row, cluster["config"]) for row in rows]
    batch_s, spread = batches(engine)
    bare = Costs(batch_s)
    first_s, second_s = bare.of_batch(1), bare.of_batch(2) - bare.of_batch(1)
    computing = [(first_s * n + second_s * (w - n)) * math.exp(spread**2 / 2) for w, n in pace]
    client = _fit([row["generator_cores"] for row in rows], pace, "windows")
    if kind == "local":
        wake_s = calibrated(cluster, engine, "pool", low).wake_s
        left = [
            row["server_cores"] - spent - wake_s * WAKES * windows
            for row, spent, (windows, _) in zip(rows, computing, pace, strict=True)
        ]
        server = _fit(left, pace, "calls")
        return Costs(
            batch_s,
            spread=spread,
            batch_extra_s=server["calls"],
            wake_s=wake_s,
            client_s=client["windows"],
            idle_cores=server["anyhow"],
        )
    server = _fit([row["server_cores"] for row in rows], pace, "windows", "calls")
    left = [row["replica_cores"] - spent for row, spent in zip(rows, computing, strict=True)]
    replica = _fit(left, pace, "windows", "calls")
    aside = _fit([row["ray_cores"] for row in rows], pace, "windows")
    more = [row["mean_batch"] - 1 for row in rows]
    slope_s, single_s = map(float, np.polyfit(more, [row["mean_call_ms"] / 1000 for row in rows], 1))
    packing_s = min(max(0.0, slope_s - second_s - replica["windows"]), server["windows"])
    work_s = server["calls"] + packing_s + replica["calls"] + replica["windows"] + BATCH_WAIT_S + first_s
    return Costs(
        batch_s,
        spread=spread,
        wake_s=(server["windows"] - packing_s) / WAKES,
        call_s=server["calls"],
        call_window_s=packing_s,
        way_s=max(0.0, single_s - work_s),
        replica_s=replica["calls"],
        replica_window_s=replica["windows"],
        client_s=client["windows"],
        aside_s=aside["windows"],
        idle_cores=server["anyhow"] + replica["anyhow"] + aside["anyhow"],
    )


def windows_and_calls(row: Row, config: Row) -> tuple[float, float]:
    """Windows and calls a second at a level, over the time over which its cores were measured."""
    speech_s = config["seconds"] + config["settle_s"]
    life_s = speech_s + 0.5 + 0.01 * row["streams"] + _STARTS_S  # benchmarks.capacity: when speech begins
    windows = row["streams"] / HOP_S * speech_s / life_s
    return windows, windows * (1 - (min(row["mean_batch"], 2.0) - 1) / 2)


def batches(engine: Row, provider: str = "cpu", variant: str = "int8") -> tuple[Batches, float]:
    """A variant's batches, (windows, median seconds), and the spread of a single window's time."""
    rows = [row for row in engine["rows"] if (row["provider"], row["variant"]) == (provider, variant)]
    if not rows:
        raise ValueError(f"The engine's result has no {provider} {variant}.")
    spread = math.log(rows[0]["batch_p99_ms"] / rows[0]["batch_p50_ms"]) / _P99
    return tuple((row["batch"], row["batch_p50_ms"] / 1000) for row in rows), spread


def _fit(cores: Sequence[float], pace: Sequence[tuple[float, float]], *parts: str) -> dict[str, float]:
    """Core seconds of each part, and the cores that are taken ``anyhow``."""
    windows, calls = zip(*pace, strict=True)
    columns = {"anyhow": [1.0] * len(pace), "windows": windows, "calls": calls}
    names = ["anyhow", *parts]
    measured = np.maximum(np.asarray(cores), 1e-6)
    matrix = np.asarray([columns[name] for name in names]).T / measured[:, None]
    found, _ = nnls(matrix, np.ones(len(measured)))
    return dict(zip(names, found.tolist(), strict=True))
