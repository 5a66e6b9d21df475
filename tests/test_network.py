"""The network's parts against their definitions, written out a second way."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from model.diffusion import ALPHA_BAR, add_noise, ddim, few_steps, spaced_steps
from model.network import (
    DiffSpeaker,
    LogMel,
    frame_interpolation,
    mel_filters,
    periodic_encoding,
    self_attention_bias,
    split_heads,
)
from model.shape import CHANNELS, DECIDING_NOISE, GRID, TOKEN_SAMPLES, EarShape, Shape

SMALL = Shape(ear=EarShape(width=48, heads=3, feed_forward=64, layers=1), width=32, feed_forward=48, layers=2)


@pytest.fixture(scope="module")
def net() -> DiffSpeaker:
    torch.manual_seed(0)
    net = DiffSpeaker(SMALL).eval()
    torch.nn.init.normal_(net.denoiser.motion_decoder.weight, std=0.1)
    return net


def denoise(net: DiffSpeaker, **changes: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    inputs = {
        "noisy": torch.randn(2, 24, 52, generator=generator),
        "audio": torch.randn(2, 24, 32, generator=generator),
        "style": torch.eye(Shape().styles)[:2],
        "step": torch.tensor([10, 900]),
        "prefix": torch.randn(2, 24, 52, generator=generator),
        "prefix_mask": torch.zeros(2, 24),
    } | changes
    with torch.no_grad():
        return net.denoiser(**inputs)


def test_a_warped_spectrum_is_a_longer_vocal_tracts_and_its_time_stays() -> None:
    t = torch.arange(16_000) / 16_000
    pulse = torch.exp(-(((t - 0.5) / 0.05) ** 2))
    tone = (pulse * torch.sin(2 * torch.pi * 1000 * t))[None]
    longer = (pulse * torch.sin(2 * torch.pi * 800 * t))[None]
    mel = LogMel(80)
    same, warped = mel(tone, torch.ones(1)), mel(tone, torch.tensor([1.25]))
    torch.testing.assert_close(same, mel(tone))
    loudest = warped[0].amax(1).argmax()
    assert abs(int(loudest) - int(mel(longer)[0].amax(1).argmax())) <= 1
    assert warped[0].amax(0).argmax() == same[0].amax(0).argmax()


def test_the_spectrogram_is_whispers_log_mel_of_each_160_samples() -> None:
    audio = np.random.default_rng(0).standard_normal(16_000).astype(np.float32) * 0.1
    framed = np.lib.stride_tricks.sliding_window_view(np.pad(audio, 200, mode="reflect"), 400)[::160][:100]
    power = np.abs(np.fft.rfft(framed * np.hanning(401)[:-1])) ** 2
    log = np.log10(np.maximum(power @ mel_filters().numpy(), 1e-10))
    expected = (np.maximum(log, max(log.max(), 0.5) - 8) + 4) / 4
    got = LogMel(80)(torch.from_numpy(audio)[None])[0].numpy()
    assert got.shape == (80, 100)
    np.testing.assert_allclose(got, expected.T, atol=2e-4)


def test_every_mel_filter_has_unit_area_and_they_rise_in_frequency() -> None:
    filters = mel_filters().double()
    centres = (filters * torch.arange(201)[:, None]).sum(0) / filters.sum(0)
    assert (centres.diff() > 0).all()
    # The widest filters are sampled densely enough for their area, in hertz, to be close to one.
    assert torch.allclose(filters[:, 60:].sum(0) * 40, torch.ones(20, dtype=torch.float64), atol=0.05)


def test_digital_silence_is_a_constant_and_finite_spectrogram() -> None:
    silence = LogMel(80)(torch.zeros(1, 16_000))
    assert torch.isfinite(silence).all()
    assert silence.min() == silence.max()


def test_a_frame_mixes_the_two_ear_tokens_around_its_instant() -> None:
    weights = frame_interpolation(GRID, 50)
    assert torch.allclose(weights.sum(1), torch.ones(24))
    place = weights.double() @ torch.arange(50, dtype=torch.float64) * TOKEN_SAMPLES
    newest = GRID.window_samples - GRID.tail_samples
    expected = newest - torch.arange(23, -1, -1) * 16_000 / 30
    # The newest frame stands past the last token's instant, so it takes that token.
    assert torch.allclose(place, expected.clamp(max=49 * 320).double(), atol=1e-2)


def test_the_bias_counts_whole_periods_and_leaves_the_tokens_alone() -> None:
    bias = self_attention_bias(frames=65, heads=4, period=30)
    assert bias.shape == (4, 65, 67)
    assert (bias[:, :, :2] == 0).all()
    for head, slope in enumerate((2**-2, 2**-4, 2**-6, 2**-8)):
        assert bias[head, 64, 2 + 64] == 0  # itself
        assert bias[head, 64, 2 + 34] == -slope  # one period back
        assert bias[head, 64, 2 + 35] == 0
        assert bias[head, 64, 2 + 0] == -2 * slope
        assert bias[head, 0, 2 + 30] == 0  # ahead, a period is counted from the next frame on
        assert bias[head, 0, 2 + 31] == -slope


def test_the_encoding_repeats_after_one_period_and_interleaves_sine_and_cosine() -> None:
    encoding = periodic_encoding(64, 32, 30)
    assert torch.equal(encoding[:30], encoding[30:60])
    assert math.isclose(float(encoding[7, 0]), math.sin(7), abs_tol=1e-6)
    assert math.isclose(float(encoding[7, 1]), math.cos(7), abs_tol=1e-6)


def test_cross_attention_is_full_attention_under_the_papers_mask(net: DiffSpeaker) -> None:
    layer = net.denoiser.layers[0]
    generator = torch.Generator().manual_seed(2)
    x, audio = (torch.randn(2, 24, 32, generator=generator) for _ in range(2))
    tokens = torch.randn(2, 2, 32, generator=generator)
    with torch.no_grad():
        query = split_heads(layer.cross_query(layer.norm2(x)), layer.heads)
        key, value = layer.cross_key_value(torch.cat([tokens, audio], dim=1)).chunk(2, dim=-1)
        allowed = torch.cat([torch.ones(24, 2, dtype=torch.bool), torch.eye(24, dtype=torch.bool)], dim=1)
        seen = F.scaled_dot_product_attention(
            query, split_heads(key, layer.heads), split_heads(value, layer.heads), attn_mask=allowed
        )
        y = x + layer.cross_out(seen.transpose(1, 2).flatten(2))
        expected = y + layer.feed_forward(layer.norm3(y))
        assert torch.allclose(layer._cross(x, tokens, audio), expected, atol=1e-5)


def test_a_masked_prefix_has_no_influence_and_a_given_one_has(net: DiffSpeaker) -> None:
    other = torch.ones(2, 24, 52)
    assert torch.equal(denoise(net), denoise(net, prefix=other))
    given = torch.zeros(2, 24)
    given[:, 16:20] = 1
    assert not torch.equal(denoise(net, prefix_mask=given), denoise(net, prefix_mask=given, prefix=other))


def test_style_step_and_audio_each_reach_every_frame(net: DiffSpeaker) -> None:
    base = denoise(net)
    for change in (
        {"style": torch.eye(Shape().styles)[3:5]},
        {"step": torch.tensor([500, 500])},
        {"audio": torch.zeros(2, 24, 32)},
    ):
        assert ((denoise(net, **change) - base).abs().amax(-1) > 0).all()


def test_normalising_and_back_is_the_identity(net: DiffSpeaker) -> None:
    net.mean.uniform_(0, 0.5)
    net.std.uniform_(0.1, 1)
    motion = torch.rand(2, 24, 52)
    assert torch.allclose(net.denormalise(net.normalise(motion)), motion, atol=1e-6)


# ---- the diffusion ---------------------------------------------------------------------------------------


def test_the_schedule_is_scaled_linear_and_ends_in_almost_pure_noise() -> None:
    assert len(ALPHA_BAR) == 1000
    assert math.isclose(float(ALPHA_BAR[0]), 1 - 0.00085, rel_tol=1e-6)
    assert (ALPHA_BAR.diff() < 0).all()
    assert ALPHA_BAR[-1] < 0.005


def test_noising_keeps_unit_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    clean, noise = (torch.randn(64, 100, 52, generator=generator) for _ in range(2))
    for step in (0, 300, 999):
        noisy = add_noise(clean, noise, torch.full((64,), step))
        assert abs(float(noisy.var()) - 1) < 0.01


def test_ddim_with_a_perfect_denoiser_returns_the_clean_motion() -> None:
    clean = torch.randn(2, 24, 52)
    assert torch.equal(ddim(lambda x, step: clean, torch.randn(2, 24, 52), spaced_steps(7)), clean)


def test_ddim_carries_the_noise_that_its_prediction_implies() -> None:
    """For Gaussian data N(0, s²) the perfect denoiser is linear and the ODE's answer is s·ε."""
    spread = 0.5

    def denoise_gaussian(x: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        level = ALPHA_BAR[step][:, None, None]
        return x * level.sqrt() * spread**2 / (level * spread**2 + 1 - level)

    noise = torch.randn(4, 24, 52)
    answer = ddim(denoise_gaussian, noise, spaced_steps(500))
    assert torch.allclose(answer, spread * noise, atol=0.05)


def test_noise_is_kept_where_it_decides_something_and_nowhere_else() -> None:
    kept = DiffSpeaker(SMALL).quieted(torch.ones(2, GRID.segment_frames, len(CHANNELS)))
    wanted = torch.tensor([float(name in DECIDING_NOISE) for name in CHANNELS])
    assert torch.equal(kept, wanted.expand_as(kept))
    assert len(DECIDING_NOISE) == wanted.sum()


def test_few_steps_renoises_with_the_same_noise() -> None:
    seen = []

    def record(x: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        return torch.zeros_like(x)

    noise = torch.randn(2, 24, 52)
    few_steps(record, noise, (999, 400))
    assert torch.equal(seen[0], noise)
    assert torch.allclose(seen[1], (1 - ALPHA_BAR[400]).sqrt() * noise)
