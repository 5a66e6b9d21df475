"""The bundle's manifest: the one bridge between training and serving.

A bundle is a folder: ``manifest.json`` beside the files it lists (graphs and their weights, ``rig.npz``,
``avatar.glb``, licences). The server owns this contract and ``export`` writes it. Reading is strict: an
unknown field, a missing file, a wrong hash or sizes that contradict each other refuse the bundle with a
sentence that says which. Nothing in a bundle is ever unpickled or imported.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import msgspec

from streamer.contract.errors import FaceError
from streamer.contract.grid import Grid

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"
REFERENCE = "fp32"  # the variant that every bundle has: its model's ``file``
# A bundle may come from anywhere, so what it declares is bounded before anything is made of that size.
_MOST_VALUES = 1 << 27  # of one array: half a GiB of float32
_MOST_BYTES = 1 << 20  # of the manifest itself
_MOST_RATE_HZ, _MOST_FRAME_RATE_HZ = 768_000, 1_000


class Choice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A session-time choice in frames, with the same lengths in samples."""

    min_frames: int
    max_frames: int
    default_frames: int
    default_samples: int


class Timing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The grid of the bundle; see ``streamer.contract.grid``. ``context`` is what remains of a segment at the
    default hop and lookahead, in frames, and of the window, in samples."""

    sample_rate_hz: int
    frame_rate_hz: int
    window_samples: int
    tail_samples: int
    segment_frames: int
    context_frames: int
    context_samples: int
    hop: Choice
    lookahead: Choice
    prefix_frames: int

    def grid(self) -> Grid:
        """The ``Grid`` of these sizes; raises ValueError where they contradict each other."""
        return Grid(
            self.sample_rate_hz,
            self.frame_rate_hz,
            self.window_samples,
            self.tail_samples,
            self.segment_frames,
        )


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The network's file and what it computes.

    Graph inputs: ``audio`` float32 (B, window_samples) in [-1, 1]; ``noise`` float32 (B, T, N), standard
    normal; ``prefix`` float32 (B, T, C), frames already emitted, in output units; ``prefix_mask`` float32
    (B, T), 1 where the prefix holds; ``style`` float32 (B, S), weights over ``styles`` that sum to 1, then
    for each of ``style_scales`` its factor − 1. Output: ``motion`` float32 (B, T, C).
    T = segment_frames, C = frame_width, S = len(styles) + len(style_scales); only B is dynamic. N is
    ``noise_width``, or C where that is 0. Where ``prefix_frames`` is 0, the graph has neither ``prefix`` nor
    ``prefix_mask``.

    ``file`` computes in float32 and is the reference. ``variants`` names graphs with the same inputs and
    output that compute otherwise (``int8``, ``fp16``); all may share further files that the manifest lists.
    """

    file: str
    denoise_steps: int
    parameters: int
    precision: str
    noise_width: int = 0
    variants: dict[str, str] = {}


class Motion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the model's frame is: the kind, its channels in order, and the unit of one value.

    ``coefficients`` are named by ``channels``. ``vertices`` are offsets from the rig's template, x y z of
    each vertex in turn; they have no names, so ``channels`` is empty.
    """

    kind: Literal["coefficients", "vertices"]
    channels: list[str]
    unit: str
    minimum: float
    maximum: float


class Rig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The face: ``file`` (npz: template (V,3), basis (len(channels),V,3), metres) and ``avatar`` (glb with
    named morphs), None where there is none to show."""

    name: str
    file: str
    avatar: str | None
    vertices: int
    licence: str


class Training(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the weights come from."""

    speech: str
    speech_hours: float
    audio_encoder: str
    hardware: str
    hours: float
    commit: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that the server knows of a model. ``files`` maps each file's name to its sha256 in hex;
    ``style_scales`` names what can be turned up and down beside the styles (factors of 0 to 2)."""

    format: Literal["diffspeaker-bundle"]
    format_version: int
    name: str
    version: str
    licence: str
    timing: Timing
    model: Model
    motion: Motion
    styles: list[str]
    default_style: str
    rig: Rig
    training: Training
    files: dict[str, str]
    style_scales: list[str] = []

    @property
    def frame_width(self) -> int:
        """C, the values in one frame of the model: a coefficient per channel, or x y z of each vertex."""
        return 3 * self.rig.vertices if self.motion.kind == "vertices" else len(self.motion.channels)

    @property
    def noise_width(self) -> int:
        """N, the values of noise that the model takes for one frame."""
        return self.model.noise_width or self.frame_width


def sha256(path: Path) -> str:
    """The file's SHA-256 in hex, read in blocks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_manifest(bundle: Path) -> Manifest:
    """Reads and checks a bundle's manifest and the hash of every file it lists.

    Args:
        bundle: the bundle's folder.

    Raises:
        FaceError: ``bad_bundle``, with a sentence that names the file or field at fault.
    """
    path = bundle / MANIFEST_NAME
    try:
        # A pipe or a device would be read for ever.
        if path.exists() and not path.is_file():
            raise FaceError("bad_bundle", f"{path} is no file.")
        with path.open("rb") as stream:
            raw = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        raise FaceError(
            "bad_bundle", f"The bundle {bundle} has no readable {MANIFEST_NAME}: {error.strerror}."
        ) from None
    if len(raw) > _MOST_BYTES:
        raise FaceError("bad_bundle", f"{path} is longer than {_MOST_BYTES} bytes.")
    try:
        manifest = msgspec.json.decode(raw, type=Manifest)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise FaceError("bad_bundle", f"{path} is not a valid manifest: {error}.") from None
    _check(manifest, bundle)
    return manifest


def _check(manifest: Manifest, bundle: Path) -> None:
    def refuse(sentence: str) -> FaceError:
        return FaceError("bad_bundle", f"The bundle {bundle} is refused: {sentence}.")

    timing = manifest.timing
    if manifest.format_version != FORMAT_VERSION:
        raise refuse(f"its format version is {manifest.format_version}, this server reads {FORMAT_VERSION}")
    try:
        grid = timing.grid()
    except ValueError as error:
        raise refuse(str(error)) from None
    for name, choice, samples in (
        ("hop", timing.hop, grid.frame_sample(timing.hop.default_frames)),
        ("lookahead", timing.lookahead, grid.lookahead_samples(timing.lookahead.default_frames)),
    ):
        if not 0 <= choice.min_frames <= choice.default_frames <= choice.max_frames:
            raise refuse(f"its {name} default lies outside its range")
        if choice.default_samples != samples:
            raise refuse(
                f"its default {name} is {samples} samples, the manifest says {choice.default_samples}"
            )
    if timing.sample_rate_hz > _MOST_RATE_HZ or timing.frame_rate_hz > _MOST_FRAME_RATE_HZ:
        raise refuse(f"its rates are beyond {_MOST_RATE_HZ} samples or {_MOST_FRAME_RATE_HZ} frames a second")
    if timing.hop.min_frames < 1:
        raise refuse("its hop may not be shorter than one frame")
    if timing.hop.max_frames + timing.lookahead.max_frames + timing.prefix_frames > timing.segment_frames:
        raise refuse("its longest hop, lookahead and prefix do not fit into a segment")
    if timing.context_frames != grid.context_frames(
        timing.hop.default_frames, timing.lookahead.default_frames
    ):
        raise refuse("its context_frames contradict hop and lookahead")
    if (
        timing.context_samples
        != timing.window_samples - timing.hop.default_samples - timing.lookahead.default_samples
    ):
        raise refuse("its context_samples contradict hop and lookahead")
    channels = manifest.motion.channels
    if manifest.motion.kind == "vertices" and channels:
        raise refuse("it moves vertices, which have no channel names")
    if manifest.motion.kind == "coefficients" and (not channels or len(set(channels)) != len(channels)):
        raise refuse("its channel names are empty or repeat")
    if manifest.rig.vertices < 1 or manifest.model.noise_width < 0:
        raise refuse("its rig's vertices and its noise's width must be positive")
    widest = max(manifest.frame_width, manifest.noise_width)
    basis = 3 * manifest.rig.vertices * max(1, len(channels))
    if max(timing.window_samples, timing.segment_frames * widest, basis) > _MOST_VALUES:
        raise refuse(f"it describes an array of more than {_MOST_VALUES} values")
    if not manifest.styles or manifest.default_style not in manifest.styles:
        raise refuse("its default style is not among its styles")
    if len({*manifest.styles, *manifest.style_scales}) != len(manifest.styles) + len(manifest.style_scales):
        raise refuse("two of its styles and style scales have the same name")
    if REFERENCE in manifest.model.variants:
        raise refuse(f"{REFERENCE} is its model's file, not one of the variants")
    graphs = (manifest.model.file, *manifest.model.variants.values())
    for part in (*graphs, manifest.rig.file, manifest.rig.avatar):
        if part is not None and part not in manifest.files:
            raise refuse(f"{part} is not in its list of files")
    for name, expected in manifest.files.items():
        if Path(name).name != name:
            raise refuse(f"the file name {name!r} leaves the bundle's folder")
        file = bundle / name
        try:
            if not file.is_file():
                raise refuse(f"{name} is missing")
            found = sha256(file)
        except OSError as error:
            raise refuse(f"{name[:80]} cannot be read: {error.strerror}") from None
        if found != expected:
            raise refuse(f"{name} does not match its sha256, so it was changed or cut short")


def write_manifest(manifest: Manifest, bundle: Path) -> None:
    """Writes ``manifest.json`` with indentation, then reads it back through every check."""
    (bundle / MANIFEST_NAME).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
    read_manifest(bundle)
