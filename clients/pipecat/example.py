"""``python clients/pipecat/example.py``: a pipecat bot whose voice is a recording, with a face.

A recording stands in for a text-to-speech service, and comes as fast as one: all of it at once. Start
``diffspeaker serve`` first and open ``http://127.0.0.1:8600/?watch=bot`` to see the face; this program prints
how wide the mouth is, and interrupts itself where ``--interrupt-s`` says.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import wave
from pathlib import Path

from diffspeaker_pipecat import FaceFrame, FaceProcessor
from pipecat.frames.frames import (
    EndFrame,
    ErrorFrame,
    Frame,
    InterruptionFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner

SPEECH = Path(__file__).resolve().parents[1] / "web" / "sample.wav"
_CHUNK_S = 0.1


class Mouth(FrameProcessor):
    """Stands where a transport or an avatar would: prints the mouth."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Prints the frames of the face, and passes everything on."""
        await super().process_frame(frame, direction)
        if isinstance(frame, FaceFrame):
            jaw = frame.channels.index("jawOpen")
            for number, values in enumerate(frame.values):
                print(
                    f"{frame.epoch} {frame.pts_s + number / frame.fps:6.2f} s  {'#' * int(60 * values[jaw])}"
                )
        elif isinstance(frame, ErrorFrame):
            print(frame.error, file=sys.stderr)
        await self.push_frame(frame, direction)


def chunks(path: Path) -> list[TTSAudioRawFrame]:
    """A 16-bit recording as a text-to-speech service hands it over."""
    with wave.open(str(path)) as recording:
        rate, channels = recording.getframerate(), recording.getnchannels()
        count = int(_CHUNK_S * rate)
        parts = iter(lambda: recording.readframes(count), b"")
        return [TTSAudioRawFrame(audio=part, sample_rate=rate, num_channels=channels) for part in parts]


async def run(options: argparse.Namespace) -> None:
    """Speaks once."""
    worker = PipelineWorker(Pipeline([FaceProcessor(options.url), Mouth()]))

    async def speak() -> None:
        for frame in [TTSStartedFrame(), *chunks(options.speech), TTSStoppedFrame()]:
            await worker.queue_frame(frame)
        if options.interrupt_s is not None:
            await asyncio.sleep(options.interrupt_s)
            await worker.queue_frame(InterruptionFrame())
            await asyncio.sleep(0.5)
        await worker.queue_frame(EndFrame())

    @worker.event_handler("on_pipeline_started")
    async def on_started(*_: object) -> None:
        task = asyncio.get_running_loop().create_task(speak())
        task.add_done_callback(lambda done: done.result())

    runner = WorkerRunner()
    await runner.add_workers(worker)
    await runner.run()


def main() -> None:
    """Runs the example."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--url", default="ws://127.0.0.1:8600/v1/streams/bot", help="the stream (%(default)s)"
    )
    parser.add_argument("--speech", type=Path, default=SPEECH, help="a 16-bit WAV file (the page's sample)")
    parser.add_argument("--interrupt-s", type=float, help="interrupt the bot after so many seconds")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
