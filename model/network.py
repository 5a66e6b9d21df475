"""DiffSpeaker (arXiv 2402.05712) in its final shape for the default face.

Audio goes through an ear (log-mel spectrogram, the lower layers of Whisper's encoder) once per window; the
denoiser predicts the clean motion x0 from noisy motion, the ear's features, a style and the diffusion step.
Its attention is the paper's: condition tokens [style, step] are prepended to keys and values only, frame
queries are biased by how many periods lie between frames, and in cross-attention frame i sees exactly the two
tokens and its own audio. Three things are ours: the motion is normalised per channel, a clean motion prefix
(frames already emitted) may be given beside the noisy motion, and the lips are closed as far as the ear alone
hears a contact (``model.contacts``).

Everything is plain matrix arithmetic, so the same modules train, run and export to ONNX. Shapes: B windows,
T frames, C channels, S styles, L ear tokens, d width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.contacts import Contacts, meet
from model.shape import CHANNELS, DECIDING_NOISE, GRID, TOKEN_SAMPLES, EarShape, Shape
from streamer.contract.grid import Grid

MEL_HOP, MEL_WINDOW = 160, 400


def mel_filters(bins: int = 80, sample_rate_hz: int = 16_000, fft: int = MEL_WINDOW) -> Tensor:
    """Triangular filters on Slaney's mel scale of equal area, as Whisper uses: (fft/2 + 1, bins)."""

    def to_hz(mel: Tensor) -> Tensor:
        return torch.where(mel < 15, mel * 200 / 3, 1000 * torch.exp(math.log(6.4) / 27 * (mel - 15)))

    top_mel = 15 + math.log(sample_rate_hz / 2 / 1000) / (math.log(6.4) / 27)
    edges = to_hz(torch.linspace(0, top_mel, bins + 2, dtype=torch.float64))
    hz = torch.linspace(0, sample_rate_hz / 2, fft // 2 + 1, dtype=torch.float64)[:, None]
    rise = (hz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - hz) / (edges[2:] - edges[1:-1])
    return (torch.minimum(rise, fall).clamp(min=0) * 2 / (edges[2:] - edges[:-2])).float()


class LogMel(nn.Module):
    """Audio float32 (B, N) in [-1, 1] -> Whisper's log-mel features (B, bins, N/160).

    The short-time spectrum is a convolution with a windowed cosine and sine basis, so that it exports as one.
    Whisper clips 8 decades below the loudest bin of its 30 s; a window of one second may be all silence, so
    the loudest bin is never taken as quieter than 10^0.5.

    In training, ``warp`` (B,) stretches each window's spectrum as a vocal tract of another length would, and
    leaves its time alone (Jaitly and Hinton 2013): bin f shows what bin f · warp held.
    """

    def __init__(self, bins: int) -> None:
        super().__init__()
        angle = (
            2
            * math.pi
            / MEL_WINDOW
            * torch.outer(torch.arange(MEL_WINDOW // 2 + 1.0), torch.arange(MEL_WINDOW + 0.0))
        )
        window = torch.hann_window(MEL_WINDOW)
        basis = torch.cat([angle.cos(), angle.sin()]) * window
        self.register_buffer("basis", basis[:, None].float(), persistent=False)
        self.register_buffer("filters", mel_filters(bins), persistent=False)
        self.basis: Tensor
        self.filters: Tensor

    def forward(self, audio: Tensor, warp: Tensor | None = None) -> Tensor:
        """See the class."""
        padded = F.pad(audio[:, None], (MEL_WINDOW // 2, MEL_WINDOW // 2), mode="reflect")
        spectrum = F.conv1d(padded, self.basis, stride=MEL_HOP)[:, :, :-1]
        real, imaginary = spectrum.chunk(2, dim=1)
        power = real.square() + imaginary.square()
        if warp is not None:
            power = stretch(power, warp)
        mel = torch.einsum("bft,fm->bmt", power, self.filters)
        log = mel.clamp(min=1e-10).log10()
        floor = log.amax(dim=(1, 2), keepdim=True).clamp(min=0.5) - 8
        return (torch.maximum(log, floor) + 4) / 4


def stretch(power: Tensor, warp: Tensor) -> Tensor:
    """Spectra (B, F, T) whose bin f is the old bin f · warp, in proportion between bins, 0 beyond the top."""
    top = power.shape[1] - 1
    place = torch.arange(top + 1, device=power.device) * warp[:, None]
    left = place.floor().clamp(max=top - 1).long()
    share = (place - left)[..., None].clamp(max=1)
    within = (place <= top)[..., None]
    low, high = (power.gather(1, (left + k)[..., None].expand_as(power)) for k in (0, 1))
    return (low + share * (high - low)) * within


class EarLayer(nn.Module):
    """One pre-norm transformer layer of Whisper's encoder; parameter names follow our own reader."""

    def __init__(self, shape: EarShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.norm_attention = nn.LayerNorm(shape.width)
        self.query_key_value = nn.Linear(shape.width, 3 * shape.width)
        self.attention_out = nn.Linear(shape.width, shape.width)
        self.norm_feed_forward = nn.LayerNorm(shape.width)
        self.feed_forward_in = nn.Linear(shape.width, shape.feed_forward)
        self.feed_forward_out = nn.Linear(shape.feed_forward, shape.width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, width) -> (B, L, width)."""
        query, key, value = self.query_key_value(self.norm_attention(x)).chunk(3, dim=-1)
        attended = attend(
            split_heads(query, self.heads), split_heads(key, self.heads), split_heads(value, self.heads)
        )
        x = x + self.attention_out(join_heads(attended))
        return x + self.feed_forward_out(F.gelu(self.feed_forward_in(self.norm_feed_forward(x))))


class Ear(nn.Module):
    """Audio (B, window_samples) -> features (B, L, width) at 50 Hz: see ``TOKEN_SAMPLES``."""

    def __init__(self, shape: EarShape, grid: Grid = GRID) -> None:
        super().__init__()
        self.mel = LogMel(shape.mel_bins)
        self.conv1 = nn.Conv1d(shape.mel_bins, shape.width, 3, padding=1)
        self.conv2 = nn.Conv1d(shape.width, shape.width, 3, stride=2, padding=1)
        self.position = nn.Parameter(torch.zeros(grid.window_samples // TOKEN_SAMPLES, shape.width))
        self.layers = nn.ModuleList(EarLayer(shape) for _ in range(shape.layers))

    def forward(self, audio: Tensor, warp: Tensor | None = None) -> Tensor:
        """See the class, and ``LogMel`` for ``warp``."""
        x = F.gelu(self.conv1(self.mel(audio, warp)))
        x = F.gelu(self.conv2(x)).transpose(1, 2) + self.position
        for layer in self.layers:
            x = layer(x)
        return x


def frame_interpolation(grid: Grid, tokens: int) -> Tensor:
    """The linear map from ear tokens to frames, (T, tokens): each row mixes the two tokens around a frame."""
    newest = grid.window_samples - grid.tail_samples
    frames = torch.arange(grid.segment_frames - 1, -1, -1, dtype=torch.float64)
    place = (newest - frames * grid.sample_rate_hz / grid.frame_rate_hz) / TOKEN_SAMPLES
    place = place.clamp(0, tokens - 1)
    left = place.floor().clamp(max=tokens - 2).long()
    right_share = place - left
    weights = torch.zeros(grid.segment_frames, tokens, dtype=torch.float64)
    rows = torch.arange(grid.segment_frames)
    weights[rows, left] = 1 - right_share
    weights[rows, left + 1] += right_share
    return weights.float()


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, T, d) -> (B, heads, T, d/heads)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """(B, heads, T, d/heads) -> (B, T, d)."""
    return x.transpose(1, 2).flatten(2)


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention with an additive bias on the logits."""
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)


def periodic_encoding(frames: int, width: int, period: int) -> Tensor:
    """The paper's PPE: interleaved sines and cosines of ``t mod period``, base 10000; (frames, width)."""
    t = (torch.arange(frames) % period)[:, None].float()
    rate = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000) / width))
    return torch.stack([(t * rate).sin(), (t * rate).cos()], dim=-1).flatten(1)


def self_attention_bias(frames: int, heads: int, period: int) -> Tensor:
    """The paper's bias, (heads, frames, 2 + frames): 0 for the tokens, −m·(distance in periods) for frames.

    Frame j ≤ i lies ⌊(i − j)/p⌋ periods back, frame j > i lies ⌊(j − i − 1)/p⌋ ahead; m = 2^−2, 2^−4, …
    """
    i, j = torch.arange(frames)[:, None], torch.arange(frames)[None]
    periods = torch.where(j <= i, (i - j) // period, (j - i - 1) // period).float()
    slopes = torch.tensor([2.0 ** (-2 * (head + 1)) for head in range(heads)])
    return F.pad(-slopes[:, None, None] * periods, (2, 0))


def step_embedding(step: Tensor, width: int) -> Tensor:
    """(B,) diffusion steps -> (B, width): [cos, sin] with frequencies exp(−ln(1e4)·i/(width/2))."""
    half = width // 2
    rate = torch.exp(torch.arange(half, device=step.device) * (-math.log(10_000) / half))
    angle = step[:, None].float() * rate
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


class DenoiserLayer(nn.Module):
    """Biased conditional self-attention, biased conditional cross-attention, feed-forward; pre-norm."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        d = shape.width
        self.heads = shape.heads
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(d), nn.LayerNorm(d), nn.LayerNorm(d)
        self.self_query, self.self_key_value, self.self_out = (
            nn.Linear(d, d),
            nn.Linear(d, 2 * d),
            nn.Linear(d, d),
        )
        self.cross_query, self.cross_key_value, self.cross_out = (
            nn.Linear(d, d),
            nn.Linear(d, 2 * d),
            nn.Linear(d, d),
        )
        self.feed_forward = nn.Sequential(
            nn.Linear(d, shape.feed_forward), nn.GELU(), nn.Linear(shape.feed_forward, d)
        )

    def forward(self, x: Tensor, tokens: Tensor, audio: Tensor, bias: Tensor) -> Tensor:
        """x (B, T, d), tokens (B, 2, d), audio (B, T, d), bias (heads, T, 2 + T) -> (B, T, d)."""
        normed = self.norm1(x)
        key, value = self.self_key_value(torch.cat([tokens, normed], dim=1)).chunk(2, dim=-1)
        query = split_heads(self.self_query(normed), self.heads)
        x = x + self.self_out(
            join_heads(attend(query, split_heads(key, self.heads), split_heads(value, self.heads), bias))
        )
        return self._cross(x, tokens, audio)

    def _cross(self, x: Tensor, tokens: Tensor, audio: Tensor) -> Tensor:
        # The mask lets frame i see {style, step, audio_i} only, so its softmax has three terms: written out,
        # it costs T·3 products where a masked T × (2 + T) attention would throw most of them away.
        query = self.cross_query(self.norm2(x)).unflatten(-1, (self.heads, -1))
        token_key, token_value = (
            t.unflatten(-1, (self.heads, -1)) for t in self.cross_key_value(tokens).chunk(2, -1)
        )
        audio_key, audio_value = (
            a.unflatten(-1, (self.heads, -1)) for a in self.cross_key_value(audio).chunk(2, -1)
        )
        scale = query.shape[-1] ** -0.5
        token_logit = torch.einsum("bthe,bkhe->bthk", query, token_key)
        audio_logit = (query * audio_key).sum(-1, keepdim=True)
        share = (torch.cat([token_logit, audio_logit], dim=-1) * scale).softmax(dim=-1)
        seen = torch.einsum("bthk,bkhe->bthe", share[..., :2], token_value) + share[..., 2:] * audio_value
        x = x + self.cross_out(seen.flatten(2))
        return x + self.feed_forward(self.norm3(x))


class Denoiser(nn.Module):
    """Noisy motion, features, style, step, prefix -> clean motion, all normalised to unit variance."""

    def __init__(self, shape: Shape, grid: Grid = GRID) -> None:
        super().__init__()
        d, frames = shape.width, grid.segment_frames
        self.shape = shape
        # [noisy motion, prefix, prefix mask] -> d: the paper's vertice_map with the prefix beside it.
        self.motion_map = nn.Linear(2 * shape.channels + 1, d)
        self.style_embedding = nn.Linear(shape.styles, d * shape.layers, bias=False)
        self.step_mlp = nn.Sequential(nn.Linear(d, d), nn.SiLU(), nn.Linear(d, d * shape.layers))
        self.layers = nn.ModuleList(DenoiserLayer(shape) for _ in range(shape.layers))
        self.motion_decoder = nn.Linear(d, shape.channels)
        nn.init.zeros_(self.motion_decoder.weight)
        nn.init.zeros_(self.motion_decoder.bias)
        self.register_buffer("encoding", periodic_encoding(frames, d, shape.period), persistent=False)
        self.register_buffer("bias", self_attention_bias(frames, shape.heads, shape.period), persistent=False)
        self.encoding: Tensor
        self.bias: Tensor

    def forward(
        self, noisy: Tensor, audio: Tensor, style: Tensor, step: Tensor, prefix: Tensor, prefix_mask: Tensor
    ) -> Tensor:
        """Motion, prefix (B, T, C), audio (B, T, d), style (B, S), step (B,), mask (B, T) -> x0 (B, T, C)."""
        mask = prefix_mask[..., None]
        x = self.motion_map(torch.cat([noisy, prefix * mask, mask], dim=-1)) + self.encoding
        style_tokens = self.style_embedding(style).chunk(self.shape.layers, dim=-1)
        step_tokens = self.step_mlp(step_embedding(step, self.shape.width)).chunk(self.shape.layers, dim=-1)
        for layer, style_token, step_token in zip(self.layers, style_tokens, step_tokens, strict=True):
            x = layer(x, torch.stack([style_token, step_token], dim=1), audio, self.bias)
        return self.motion_decoder(x)


class DiffSpeaker(nn.Module):
    """The ear, the projection of its features onto the frame grid, the denoiser, the motion's statistics."""

    def __init__(self, shape: Shape | None = None, grid: Grid = GRID) -> None:
        super().__init__()
        shape = shape or Shape()
        self.shape = shape
        self.ear = Ear(shape.ear, grid)
        # Three neighbouring tokens are mixed before the 50 Hz grid is thinned to the frame rate.
        self.audio_projection = nn.Conv1d(shape.ear.width, shape.width, 3, padding=1)
        self.contacts = Contacts(shape.ear.width)
        self.denoiser = Denoiser(shape, grid)
        self.register_buffer(
            "interpolation", frame_interpolation(grid, self.ear.position.shape[0]), persistent=False
        )
        self.register_buffer("mean", torch.zeros(shape.channels))
        self.register_buffer("std", torch.ones(shape.channels))
        deciding = torch.tensor([float(name in DECIDING_NOISE) for name in CHANNELS])
        self.register_buffer("deciding", deciding, persistent=False)
        self.deciding: Tensor
        self.interpolation: Tensor
        self.mean: Tensor
        self.std: Tensor

    def quieted(self, noise: Tensor) -> Tensor:
        """The noise (B, T, C) that few steps start from: 0 where it decides nothing, as for all that speech
        tells."""
        return noise * self.deciding

    def project(self, features: Tensor) -> Tensor:
        """Ear features (B, L, width) -> one feature vector per frame (B, T, d)."""
        return self.interpolation @ self.audio_projection(features.transpose(1, 2)).transpose(1, 2)

    def contact_logits(self, features: Tensor) -> Tensor:
        """Ear features (B, L, width) -> logits of each kind of contact at each frame (B, T, 2)."""
        return self.interpolation @ self.contacts(features)

    def listen(self, audio: Tensor) -> Tensor:
        """Audio (B, window_samples) -> one feature vector per frame (B, T, d)."""
        return self.project(self.ear(audio))

    def normalise(self, motion: Tensor) -> Tensor:
        """Coefficients -> unit variance per channel."""
        return (motion - self.mean) / self.std

    def denormalise(self, motion: Tensor) -> Tensor:
        """Unit variance per channel -> coefficients."""
        return motion * self.std + self.mean

    def coefficients(self, motion: Tensor, contact_logits: Tensor) -> Tensor:
        """What the denoiser drew, unit variance per channel (B, T, 52), as coefficients in [0, 1] whose lips
        meet where they should."""
        return meet(self.denormalise(motion).clamp(0, 1), contact_logits.sigmoid())
