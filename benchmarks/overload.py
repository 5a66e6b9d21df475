"""``python -m benchmarks.overload``: whether those who were admitted feel those who were not.

Starts ``diffspeaker serve`` with nothing said about its size, fills every place that it measured for
itself, and times every frame of all speakers while others do their worst, a phase each, quiet phases between:

- *knock*: five times as many speakers as there are places, each coming back every second;
- *reconnect*: one address connects without end, as fast as it is answered (``--connects-per-minute 600``);
- *greedy*: one of the admitted sends its audio as fast as the server reads it.

The figure is the 99th percentile of the other speakers' latency in a phase over that in the quiet phases
beside it; the aim is 1.2 at most. All of it runs on loopback and on this machine's cores, the clients' work
too; who disturbs runs at a lower priority, as another machine's processes would not compete at all.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import uvloop
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from benchmarks.load import CHUNK_S, generator, opened, sample, serving, speak
from benchmarks.provenance import percentiles, provenance, write
from streamer.contract import wire

PHASES = ("settle", "quiet 1", "knock", "quiet 2", "reconnect", "quiet 3", "greedy", "quiet 4")
DISTURBED = ("knock", "reconnect", "greedy")
SETTLE_S = 3.0
KNOCKERS = 5  # times the capacity
AIM = 1.2
FPS = 30


# ---- the speakers' process -------------------------------------------------------------------------------


async def generate(url: str, places: int, begin: float, phase_s: float) -> None:
    """Speaks in all places but one, in which the greedy one speaks; prints latencies by phase as JSON."""
    dice = random.Random(places)
    seconds = SETTLE_S + phase_s * (len(PHASES) - 1)
    greedy_s = begin_of("greedy", phase_s)
    async with asyncio.TaskGroup() as tasks:
        speakers = [
            tasks.create_task(
                speak(f"{url}{n}", begin + dice.uniform(0, 1 / 15), dice.uniform(0, 4), seconds)
            )
            for n in range(places - 1)
        ]
        greedy = tasks.create_task(speak_greedily(f"{url}greedy", begin, greedy_s, phase_s))
    heard = [speaker.result() for speaker in speakers]
    found: dict[str, Any] = {phase: [] for phase in PHASES}
    for one in heard:
        for number, late in zip(one.frame, one.latency_s, strict=True):
            found[phase_at(number / FPS, phase_s)].append(1000 * late)
    whole = all(one.is_whole for one in heard)
    json.dump({"latency_ms": found, "whole": whole, "greedy_audio_s": greedy.result()}, sys.stdout)


async def speak_greedily(url: str, begin: float, quiet_s: float, greedy_s: float) -> float:
    """Speaks in real time, then as fast as it is read; returns how many seconds of audio went then."""
    pcm, rate = sample(0, 10.0)
    hello = wire.Hello(1, "converse", audio=wire.AudioFormat("s16", rate, 1))
    chunk, sent_s = int(CHUNK_S * rate), 0.0

    def message(index: int) -> bytes:
        start = index * chunk % (len(pcm) - chunk)
        return wire.encode_audio(pcm[start : start + chunk], "s16")

    async with opened(url, hello) as (socket, _), asyncio.TaskGroup() as tasks:

        async def read() -> None:
            with contextlib.suppress(ConnectionClosed):
                async for _ in socket:
                    pass

        reading = tasks.create_task(read())
        for index in range(int(quiet_s / CHUNK_S)):
            await asyncio.sleep(begin + (index + 1) * CHUNK_S - time.monotonic())
            await socket.send(message(index))
        while time.monotonic() < begin + quiet_s + greedy_s:
            await socket.send(message(0))
            sent_s += CHUNK_S
        await socket.close()
        reading.cancel()
    return sent_s


def begin_of(phase: str, phase_s: float) -> float:
    """When a phase begins, seconds after the speakers."""
    place = PHASES.index(phase)
    return 0.0 if place == 0 else SETTLE_S + (place - 1) * phase_s


def phase_at(at_s: float, phase_s: float) -> str:
    """The phase of an instant."""
    place = 0 if at_s < SETTLE_S else 1 + int((at_s - SETTLE_S) / phase_s)
    return PHASES[min(place, len(PHASES) - 1)]


# ---- the others' process ---------------------------------------------------------------------------------


async def disturb(url: str, kind: str, clients: int, begin: float, seconds: float) -> None:
    """Knocks or reconnects for a while; prints the answers' codes and their count as JSON."""
    os.nice(10)
    await asyncio.sleep(begin - time.monotonic())
    answers: Counter[str] = Counter()
    waits: list[float] = []

    async def come_back(number: int) -> None:
        dice = random.Random(number)
        address = f"127.0.{1 + number // 250}.{1 + number % 250}"  # each its own, as strangers have
        await asyncio.sleep(dice.random() if kind == "knock" else 0)
        while time.monotonic() < begin + seconds:
            started = time.monotonic()
            answers[await answer_of(f"{url}{kind}-{number}", address)] += 1
            waits.append(1000 * (time.monotonic() - started))
            if kind == "knock":
                await asyncio.sleep(0.75 + 0.5 * dice.random())

    await asyncio.gather(*(come_back(number) for number in range(clients)))
    json.dump({"answers": answers, "answer_ms": percentiles(waits)}, sys.stdout)


async def answer_of(url: str, address: str) -> str:
    """How a would-be speaker is answered: ``welcome``, or an error's code."""
    hello = wire.Hello(1, "publish", audio=wire.AudioFormat("s16", 16_000, 1))
    try:
        async with connect(
            url, subprotocols=[Subprotocol(wire.SUBPROTOCOL)], compression=None, local_addr=(address, 0)
        ) as socket:
            await socket.send(wire.encode_message(hello))
            answer = wire.decode_server_message(await socket.recv())
            return answer.code if isinstance(answer, wire.ErrorMessage) else "welcome"
    except InvalidStatus as error:
        return f"HTTP {error.response.status_code}"
    except (OSError, ConnectionClosed) as error:
        return type(error).__name__


# ---- the benchmark ---------------------------------------------------------------------------------------


async def measure(phase_s: float, serve: list[str]) -> dict[str, Any]:
    """All phases in one run of one server."""
    async with serving(["--connects-per-minute", "600", *serve], "warning") as server:
        places = server.places
        begin = time.monotonic() + 3 + 0.02 * places
        common = ("benchmarks.overload", "--as")

        async def others(kind: str, clients: int) -> dict[str, Any]:
            at = str(begin + begin_of(kind, phase_s))
            words = ("disturb", server.url, kind, str(clients), at, str(phase_s))
            found: dict[str, Any] = json.loads(await generator(*common, *words))
            return {"clients": clients, **found}

        async with asyncio.TaskGroup() as tasks:
            words = ("generate", server.url, str(places), str(begin), str(phase_s))
            speaking = tasks.create_task(generator(*common, *words))
            knocking = tasks.create_task(others("knock", KNOCKERS * places))
            returning = tasks.create_task(others("reconnect", 1))
    found = json.loads(speaking.result())
    rows = [{"phase": phase, **_figures(found["latency_ms"][phase])} for phase in PHASES[1:]]
    return {
        "places": places,
        "rows": rows,
        "ratios": {phase: _ratio(found["latency_ms"], phase) for phase in DISTURBED},
        "every_frame_came": found["whole"],
        "knock": knocking.result(),
        "reconnect": returning.result(),
        "greedy": {
            "audio_s": round(found["greedy_audio_s"], 1),
            "times_real_time": round(found["greedy_audio_s"] / phase_s, 1),
        },
    }


def _figures(latency_ms: list[float]) -> dict[str, Any]:
    return {
        **{f"{name}_ms": value for name, value in percentiles(latency_ms).items()},
        "frames": len(latency_ms),
    }


def _ratio(latency_ms: dict[str, list[float]], phase: str) -> float:
    """The phase's p99 over that of the two quiet phases beside it."""
    place = PHASES.index(phase)
    beside = latency_ms[PHASES[place - 1]] + latency_ms[PHASES[place + 1]]
    return round(percentiles(latency_ms[phase])["p99"] / percentiles(beside)["p99"], 3)


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if argv[:2] == ["--as", "generate"]:
        uvloop.run(generate(argv[2], int(argv[3]), float(argv[4]), float(argv[5])))
        return 0
    if argv[:2] == ["--as", "disturb"]:
        uvloop.run(disturb(argv[2], argv[3], int(argv[4]), float(argv[5]), float(argv[6])))
        return 0
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.overload",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--phase-seconds", type=float, default=12, help="of each phase (%(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--serve", default="", metavar="WORDS", help="more options of `diffspeaker serve`")
    options = parser.parse_args(argv)
    result = asyncio.run(measure(options.phase_seconds, options.serve.split()))
    print(f"{result['places']} places, all taken")
    for row in result["rows"]:
        times = "  ".join(f"{name} {row[f'{name}_ms']:6.1f}" for name in ("p50", "p95", "p99"))
        print(f"{row['phase']:10} {times} ms")
    for phase, ratio in result["ratios"].items():
        print(f"{phase:10} p99 over quiet {ratio:5.2f}  aim ≤ {AIM}: {'yes' if ratio <= AIM else 'no'}")
    print(f"knocks {result['knock']['answers']}, reconnects {result['reconnect']['answers']}")
    lost = "" if result["every_frame_came"] else "FRAMES LOST, "
    print(f"{lost}greedy at {result['greedy']['times_real_time']} × real time")
    config = {"phase_seconds": options.phase_seconds, "knockers": KNOCKERS, "serve": options.serve}
    write(options.json, {**result, "config": config, **provenance()})
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
