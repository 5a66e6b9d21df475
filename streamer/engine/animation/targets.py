"""Where an animation goes: what was typed behind ``-o``, against the recordings and the format asked for.

1. A name with a known ending is one file, for one recording.
2. Anything else is a folder. It gets a file per recording, named after it, in the format asked for, else in
   the bundle's own (csv, or npz where it moves vertices).
3. A folder typed with a slash, for one recording and no format, is a folder of numbered pictures. So it is
   for ``png``, and several recordings get one folder of pictures each within it. Such a folder must be new or
   empty.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from streamer.contract.errors import FaceError
from streamer.engine.animation import formats
from streamer.engine.animation.whole import check_free
from streamer.engine.bundle import Bundle


def targets_of(
    place: str | None, audio: Sequence[str], wanted: str | None, bundle: Bundle
) -> tuple[list[Path], str]:
    """What to write for each recording, and in which format.

    Args:
        place: a file or a folder, as typed.
        audio: the recordings' paths.
        wanted: a key of ``formats.FORMATS``, None where the place says it.
        bundle: whose frames are to be written.

    Raises:
        FaceError: ``bad_config``, the place and the recordings contradict each other; ``bad_output``, the
            format is impossible (``formats.check``), or a folder cannot be made or is taken.
    """
    if not place:
        raise FaceError("bad_config", "There is no output.", "Say where to write with -o OUT.")
    targets, kind, is_file = _choose(place, audio, wanted, bundle)
    formats.check(kind, bundle)
    for target in targets if kind == "png" else ():
        check_free(target)
    if not is_file:
        _make(targets[0].parent)
    return targets, kind


def _choose(
    place: str, audio: Sequence[str], wanted: str | None, bundle: Bundle
) -> tuple[list[Path], str, bool]:
    """What to write, in which format, and whether it is the one file that was named."""
    out, alone = Path(place), len(audio) == 1
    has_slash = place.endswith(("/", os.sep))
    named = None if has_slash or out.is_dir() else formats.format_of(out)
    if named is not None and wanted != "png":
        if not alone:
            raise FaceError(
                "bad_config", f"{out} is one file for {len(audio)} inputs.", "Give a folder with -o."
            )
        kind = wanted or named
        if not formats.fits(out, kind):
            ending = formats.FORMATS[kind].ending
            raise FaceError("bad_config", f"{out} does not end in {ending}, which --format asks for.")
        return [out], kind, True
    is_folder = has_slash or out.is_dir() or not out.suffix or not alone or wanted is not None
    if not is_folder:
        raise FaceError(
            "bad_config",
            f"{out} does not end in what can be written.",
            f"Name it {formats.endings()}; a slash makes a folder of pictures.",
        )
    usual = "csv" if bundle.manifest.motion.kind == "coefficients" else "npz"
    if has_slash and alone and formats.can_draw(bundle):
        usual = "png"
    kind = wanted or usual
    return _in_folder(out, audio, kind), kind, False


def _in_folder(folder: Path, audio: Sequence[str], kind: str) -> list[Path]:
    """A place in the folder for each recording; the folder itself for one recording's pictures."""
    pictures = kind == "png"
    if pictures and len(audio) == 1:
        return [folder]
    first: dict[str, str] = {}
    for path in audio:
        other = first.setdefault(Path(path).stem.casefold(), path)
        if other is not path:
            raise FaceError(
                "bad_config",
                f"{other} and {path} would write the same file.",
                "Animate them one by one, or rename one.",
            )
    ending = "" if pictures else formats.FORMATS[kind].ending
    return [folder / f"{Path(path).stem}{ending}" for path in audio]


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FaceError("bad_output", f"The folder {folder} cannot be made: {error.strerror}.") from None
