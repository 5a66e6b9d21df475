"""Which file an animation becomes: one table of formats, by the names and endings that people type.

A file's ending says its format, the longest that fits; a folder's does not, so there the format is asked for.
Two endings are shared: ``.csv`` is ours where nobody asks for ``livelink``, and ``.vrma`` has VRM's presets
where nobody asks for ``perfectsync``.

What is impossible is refused by ``check`` before anything is computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from streamer.contract.errors import FaceError
from streamer.engine.bundle import Bundle


@dataclass(frozen=True)
class Format:
    """One kind of file. ``ending``: of its name; a slash is a folder. ``draws``: it needs the packages that
    do. ``needs_avatar``: and a face to show. ``about``: a few words for a person."""

    ending: str
    about: str
    draws: bool = False
    needs_avatar: bool = False


FORMATS: dict[str, Format] = {
    "csv": Format(".csv", "a row of coefficients per frame"),
    "npz": Format(".npz", "numpy arrays: coefficients, vertices, metadata"),
    "livelink": Format(".livelink.csv", "Apple's Live Link Face recording: Unreal, Blender"),
    "glb": Format(".glb", "the avatar, moving: Blender, three.js, any glTF viewer", needs_avatar=True),
    "vrma": Format(".vrma", "VRM animation: vowels, blinks, gaze"),
    "perfectsync": Format(".perfectsync.vrma", "VRM animation: the 52 ARKit names"),
    "mp4": Format(".mp4", "a film with sound", draws=True, needs_avatar=True),
    "sheet": Format(".png", "a contact sheet", draws=True, needs_avatar=True),
    "png": Format("/", "a folder of numbered pictures", draws=True, needs_avatar=True),
}
_PACKAGES = {"av": "PyAV", "PIL": "Pillow"}


def format_of(path: Path) -> str | None:
    """The format that a file's ending names, the longest ending that fits; None where it names none."""
    name = path.name.lower()
    fitting = [kind for kind, entry in FORMATS.items() if name.endswith(entry.ending)]
    return max(fitting, key=lambda kind: len(FORMATS[kind].ending), default=None)


def fits(path: Path, kind: str) -> bool:
    """Whether a file of this name may have this format: its last ending is the format's last ending."""
    return path.suffix.lower() == Path(f"a{FORMATS[kind].ending}").suffix


def endings() -> str:
    """What a file's name may end in, for a sentence."""
    *most, last = (entry.ending for entry in FORMATS.values() if entry.ending != "/")
    return f"{', '.join(most)} or {last}"


def table() -> str:
    """The formats in lines, for a command's help."""
    width = max(len(entry.ending) for entry in FORMATS.values())
    lines = ((entry.ending, kind, entry.about) for kind, entry in FORMATS.items())
    return "\n".join(f"  {ending:<{width}}  {kind:<11}  {about}" for ending, kind, about in lines)


def can_draw(bundle: Bundle) -> bool:
    """Whether the bundle has a face that pictures could show."""
    return bundle.avatar_file is not None and bundle.manifest.motion.kind == "coefficients"


def check(kind: str, bundle: Bundle) -> None:
    """Refuses what cannot be: a format that this bundle cannot fill or this installation cannot write.

    Raises:
        FaceError: ``bad_output``.
    """
    entry = FORMATS[kind]
    if kind != "npz" and bundle.manifest.motion.kind == "vertices":
        raise FaceError(
            "bad_output",
            f"There can be no {kind} of this bundle: it moves vertices and has no coefficients.",
            "Name the output .npz, or choose --format npz.",
        )
    if entry.needs_avatar and bundle.avatar_file is None:
        raise FaceError(
            "bad_output",
            f"There can be no {kind} of this bundle: it has no avatar to show.",
            "Choose --format csv.",
        )
    if entry.draws:
        missing = [name for module, name in _PACKAGES.items() if not _is_there(module)]
        if missing:
            are = "is" if len(missing) == 1 else "are"
            raise FaceError(
                "bad_output",
                f"Pictures need {' and '.join(missing)}, which {are} not installed.",
                "Run: pip install 'diffspeaker-live[preview]'",
            )


def _is_there(module: str) -> bool:
    try:
        import_module(module)
    except ImportError:
        return False
    return True
