"""What the experiments share: lessons that are heard once, a small denoiser, its training and its measures.

An experiment is only fair where everything but its question stays the same, and only affordable where the
costly part is done once. So the ear is Whisper's, frozen, its features are computed once for the whole corpus
and kept as float16 at the frame rate, and what is trained is the project's own ``Denoiser``, two layers of
128.

Rules: the windows tile the speech without overlap, so that a share of the windows is that share of the
speech; nothing is augmented, so that the amount of data means what it says; runs are counted in steps, not
minutes, so that a busy machine changes no result; two runs with one seed differ in nothing but what is asked.
Shapes: N windows, T frames, C = 52 channels, S styles, K tracks, B windows of a batch.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from tqdm import tqdm

from model import articulation
from model.articulation import IDLE_REACH_FRAMES, TRACK_RATE_HZ, idle_coefficients, speech_coefficients
from model.diffusion import STEPS, add_noise, ddim, spaced_steps
from model.measures import CONTRASTS, Face, Phone, auc, lip_error_mm2, phone_scores, split
from model.network import Denoiser, DenoiserLayer, Ear, frame_interpolation
from model.shape import CHANNELS, STYLES, TOKEN_SAMPLES, EarShape, Shape
from model.speech import Strip, build_strip
from model.whisper import find_whisper, load_whisper
from streamer.contract.grid import Grid
from streamer.engine.bundle import Bundle

F32 = npt.NDArray[np.float32]
EAR = EarShape()
SMALL = Shape(width=128, feed_forward=256, layers=2)
# Four seconds, about a sentence of VOCASET or BIWI, with 267 ms of sound before and after. The paper's bias
# counts periods of 30 frames, so this is a length at which it has something to count.
LONG = Grid(
    sample_rate_hz=16_000, frame_rate_hz=30, window_samples=72_000, tail_samples=4_267, segment_frames=120
)
# Names the articulation rules that this process has loaded.
RULES = hashlib.sha256(Path(articulation.__file__).read_bytes()).hexdigest()[:8]


@dataclass(frozen=True)
class Lessons:
    """Windows of one strip, in the order of their time.

    ``heard`` float16 (N, T, ear width), the ear's features at each frame; ``tracks`` float32 (N, T, K);
    ``first`` int (N,), each window's first frame on the strip's clock; ``phones``, in seconds of that clock.
    """

    heard: npt.NDArray[np.float16]
    tracks: F32
    first: npt.NDArray[np.int64]
    phones: list[Phone]

    @property
    def frames(self) -> int:
        """T."""
        return self.tracks.shape[1]

    def cut(self, frames: int) -> Lessons:
        """The same speech in shorter windows; ``frames`` divides T."""
        first = self.first[:, None] + np.arange(0, self.frames, frames)
        heard = self.heard.reshape(-1, frames, self.heard.shape[-1])
        return Lessons(
            heard, self.tracks.reshape(-1, frames, self.tracks.shape[-1]), first.ravel(), self.phones
        )

    def take(self, count: int) -> Lessons:
        """``count`` windows, evenly spread over the strip and so over its voices."""
        chosen = np.unique(np.linspace(0, len(self.first) - 1, count).astype(int))
        return replace(self, heard=self.heard[chosen], tracks=self.tracks[chosen], first=self.first[chosen])

    def phones_of(self, window: int) -> list[Phone]:
        """The phones that lie wholly within a window, in seconds from its first frame."""
        begin = int(self.first[window]) / LONG.frame_rate_hz
        length = (self.frames - 1) / LONG.frame_rate_hz
        after = bisect_left(self.phones, begin, key=lambda phone: phone[1])
        inside = takewhile(lambda phone: phone[2] <= begin + length, self.phones[after:])
        return [(name, start - begin, end - begin) for name, start, end in inside]


@dataclass
class Draw:
    """A batch: ``heard`` (B, T, ear width), ``motion`` and its ``noise`` (B, T, C), ``style`` (B, S)."""

    heard: Tensor
    motion: Tensor
    noise: Tensor
    style: Tensor


def read_lessons(corpus: Path, cache: Path, held_out: bool, limit: int = 0) -> Lessons:
    """The training or the held-out voices in windows of ``LONG``: all of them, or ``limit`` spread evenly.

    Features are kept under ``cache``, and what is there is not computed again. Raises FileNotFoundError where
    the corpus or Whisper's weights are missing.
    """
    strip = build_strip(corpus, cache / "strip", held_out)
    lead = LONG.frames_within(LONG.window_samples)  # the first window's newest frame
    count = (LONG.frames_within(len(strip.audio) - LONG.tail_samples) - 1 - lead) // LONG.segment_frames
    newest = lead + np.arange(count) * LONG.segment_frames
    chosen = np.unique(np.linspace(0, count - 1, min(limit or count, count)).astype(int))
    heard = _hear(strip, newest, chosen, cache / f"heard-{'held_out' if held_out else 'train'}.npy")
    first = newest[chosen] - LONG.segment_frames + 1
    tracks = _tracks_at(strip, first[:, None] + np.arange(LONG.segment_frames))
    return Lessons(heard, tracks, first, _phones(strip))


def _hear(
    strip: Strip, newest: npt.NDArray[np.int64], chosen: npt.NDArray[np.int64], file: Path
) -> npt.NDArray[np.float16]:
    """Whisper's features of the chosen windows, float16 (chosen, T, ear width).

    The file has room for every window, and beside it another remembers which are filled.
    """

    def opened(path: Path, dtype: type, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        mode: Literal["r+", "w+"] = "r+" if path.exists() else "w+"
        return np.lib.format.open_memmap(path, mode, dtype, shape)

    filled = opened(file.with_suffix(".filled.npy"), np.bool_, (len(newest),))
    heard = opened(file, np.float16, (len(newest), LONG.segment_frames, EAR.width))
    missing = chosen[~filled[chosen]]
    if len(missing):
        ear = Ear(EAR, LONG).eval()
        load_whisper(ear, find_whisper())
        to_frames = frame_interpolation(LONG, LONG.window_samples // TOKEN_SAMPLES)
        for window in tqdm(missing, desc=f"hearing {file.stem}", unit="window", disable=None):
            end = LONG.window_end(int(newest[window]))
            audio = strip.audio[end - LONG.window_samples : end].astype(np.float32) / 32768
            with torch.inference_mode():
                heard[window] = (to_frames @ ear(torch.from_numpy(audio)[None])[0]).numpy()
            filled[window] = True
    return np.asarray(heard[chosen])


def _tracks_at(strip: Strip, frames: npt.NDArray[np.int64]) -> F32:
    place = frames * (TRACK_RATE_HZ / LONG.frame_rate_hz)
    left = np.clip(place.astype(np.int64), 0, len(strip.tracks) - 2)
    share = (place - left)[..., None].astype(np.float32)
    return np.asarray(strip.tracks[left] * (1 - share) + strip.tracks[left + 1] * share, np.float32)


def _phones(strip: Strip) -> list[Phone]:
    return [
        (name, start / LONG.sample_rate_hz + begin_s, start / LONG.sample_rate_hz + end_s)
        for utterance, (start, _) in zip(strip.utterances, strip.spans.tolist(), strict=True)
        for name, begin_s, end_s in utterance["phones"]  # type: ignore[attr-defined]
    ]


def draw(
    lessons: Lessons,
    chosen: npt.NDArray[np.int64],
    style: Tensor,
    random: torch.Generator,
    coupled: bool = True,
) -> Draw:
    """The chosen windows under these styles, with fresh noise.

    ``coupled``: the idle motion is read off the diffusion's noise (docs/decisions/0002); otherwise off other
    noise, as it would be in recordings of people.
    """
    tracks = torch.from_numpy(lessons.tracks[chosen])
    size = (len(chosen), IDLE_REACH_FRAMES + lessons.frames, len(CHANNELS))
    noise = torch.randn(size, generator=random)
    idle = idle_coefficients(noise if coupled else torch.randn(size, generator=random), style)
    motion = (speech_coefficients(tracks, style) + idle).clamp(0, 1)
    heard = torch.from_numpy(lessons.heard[chosen].astype(np.float32))
    return Draw(heard, motion, noise[:, IDLE_REACH_FRAMES:], style)


def draw_styles(count: int, random: torch.Generator) -> Tensor:
    """One of the eight styles each, unmixed and unscaled, (B, S)."""
    return torch.eye(SMALL.styles)[torch.randint(len(STYLES), (count,), generator=random)]


class SmallSpeaker(nn.Module):
    """Frozen features -> Linear -> the project's ``Denoiser`` -> clean motion, all normalised per channel.

    ``period`` is the paper's p, of the positions and of the bias alike; ``layer`` makes a layer, with
    ``DenoiserLayer``'s parameters by the same names, so that two kinds of layer start from the same weights.
    """

    def __init__(
        self,
        frames: int,
        period: int = SMALL.period,
        layer: Callable[[Shape], DenoiserLayer] = DenoiserLayer,
        shape: Shape = SMALL,
    ) -> None:
        super().__init__()
        self.denoiser = Denoiser(replace(shape, period=period), replace(LONG, segment_frames=frames))
        layers = [layer(shape) for _ in range(shape.layers)]
        for ours, theirs in zip(layers, self.denoiser.layers, strict=True):
            ours.load_state_dict(theirs.state_dict())
        self.denoiser.layers = nn.ModuleList(layers)
        self.project = nn.Linear(EAR.width, shape.width)
        for name, size in (("heard", EAR.width), ("motion", len(CHANNELS))):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_std", torch.ones(size))

    def fit_statistics(self, sample: Draw) -> None:
        """Takes mean and deviation of features and motion from a sample of the lessons."""
        for name, values in (("heard", sample.heard), ("motion", sample.motion)):
            getattr(self, f"{name}_mean").copy_(values.mean((0, 1)))
            getattr(self, f"{name}_std").copy_(values.std((0, 1)).clamp(min=0.02))

    def normalise(self, motion: Tensor) -> Tensor:
        """Coefficients -> unit variance per channel."""
        return (motion - self.motion_mean) / self.motion_std

    def listen(self, heard: Tensor) -> Tensor:
        """(B, T, ear width) -> (B, T, d)."""
        return self.project((heard - self.heard_mean) / self.heard_std)

    def denoise(self, noisy: Tensor, audio: Tensor, style: Tensor, step: Tensor) -> Tensor:
        """Normalised (B, T, C) at step (B,), audio from ``listen`` -> normalised x0; there is no prefix."""
        nothing = torch.zeros_like(noisy)
        return self.denoiser(noisy, audio, style, step, nothing, nothing[..., 0])


def train(
    net: SmallSpeaker,
    lessons: Lessons,
    chosen: npt.NDArray[np.int64],
    *,
    steps: int,
    batch: int,
    seed: int,
    title: str,
    deaf_share: float = 0.0,
    coupled: bool = True,
    peak: float = 2e-3,
) -> SmallSpeaker:
    """Trains on the chosen windows and returns the moving average of the weights.

    The paper's loss: x0 at a uniform step, squared error of motion and of its frame differences, weights 1
    and 1. ``deaf_share`` of the windows hear nothing, which is what guidance needs.
    """
    random = torch.Generator().manual_seed(seed)
    order = np.random.default_rng(seed)
    sample = order.choice(chosen, min(len(chosen), 256), replace=False)
    net.fit_statistics(draw(lessons, sample, draw_styles(len(sample), random), random, coupled))
    average = deepcopy(net).eval()
    optimiser = torch.optim.AdamW(net.parameters(), lr=peak, weight_decay=0.01)
    for step in tqdm(range(steps), desc=title, unit="step", disable=None, leave=False):
        rate = peak * min(1.0, (step + 1) / (0.05 * steps)) * (0.51 + 0.49 * np.cos(np.pi * step / steps))
        lesson = draw(lessons, order.choice(chosen, batch), draw_styles(batch, random), random, coupled)
        clean = net.normalise(lesson.motion)
        level = torch.randint(0, STEPS, (batch,), generator=random)
        hears = (torch.rand(batch, 1, 1, generator=random) >= deaf_share).float()
        with torch.autocast("cpu", torch.bfloat16):
            audio = net.listen(lesson.heard) * hears
            predicted = net.denoise(add_noise(clean, lesson.noise, level), audio, lesson.style, level)
        error = predicted.float() - clean
        loss = error.square().mean() + error.diff(dim=1).square().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.step()
        with torch.no_grad():
            for mean, now in zip(average.parameters(), net.parameters(), strict=True):
                mean.lerp_(now, 1 - min(0.99, (1 + step) / (10 + step)))
    return average


@torch.inference_mode()
def sample(
    net: SmallSpeaker, lesson: Draw, steps: int, guidance: float = 1.0, noise_scale: float = 1.0
) -> F32:
    """Coefficients (B, T, C) by DDIM in ``steps`` steps from the lesson's noise, times ``noise_scale``.

    ``guidance`` w mixes what the network says deaf and hearing: deaf + w (hearing − deaf); 1 is plain.
    """
    parts = []
    for at in range(0, len(lesson.noise), 32):
        part = slice(at, at + 32)
        audio, style = net.listen(lesson.heard[part]), lesson.style[part]

        def denoise(noisy: Tensor, step: Tensor, audio: Tensor = audio, style: Tensor = style) -> Tensor:
            if guidance == 1:
                return net.denoise(noisy, audio, style, step)
            deaf = net.denoise(noisy, torch.zeros_like(audio), style, step)
            if guidance == 0:
                return deaf
            return deaf + guidance * (net.denoise(noisy, audio, style, step) - deaf)

        parts.append(ddim(denoise, noise_scale * lesson.noise[part], spaced_steps(steps)))
    return (torch.cat(parts) * net.motion_std + net.motion_mean).clamp(0, 1).numpy()


def default_face() -> Face:
    """The rig of the bundle that ships."""
    bundle = Bundle.load()
    with np.load(bundle.folder / bundle.manifest.rig.file, allow_pickle=False) as rig:
        return Face(rig)


def lip_figures(motion: F32, truth: F32, lessons: Lessons, face: Face) -> dict[str, float]:
    """``lve_mm2`` and ``closure_auc`` of motion and truth (N, T, C), as ``model.measures`` defines them."""
    scores = [
        score
        for window in range(len(motion))
        for score in phone_scores(
            face.curves(motion[window])["closure"], lessons.phones_of(window), LONG.frame_rate_hz
        )
    ]
    errors = [lip_error_mm2(face, one, other) for one, other in zip(motion, truth, strict=True)]
    return {
        "lve_mm2": round(float(np.mean(errors)), 4),
        "closure_auc": round(auc(*split(scores, CONTRASTS["closure"])), 4),
    }
