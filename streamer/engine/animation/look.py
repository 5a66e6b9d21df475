"""How pictures of the face should look, as people say it: ``720``, ``1280x720``, and from which side."""

from __future__ import annotations

import re
from dataclasses import dataclass

from streamer.contract.errors import FaceError

_SIZE = re.compile(r"(\d+)(?:[x×](\d+))?")
LEAST_PX, MOST_PX = 64, 4096


@dataclass(frozen=True)
class Look:
    """size: (height, width) in pixels. turn_degrees: how far the camera goes round to the face's left."""

    size: tuple[int, int] = (720, 720)
    turn_degrees: float = 0.0


def parse_size(text: str) -> tuple[int, int]:
    """(height, width) of ``WIDTHxHEIGHT``, or of one number for a square.

    Raises:
        FaceError: ``bad_config``; films need even sizes, so all pictures have them.
    """
    match = _SIZE.fullmatch(text.strip().lower())
    width, height = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not all(LEAST_PX <= side <= MOST_PX and side % 2 == 0 for side in (width, height)):
        raise FaceError(
            "bad_config",
            f"{text!r} is no size of a picture.",
            f"Say WIDTHxHEIGHT in even pixels from {LEAST_PX} to {MOST_PX}, such as 1280x720, or one number.",
        )
    return height, width
