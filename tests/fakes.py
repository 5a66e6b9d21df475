"""The stand-ins that tests share: a small manifest, a bundle in a folder, and a backend of a few numpy lines.

The backend is no model, but it depends on everything that a model depends on (audio, noise, prefix, style),
so that a mistake in any of them shows in the frames. Nothing of the project's own code is replaced by a mock.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from streamer.contract.manifest import (
    Choice,
    Manifest,
    Model,
    Motion,
    Rig,
    Timing,
    Training,
    sha256,
    write_manifest,
)
from streamer.core.options import SessionOptions
from streamer.core.session import Session, WindowRequest

F32 = npt.NDArray[np.float32]

_NAMES = (
    "eyeBlinkLeft eyeLookDownLeft eyeLookInLeft eyeLookOutLeft eyeLookUpLeft eyeSquintLeft eyeWideLeft "
    "eyeBlinkRight eyeLookDownRight eyeLookInRight eyeLookOutRight eyeLookUpRight eyeSquintRight "
    "eyeWideRight jawForward jawLeft jawRight jawOpen mouthClose mouthFunnel mouthPucker mouthLeft "
    "mouthRight mouthSmileLeft mouthSmileRight mouthFrownLeft mouthFrownRight mouthDimpleLeft "
    "mouthDimpleRight mouthStretchLeft mouthStretchRight mouthRollLower mouthRollUpper mouthShrugLower "
    "mouthShrugUpper mouthPressLeft mouthPressRight mouthLowerDownLeft mouthLowerDownRight "
    "mouthUpperUpLeft mouthUpperUpRight browDownLeft browDownRight browInnerUp browOuterUpLeft "
    "browOuterUpRight cheekPuff cheekSquintLeft cheekSquintRight noseSneerLeft noseSneerRight tongueOut"
)
CHANNELS = _NAMES.split()
STYLES = ["neutral", "cheerful", "tense"]
JAW = CHANNELS.index("jawOpen")
VERTICES = 7


def manifest(*, prefix: int = 4, window_samples: int = 9_280, tail: int = 214) -> Manifest:
    """A manifest of the real shape with a short window: 17 frames in 0.58 s."""
    hop, lookahead, max_hop, max_lookahead, segment = 2, 2, 4, 9, 17
    hop_samples = hop * 16_000 // 30
    lookahead_samples = lookahead * 16_000 // 30 + tail
    return Manifest(
        format="diffspeaker-bundle",
        format_version=1,
        name="fake",
        version="0",
        licence="Apache-2.0",
        timing=Timing(
            sample_rate_hz=16_000,
            frame_rate_hz=30,
            window_samples=window_samples,
            tail_samples=tail,
            segment_frames=segment,
            context_frames=segment - hop - lookahead,
            context_samples=window_samples - hop_samples - lookahead_samples,
            hop=Choice(1, max_hop, hop, hop_samples),
            lookahead=Choice(0, max_lookahead, lookahead, lookahead_samples),
            prefix_frames=prefix,
        ),
        model=Model(file="model.onnx", denoise_steps=1, parameters=1, precision="float32"),
        motion=Motion(kind="coefficients", channels=CHANNELS, unit="weight", minimum=0.0, maximum=1.0),
        styles=STYLES,
        default_style="neutral",
        rig=Rig(name="fake", file="rig.npz", avatar="avatar.glb", vertices=VERTICES, licence="CC0-1.0"),
        training=Training("none", 0.0, "none", "none", 0.0, "none"),
        files={"model.onnx": "", "rig.npz": "", "avatar.glb": ""},
    )


class FakeBackend:
    """Answers each request by itself: the jaw follows the loudness at each frame, the rest follows noise.

    Attributes:
        batches: the sizes of the batches so far.
        fails_with: raised by the next ``infer`` where set.
    """

    name = "fake"
    provider = "numpy"
    variant = "fp32"
    fallbacks = 0
    is_away = False

    def __init__(self, manifest: Manifest) -> None:
        self._grid = manifest.timing.grid()
        self._channels = len(manifest.motion.channels)
        self.batches: list[int] = []
        self.fails_with: Exception | None = None

    def warm_up(self, max_batch: int = 1) -> None:
        pass

    def infer(self, requests: Sequence[WindowRequest]) -> F32:
        self.batches.append(len(requests))
        if self.fails_with is not None:
            raise self.fails_with
        return np.stack([self._answer(request) for request in requests])

    def _answer(self, request: WindowRequest) -> F32:
        grid, first = self._grid, request.window.first_frame
        newest = first + grid.segment_frames - 1
        window_start = grid.window_end(newest) - grid.window_samples
        motion = np.abs(request.noise) * np.float32(0.1)
        motion += request.style @ style_ramp(len(request.style)) * np.float32(0.05)
        # The newest known frame pulls the following ones toward it, as a model with a prefix does.
        known = int(request.prefix_mask.sum())
        if known:
            last = int(np.flatnonzero(request.prefix_mask)[-1])
            motion += np.float32(0.2) * request.prefix[last]
        for row in range(grid.segment_frames):
            place = grid.frame_sample(first + row) - window_start
            heard = request.audio[max(0, place - 200) : place + 200]
            motion[row, JAW] += 2 * np.abs(heard).mean(dtype=np.float32) if len(heard) else 0
        return motion


def style_ramp(styles: int) -> F32:
    """What the fakes make of a style: 1 for the first, 2 for the second, and so on, in proportion."""
    return np.arange(1, styles + 1, dtype=np.float32)


def write_rig(path: Path) -> None:
    """A rig of ``VERTICES`` vertices in which each channel moves one of them by a millimetre."""
    basis = np.zeros((len(CHANNELS), VERTICES, 3), np.float32)
    for channel in range(len(CHANNELS)):
        basis[channel, channel % VERTICES, channel % 3] = 0.001
    template = np.arange(VERTICES * 3, dtype=np.float32).reshape(VERTICES, 3) / 100
    names = np.array(CHANNELS)
    np.savez_compressed(
        path, template=template, basis=basis, names=names, faces=np.array([[0, 1, 2]], np.int32)
    )


def write_graph(
    path: Path, manifest: Manifest, *, motion_name: str = "motion", noise_share: float = 0.1
) -> None:
    """An ONNX graph of the contract's shape: noise, the prefix, a number for the style, the loudness."""
    from onnx import TensorProto, helper, save

    timing = manifest.timing
    frames, channels, styles = (
        timing.segment_frames,
        len(manifest.motion.channels),
        len(manifest.styles) + len(manifest.style_scales),
    )
    f32 = TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("Abs", ["audio"], ["loud"]),
            helper.make_node("ReduceMean", ["loud", "one"], ["loudness"], keepdims=1),  # (B, 1)
            helper.make_node("MatMul", ["style", "ramp"], ["weight"]),  # (B, 1)
            helper.make_node("Add", ["loudness", "weight"], ["level"]),
            helper.make_node("Unsqueeze", ["level", "two"], ["level3"]),  # (B, 1, 1)
            helper.make_node("Unsqueeze", ["prefix_mask", "two"], ["mask3"]),  # (B, T, 1)
            helper.make_node("Mul", ["prefix", "mask3"], ["known"]),
            helper.make_node("Mul", ["noise", "tenth"], ["rough"]),
            helper.make_node("Add", ["rough", "known"], ["sum"]),
            helper.make_node("Add", ["sum", "level3"], [motion_name]),
        ],
        "fake",
        [
            helper.make_tensor_value_info("audio", f32, ["B", timing.window_samples]),
            helper.make_tensor_value_info("noise", f32, ["B", frames, channels]),
            helper.make_tensor_value_info("prefix", f32, ["B", frames, channels]),
            helper.make_tensor_value_info("prefix_mask", f32, ["B", frames]),
            helper.make_tensor_value_info("style", f32, ["B", styles]),
        ],
        [helper.make_tensor_value_info(motion_name, f32, ["B", frames, channels])],
        initializer=[
            helper.make_tensor("one", TensorProto.INT64, [1], [1]),
            helper.make_tensor("ramp", f32, [styles, 1], style_ramp(styles)),
            helper.make_tensor("two", TensorProto.INT64, [1], [2]),
            helper.make_tensor("tenth", f32, [], [noise_share]),
        ],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


def write_bundle(
    folder: Path,
    *,
    motion_name: str = "motion",
    variants: Sequence[str] = (),
    variant_noise: float = 0.1,
) -> Path:
    """A bundle in ``folder`` that passes every check: tiny graphs, a tiny rig, an empty avatar."""
    folder.mkdir(parents=True, exist_ok=True)
    blank = manifest()
    write_graph(folder / "model.onnx", blank, motion_name=motion_name)
    others = {name: f"model.{name}.onnx" for name in variants}
    for file in others.values():
        write_graph(folder / file, blank, noise_share=variant_noise)
    blank = msgspec.structs.replace(
        blank,
        model=msgspec.structs.replace(blank.model, variants=others),
        files=blank.files | dict.fromkeys(others.values(), ""),
    )
    write_rig(folder / "rig.npz")
    (folder / "avatar.glb").write_bytes(b"glTF")
    files = {name: sha256(folder / name) for name in blank.files}
    write_manifest(msgspec.structs.replace(blank, files=files), folder)
    return folder


def speech(seconds: float, rate_hz: int = 16_000, seed: int = 0) -> F32:
    """Something as loud and as quiet as speech: noise under a syllable-like envelope, float32 in ±1."""
    count = int(seconds * rate_hz)
    time_s = np.arange(count) / rate_hz
    envelope = np.maximum(0, np.sin(2 * np.pi * 3 * time_s)) ** 2
    rough = np.random.default_rng(seed).standard_normal(count)
    return (0.2 * envelope * rough).clip(-1, 1).astype(np.float32)


def request_of(
    manifest: Manifest, seed: int = 0, audio: F32 | None = None, **choices: object
) -> WindowRequest:
    """A session's first request, of audio that the seed chooses where none is given."""
    session = Session(manifest, SessionOptions.choose(manifest, seed=seed, **choices))  # type: ignore[arg-type]
    session.feed(speech(1, seed=seed) if audio is None else audio)
    request = session.next_request()
    assert request is not None
    return request
