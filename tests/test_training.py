"""Training, resuming, Whisper's file and the export, on small networks and made-up data."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.utils.tensorboard import SummaryWriter

from export.graph import Fused, example_inputs
from model.diffusion import SCHEDULES, STEPS, few_steps
from model.draws import draw_prefix, draw_steps
from model.network import DiffSpeaker, Ear
from model.shape import CHANNELS, GRID, PREFIX_FRAMES, TOKEN_SAMPLES, EarShape, Shape
from model.speech import PHONES, Batch
from model.train import Options, PhoneEar, train_ear, train_student, train_teacher
from model.trainer import Stage, Trainer
from model.whisper import load_whisper, read_ctranslate2

SMALL = Shape(ear=EarShape(width=48, heads=3, feed_forward=64, layers=1), width=32, feed_forward=48, layers=2)


class LoudnessLessons:
    """A world simple enough to be learnt in seconds: the jaw opens with the loudness of the window, and loud
    windows are all AA."""

    def seed(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self, count: int) -> Batch:
        level = torch.rand(count, 1, generator=self.generator)
        audio = level * torch.randn(count, GRID.window_samples, generator=self.generator).clamp(-1, 1)
        motion = torch.zeros(count, GRID.segment_frames, len(CHANNELS))
        motion[..., CHANNELS.index("jawOpen")] = level
        noise = torch.randn(motion.shape, generator=self.generator)
        phones = (PHONES.index("AA") * (level > 0.5)).long().repeat(1, GRID.window_samples // TOKEN_SAMPLES)
        style = torch.eye(1, Shape().styles).repeat(count, 1)
        contacts = torch.stack([level < 0.3, torch.zeros_like(level) > 0], -1).float()
        return Batch(audio, motion, noise, style, phones, contacts.repeat(1, GRID.segment_frames, 1))


def options(out: Path, steps: int) -> Options:
    """A run that its steps end, not its minutes."""
    rates = {"ear_rate": 3e-3, "teacher_rate": 3e-3, "student_rate": 1e-3}
    return Options(corpus=Path(), out=out, budget_minutes=1e6, batch=12, threads=1, max_steps=steps, **rates)


def small_net() -> DiffSpeaker:
    torch.manual_seed(0)
    net = DiffSpeaker(SMALL)
    net.std.fill_(0.3)
    return net


def test_the_ear_then_the_teacher_learn_and_the_student_reaches_it_in_few_steps(tmp_path: Path) -> None:
    lessons = LoudnessLessons()
    lessons.seed(0)
    with SummaryWriter(str(tmp_path)) as log:
        listener = train_ear(PhoneEar(small_net().ear), lessons, options(tmp_path, 60), log)
        net = small_net()
        net.ear = listener.ear
        teacher = train_teacher(net, listener.head, lessons, options(tmp_path, 150), log)
        student = train_student(teacher, lessons, options(tmp_path, 40), log)
    lessons.seed(99)
    batch = lessons.draw(64)
    with torch.no_grad():
        named = listener(batch.audio).argmax(-1)
    assert (named == batch.phones).float().mean() > 0.8
    jaw = CHANNELS.index("jawOpen")
    with torch.no_grad():
        heard = student.listen(batch.audio)
        nothing = torch.zeros_like(batch.motion)

        def denoise(x: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
            return student.denoiser(x, heard, batch.style, step, nothing, nothing[..., 0])

        answers = [
            student.denormalise(few_steps(denoise, student.quieted(batch.noise), steps))[..., jaw].mean(1)
            for steps in SCHEDULES.values()
        ]
    for answer in answers:
        assert torch.corrcoef(torch.stack([answer, batch.motion[:, 0, jaw]]))[0, 1] > 0.8
    assert set(load_file(tmp_path / "student.safetensors")) == set(student.state_dict())


def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path) -> None:
    lessons = LoudnessLessons()

    def stage(steps: int) -> Trainer[DiffSpeaker]:
        net = small_net()
        trainer = Trainer(net, Stage("stage", 1e6, 1e-3, 12, steps), [([*net.parameters()], 1.0)], seed=0)

        def loss_of(batch: Batch, _: torch.Generator) -> torch.Tensor:
            return net.listen(batch.audio).square().mean()

        with SummaryWriter(str(tmp_path)) as log:
            trainer.run(lessons, loss_of, tmp_path / "net.safetensors", log)
        return trainer

    assert stage(2).step == 2
    again = stage(5)
    assert again.step == 5
    finished = stage(5)
    for one, other in zip(again.net.parameters(), finished.net.parameters(), strict=True):
        assert torch.equal(one, other)


def test_half_of_the_diffusion_steps_are_drawn_where_only_the_sound_tells() -> None:
    steps = draw_steps(2000, torch.Generator().manual_seed(0))
    assert steps.min() >= 0 and steps.max() < STEPS
    assert steps[:1000].float().mean() == pytest.approx(500, abs=50)
    assert steps[1000:].min() >= 700


def test_a_prefix_is_a_few_frames_before_a_hop_or_absent() -> None:
    motion = torch.ones(400, GRID.segment_frames, len(CHANNELS))
    values, mask = draw_prefix(motion, torch.Generator().manual_seed(0))
    assert (values[mask == 0] == 0).all()
    lengths = mask.sum(1)
    assert 0.25 < (lengths == 0).float().mean() < 0.45
    assert lengths.max() == PREFIX_FRAMES
    starts = mask.diff(dim=1, prepend=torch.zeros(400, 1)).clamp(min=0).sum(1)
    assert starts.max() == 1  # in one piece
    assert (mask[:, -1] == 0).all()


# ---- Whisper's file --------------------------------------------------------------------------------------


def ctranslate2_file(arrays: dict[str, np.ndarray]) -> bytes:
    """The format, written from its description."""

    def text(value: str) -> bytes:
        raw = value.encode() + b"\0"
        return struct.pack("<H", len(raw)) + raw

    out = struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<I", 3) + struct.pack("<I", len(arrays))
    for name, values in arrays.items():
        out += text(name) + struct.pack("<B", values.ndim) + struct.pack(f"<{values.ndim}I", *values.shape)
        out += (
            struct.pack("<BI", {np.float32: 0, np.float16: 4}[values.dtype.type], values.nbytes)
            + values.tobytes()
        )
    return out


def test_whispers_weights_land_where_they_belong(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    shape = EarShape(width=12, heads=2, feed_forward=20, layers=1)
    sizes = {
        "conv1/weight": (12, 80, 3),
        "conv1/bias": (12,),
        "conv2/weight": (12, 12, 3),
        "conv2/bias": (12,),
        "position_encodings/encodings": (70, 12),
        "layer_0/self_attention/layer_norm/gamma": (12,),
        "layer_0/self_attention/layer_norm/beta": (12,),
        "layer_0/self_attention/linear_0/weight": (36, 12),
        "layer_0/self_attention/linear_0/bias": (36,),
        "layer_0/self_attention/linear_1/weight": (12, 12),
        "layer_0/self_attention/linear_1/bias": (12,),
        "layer_0/ffn/layer_norm/gamma": (12,),
        "layer_0/ffn/layer_norm/beta": (12,),
        "layer_0/ffn/linear_0/weight": (20, 12),
        "layer_0/ffn/linear_0/bias": (20,),
        "layer_0/ffn/linear_1/weight": (12, 20),
        "layer_0/ffn/linear_1/bias": (12,),
    }
    arrays = {f"encoder/{n}": random.standard_normal(s).astype(np.float16) for n, s in sizes.items()}
    path = tmp_path / "model.bin"
    path.write_bytes(ctranslate2_file(arrays))
    assert all(np.array_equal(values, arrays[name]) for name, values in read_ctranslate2(path).items())
    ear = Ear(shape)
    load_whisper(ear, path)
    state = ear.state_dict()
    assert np.array_equal(
        state["position"].numpy(), arrays["encoder/position_encodings/encodings"][:50].astype(np.float32)
    )
    assert np.array_equal(
        state["layers.0.query_key_value.weight"].numpy(),
        arrays["encoder/layer_0/self_attention/linear_0/weight"].astype(np.float32),
    )


# ---- the export ------------------------------------------------------------------------------------------


def test_the_fused_sampler_is_few_steps(tmp_path: Path) -> None:
    net = small_net().eval()
    torch.nn.init.normal_(net.denoiser.motion_decoder.weight, std=0.3)
    torch.nn.init.normal_(net.contacts.out.weight)
    inputs = example_inputs(3, seed=5)
    with torch.no_grad():
        features = net.ear(inputs["audio"])
        heard = net.project(features)
        prefix = net.normalise(inputs["prefix"])

        def denoise(x: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
            return net.denoiser(x, heard, inputs["style"], step, prefix, inputs["prefix_mask"])

        drawn = few_steps(denoise, net.quieted(inputs["noise"]))
        expected = net.coefficients(drawn, net.contact_logits(features))
        got = Fused(net)(*inputs.values())
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
