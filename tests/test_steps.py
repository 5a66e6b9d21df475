"""The table of steps: its PyTorch backend answers as the engine does, its right answer is the lesson."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from benchmarks.steps import TorchBackend, lesson, load
from export.weights import main as unpack
from model.diffusion import SCHEDULES, few_steps
from model.shape import CHANNELS
from streamer.core.options import SessionOptions
from streamer.core.session import Session
from streamer.engine.backend import OnnxBackend
from streamer.engine.bundle import Bundle


def test_pytorch_and_the_engine_answer_a_live_window_alike(tmp_path: Path) -> None:
    bundle = Bundle.load()
    weights = tmp_path / "student.safetensors"
    assert unpack([str(bundle.folder), "--out", str(weights)]) == 0
    session = Session(
        bundle.manifest, SessionOptions.choose(bundle.manifest, style={"cheerful": 1, "jaw": 1.3})
    )
    session.feed(0.1 * np.random.default_rng(0).standard_normal(32_000).astype(np.float32))
    steps = SCHEDULES[bundle.manifest.model.denoise_steps]
    net = load(weights)
    torch_backend = TorchBackend(net, lambda denoise, x: few_steps(denoise, net.quieted(x), steps))
    engine = OnnxBackend(bundle, variant="fp32")
    for _ in range(3):  # the later windows have a prefix
        request = session.next_request()
        assert request is not None
        expected, got = engine.infer([request]), torch_backend.infer([request])
        np.testing.assert_allclose(got, expected, atol=1e-4)
        session.complete(request, expected[0])
    assert expected.std() > 0.01


def test_the_right_answer_blinks_where_the_sessions_noise_says() -> None:
    silence = {"phones": [["SIL", 0.0, 20.0]]}
    audio = np.zeros(320_000, np.float32)
    one, again, other = (lesson(silence, audio, 600, seed) for seed in (0, 0, 1))
    lid = CHANNELS.index("eyeBlinkLeft")
    np.testing.assert_array_equal(one, again)
    assert (one[:, lid] > 0.9).any() and (other[:, lid] > 0.9).any()
    assert not np.array_equal(one[:, lid], other[:, lid])
    assert torch.from_numpy(one).min() >= 0
