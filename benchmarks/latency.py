"""``python -m benchmarks.latency``: how late a frame is, and how well the windows join.

Starts ``diffspeaker serve`` as a process of its own on this machine, speaks to it at real-time pace
through one ``converse`` connection over loopback, and times every frame: from the instant that the frame
shows (its pts on the audio clock, when that sample would leave a microphone) to its arrival at the
client. The parts add up:

- ``lookahead``: the future audio that the model is given, the same for every frame.
- ``hop``: frames are emitted a hop at a time; the oldest of a hop has waited longest.
- ``chunk``: the window's last sample waits until its chunk is full (``--chunk-ms``) and sent.
- ``queue`` and ``compute``: the window's wait for the inference thread, and its denoising (the server's
  log).
- ``server``: what else happens between the chunk's sending and the frames' leaving the crossfader.
- ``socket``: from there to the client.

The seams are measured on the same recording, offline, through the same session, as ``model.measures`` has
them: ``seam_ratio`` (1 is perfect); ``jitter_ratio``, the lips' mean second difference ÷ that of the bundle's
widest window (longest hop and lookahead); ``offline_online_gap``, the LVE in mm² between the default stream
and that widest window; ``offline_motion``, the LVE of a still face against it, for scale.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
from diffspeaker_client import connect
from tqdm import tqdm

from benchmarks.provenance import percentiles, provenance, write
from model import measures
from model.measures import Face, bends_mm, lip_error_mm2
from streamer.contract import wire
from streamer.core.options import SessionOptions
from streamer.engine.backend import OnnxBackend
from streamer.engine.bundle import Bundle
from streamer.engine.offline import animate

F32 = npt.NDArray[np.float32]
SPEECH = Path(__file__).resolve().parents[1] / "clients" / "web" / "sample.wav"
_WINDOW = re.compile(r"window .*first_frame=(\d+) .*queue_ms=([\d.]+) compute_ms=([\d.]+)")
_ADDRESS = re.compile(r"http://([\w.]+):(\d+)")


@dataclass
class Timings:
    """What one live session saw, per frame, in milliseconds."""

    end_to_end: list[float] = field(default_factory=list)
    parts: dict[str, list[float]] = field(default_factory=dict)

    def add(self, total: float, **parts: float) -> None:
        """One frame."""
        self.end_to_end.append(total)
        for name, value in parts.items():
            self.parts.setdefault(name, []).append(value)


async def measure_live(options: argparse.Namespace, bundle: Bundle) -> tuple[Timings, dict[str, Any]]:
    """Speaks for ``--seconds`` and times what comes back."""
    command = [sys.executable, "-m", "streamer.cli.main", "serve", "--port", "0", "--log-level", "debug"]
    if options.bundle:
        command += ["--bundle", str(options.bundle)]
    server = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert server.stdout and server.stderr
    windows: dict[int, tuple[float, float]] = {}

    async def read_log(stream: asyncio.StreamReader) -> None:
        async for line in stream:
            if found := _WINDOW.search(line.decode()):
                windows[int(found[1])] = (float(found[2]), float(found[3]))

    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(read_log(server.stderr))
            host, port = await _address(server.stdout)
            tasks.create_task(read_log(server.stdout))
            url = f"ws://{host}:{port}/v1/streams/latency"
            sent, frames, welcome = await _converse(url, options)
            server.send_signal(signal.SIGINT)
    finally:
        if server.returncode is None:
            server.kill() if server.returncode is None and not frames else None
            await server.wait()
    grid = bundle.manifest.timing.grid()
    lookahead_ms = welcome.lookahead_ms
    timings = Timings()
    for block, received in frames:
        if not windows.get(block.first_frame):
            continue
        queue_ms, compute_ms = windows[block.first_frame]
        newest = block.first_frame + len(block.values) - 1
        # The window ends when its last sample exists; the chunk that holds it is sent at most a chunk later.
        ends_s = sent.start + grid.frame_time_s(newest) + lookahead_ms / 1000
        left_s = sent.left_after(ends_s)
        if left_s is None or block.flags & wire.FLAG_LAST:
            continue
        for frame in range(block.first_frame, newest + 1):
            shows_s = sent.start + grid.frame_time_s(frame)
            server_ms = 1000 * (block.emit_time_s - left_s) - queue_ms - compute_ms
            timings.add(
                1000 * (received - shows_s),
                lookahead=lookahead_ms,
                hop=1000 * grid.frame_time_s(newest - frame),
                chunk=1000 * (left_s - ends_s),
                queue=queue_ms,
                compute=compute_ms,
                server=server_ms,
                socket=1000 * (received - block.emit_time_s),
            )
    config = {
        "lookahead_ms": lookahead_ms,
        "hop_ms": round(welcome.hop_ms, 2),
        "chunk_ms": options.chunk_ms,
        "seconds": options.seconds,
        "face_delay_ms": welcome.face_delay_ms,
        "bundle": welcome.bundle,
    }
    return timings, config


@dataclass
class Sent:
    """When the audio clock began, and when each chunk left."""

    start: float
    chunk_s: float
    left: list[float] = field(default_factory=list)

    def left_after(self, instant_s: float) -> float | None:
        """When the chunk left that holds the sample before ``instant_s``."""
        index = int(np.ceil(round((instant_s - self.start) / self.chunk_s, 6))) - 1
        return self.left[index] if 0 <= index < len(self.left) else None


async def _address(stream: asyncio.StreamReader) -> tuple[str, int]:
    async for line in stream:
        if found := _ADDRESS.search(line.decode()):
            return found[1], int(found[2])
    raise SystemExit("The server did not start; run `diffspeaker serve` to see why.")


async def _converse(
    url: str, options: argparse.Namespace
) -> tuple[Sent, list[tuple[wire.Frames, float]], wire.Welcome]:
    speech, rate = soundfile.read(options.speech, dtype="int16")
    chunk = rate * options.chunk_ms // 1000
    total = int(options.seconds * rate)
    speech = np.tile(speech, total // len(speech) + 1)[:total]
    frames: list[tuple[wire.Frames, float]] = []
    async with connect(url, "converse", audio=wire.AudioFormat("s16", rate, 1)) as face:
        sent = Sent(time.monotonic(), chunk / rate)

        async def speak() -> None:
            for index in tqdm(range(total // chunk), desc="speaking", unit="chunk", disable=None):
                # A microphone hands over a chunk when its last sample exists.
                await asyncio.sleep(sent.start + (index + 1) * sent.chunk_s - time.monotonic())
                sent.left.append(time.monotonic())
                await face.send_audio(speech[index * chunk : (index + 1) * chunk])
            await face.end()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(speak())
            async for event in face:
                if isinstance(event, wire.Frames):
                    frames.append((event, time.monotonic()))
        return sent, frames, face.welcome


def measure_seams(bundle: Bundle, speech: Path) -> dict[str, float]:
    """Seam, jitter and the gap to the widest window, of one recording."""
    pcm, rate = soundfile.read(speech, dtype="float32")
    backend = OnnxBackend(bundle)
    with np.load(bundle.folder / bundle.manifest.rig.file, allow_pickle=False) as rig:
        face = Face(rig)

    def run(hop_ms: float | None, lookahead_ms: float | None) -> tuple[F32, int]:
        chosen = SessionOptions.choose(
            bundle.manifest, sample_rate_hz=rate, hop_ms=hop_ms, lookahead_ms=lookahead_ms
        )
        blocks = animate([pcm], bundle.manifest, backend, chosen)
        return np.concatenate([block.values for block in blocks]), chosen.hop_frames

    timing, grid = bundle.manifest.timing, bundle.manifest.timing.grid()
    live, hop = run(None, None)
    widest, _ = run(grid.hop_ms(timing.hop.max_frames), grid.lookahead_ms(timing.lookahead.max_frames))
    return {
        "seam_ratio": round(measures.seam_ratio(face, [live], hop), 3),
        "jitter_ratio": round(float(bends_mm(face, live).mean() / bends_mm(face, widest).mean()), 3),
        "offline_online_gap": round(lip_error_mm2(face, live, widest), 3),
        "offline_motion": round(lip_error_mm2(face, 0 * widest, widest), 3),
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.latency",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=60, help="how long to speak (%(default)s)")
    parser.add_argument("--chunk-ms", type=int, default=10, help="audio per message (%(default)s)")
    parser.add_argument(
        "--speech", type=Path, default=SPEECH, help="mono recording that is repeated (the sample)"
    )
    parser.add_argument("--bundle", type=Path, help="the bundle (the default one)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args(argv)
    bundle = Bundle.load(options.bundle)
    timings, config = asyncio.run(measure_live(options, bundle))
    if not timings.end_to_end:
        print("No frame was timed: the server's log named no window.", file=sys.stderr)
        return 1
    result: dict[str, Any] = {"end_to_end_ms": percentiles(timings.end_to_end)}
    result |= {f"{name}_ms": percentiles(values) for name, values in timings.parts.items()}
    result["frames"] = len(timings.end_to_end)
    seams = measure_seams(bundle, options.speech)
    print(f"{'part':16}{'p50':>9}{'p95':>9}{'p99':>9}   ms over {result['frames']} frames")
    for name, row in result.items():
        if isinstance(row, dict):
            print(f"{name.removesuffix('_ms'):16}" + "".join(f"{value:9.1f}" for value in row.values()))
    for name, value in seams.items():
        print(f"{name:20} {value}")
    write(options.json, {**result, **seams, "config": config, **provenance()})
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
