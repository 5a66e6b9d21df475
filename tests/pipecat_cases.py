"""What ``tests/test_pipecat.py`` runs where pipecat is installed: each case against a real server, with
pipecat's own test utilities. Prints one JSON object; exits with 1 where a case fails.
"""

from __future__ import annotations

import asyncio
import json
import sys

import numpy as np
from diffspeaker_pipecat import FaceFrame, FaceProcessor
from pipecat.frames.frames import (
    ErrorFrame,
    InterruptionFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.tests.utils import SleepFrame, run_test

RATE = 24_000


def speech(seconds: float) -> list[TTSAudioRawFrame]:
    """A burst of a loud tone, as a text-to-speech service hands it over."""
    tone = (12_000 * np.sin(np.arange(int(seconds * RATE)) * 0.05)).astype(np.int16)
    parts = np.array_split(tone, max(1, int(seconds / 0.1)))
    return [TTSAudioRawFrame(audio=p.tobytes(), sample_rate=RATE, num_channels=1) for p in parts]


def faces(frames: list[object]) -> list[FaceFrame]:
    return [frame for frame in frames if isinstance(frame, FaceFrame)]


async def whole(url: str) -> dict[str, object]:
    """Everything said is shown, in order, and everything that came in passed through."""
    audio = speech(1.0)
    sent = [TTSStartedFrame(), *audio, TTSStoppedFrame()]
    down, _ = await run_test(FaceProcessor(url), frames_to_send=sent)
    shown = faces(list(down))
    starts = [round(f.pts_s * f.fps) for f in shown]
    counts = [len(f.values) for f in shown]
    return {
        "passed": sum(isinstance(f, TTSAudioRawFrame) for f in down) == len(audio),
        "contiguous": starts == [sum(counts[:n]) for n in range(len(counts))],
        "frames": sum(counts),
        "channels": len(shown[0].channels),
        "opened": float(max(f.values.max() for f in shown)) > 0.05,
    }


async def interrupted(url: str) -> dict[str, object]:
    """Of ten seconds in a burst, little is shown, then the mouth is at rest; the next word comes."""
    sent = [TTSStartedFrame(), *speech(10.0), SleepFrame(0.6), InterruptionFrame(), SleepFrame(0.3)]
    sent += [TTSStartedFrame(), *speech(0.4), TTSStoppedFrame()]
    down, _ = await run_test(FaceProcessor(url), frames_to_send=sent)
    before = [f for f in faces(list(down)) if f.epoch == 0]
    after = [f for f in faces(list(down)) if f.epoch == 1]
    return {
        "frames_before": sum(len(f.values) for f in before),
        "rests": bool((before[-1].values[-1] == 0).all()),
        "frames_after": sum(len(f.values) for f in after),
    }


async def away(url: str) -> dict[str, object]:
    """Without a server the bot speaks on, and is told once for each utterance."""
    sent = [TTSStartedFrame(), *speech(0.5), TTSStartedFrame(), *speech(0.5)]
    down, up = await run_test(FaceProcessor(url), frames_to_send=sent)
    return {
        "audio": sum(isinstance(f, TTSAudioRawFrame) for f in down),
        "errors": sum(isinstance(f, ErrorFrame) for f in up),
    }


async def main(url: str) -> None:
    nowhere = "ws://127.0.0.1:1/v1/streams/bot"
    found = {
        "whole": await whole(url + "whole"),
        "interrupted": await interrupted(url + "interrupted"),
        "away": await away(nowhere),
    }
    print("\n" + json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
