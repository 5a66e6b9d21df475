"""The bundle that ships, over a real socket: its sample makes the jaw move, exactly as offline."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import soundfile
from diffspeaker_client import AudioFormat, OutputFormat, connect

from streamer.core.options import SessionOptions
from streamer.engine import offline
from streamer.engine.backend import OnnxBackend
from streamer.engine.bundle import Bundle
from streamer.engine.inference_thread import InferenceThread
from streamer.server.app import serving
from streamer.server.loop import loop_factory
from streamer.server.settings import Settings
from tests.serving import everything, motion

SAMPLE = Path(__file__).resolve().parents[1] / "clients" / "web" / "sample.wav"
SECONDS = 3


def test_the_sample_moves_the_jaw_live_as_offline() -> None:
    pcm, rate_hz = soundfile.read(SAMPLE, dtype="float32", always_2d=True)
    speech = pcm[: SECONDS * rate_hz, 0]
    bundle = Bundle.load()
    manifest = bundle.manifest
    backend = OnnxBackend(bundle)

    async def scenario() -> None:
        with InferenceThread(backend, max_batch=1) as thread:
            async with (
                asyncio.timeout(120),
                serving(Settings(port=0), bundle, thread) as address,
                connect(
                    address.stream("sample"),
                    "converse",
                    audio=AudioFormat("f32", rate_hz, 1),
                    output=OutputFormat("vertices", "f32"),
                ) as face,
                connect(address.stream("sample")) as watcher,
                asyncio.TaskGroup() as tasks,
            ):
                moving = tasks.create_task(everything(face))
                watching = tasks.create_task(everything(watcher))
                for start in range(0, len(speech), rate_hz // 10):
                    await face.send_audio(speech[start : start + rate_hz // 10])
                await face.end()
                frames, vertices = motion(await watching), motion(await moving)
        options = SessionOptions.choose(manifest, sample_rate_hz=rate_hz)
        expected = np.concatenate(
            [block.values for block in offline.animate([speech], manifest, backend, options)]
        )
        np.testing.assert_allclose(frames, expected, atol=1e-5)
        np.testing.assert_allclose(vertices, bundle.vertices(frames).reshape(len(frames), -1), atol=1e-5)
        jaw = frames[:, manifest.motion.channels.index("jawOpen")]
        assert jaw.max() - jaw.min() > 0.1
        assert len(frames) == manifest.timing.grid().frames_within(
            -(-len(speech) * manifest.timing.sample_rate_hz // rate_hz)
        )

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(scenario())
