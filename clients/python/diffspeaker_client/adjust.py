"""What of a stream reaches an avatar, and how strongly: ``--only``, ``--gain`` and ``--mirror``. Pure.

A stream's channels come in the order of its welcome and leave in ARKit's. Rules:

1. What is left out (by ``only``, or because the stream has no such channel) is 0 in the values and False in
   ``driven``: a protocol that can leave it to somebody else does, so that a camera may drive the brows and a
   voice the mouth.
2. The mirror comes first, then ``only``, then the gains: a name always means the avatar's own channel.
3. Values are kept within 0 and 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from diffspeaker_client.channels import ARKIT, REGIONS, channels_of, mirrored
from streamer.contract.errors import FaceError

F32 = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]

MAX_GAIN = 4.0


class Adjust:
    """From a stream's coefficients to the 52 that an avatar is sent.

    Args:
        channels: the stream's names, in the order of its welcome; names that are not ARKit's are left out.
        only: regions or channels that pass; everything where None.
        gains: factors by region or channel; a channel's own comes on top of its region's.
        mirror: whether left and right change places.

    Attributes:
        driven: bool (52,), by ``ARKIT``: what the stream moves here.

    Raises:
        FaceError: ``bad_config``, a name that is neither a region nor a channel.
    """

    def __init__(
        self,
        channels: Sequence[str],
        *,
        only: Iterable[str] | None = None,
        gains: Mapping[str, float] | None = None,
        mirror: bool = False,
    ) -> None:
        places = {(mirrored(name) if mirror else name): place for place, name in enumerate(channels)}
        wanted = set(ARKIT) if only is None else {channel for name in only for channel in named(name)}
        self.driven: Flags = np.array([name in places and name in wanted for name in ARKIT])
        self._slots = np.flatnonzero(self.driven)
        self._sources = np.array([places[ARKIT[slot]] for slot in self._slots], np.intp)
        self._gains = np.ones(len(ARKIT), np.float32)
        for name, gain in (gains or {}).items():
            for channel in named(name):
                self._gains[ARKIT.index(channel)] *= np.float32(gain)

    def apply(self, face: F32) -> F32:
        """The coefficients to send, float32 (52,) by ``ARKIT``, of a frame (width,)."""
        sent = np.zeros(len(ARKIT), np.float32)
        sent[self._slots] = np.clip(face[self._sources] * self._gains[self._slots], 0, 1)
        return sent


def named(name: str) -> tuple[str, ...]:
    """The channels that a region's or a channel's name means.

    Raises:
        FaceError: ``bad_config``, with the nearest name.
    """
    if name in REGIONS:
        return channels_of(name)
    if name in ARKIT:
        return (name,)
    raise unknown(name, (*REGIONS, *ARKIT))


def unknown(name: str, known: Iterable[str]) -> FaceError:
    """The error of a name that is not known, with the nearest that is."""
    near = difflib.get_close_matches(name, list(known), 1)
    hint = f"Did you mean {near[0]}?" if near else f"Use {', '.join(REGIONS)}, or an ARKit name like jawOpen."
    return FaceError("bad_config", f"No channel is called {name!r}.", hint)


def parse_only(listed: str | None) -> tuple[str, ...] | None:
    """The names in ``mouth,browInnerUp``; None of None.

    Raises:
        FaceError: ``bad_config``.
    """
    if listed is None:
        return None
    names = tuple(name.strip() for name in listed.split(",") if name.strip())
    if not names:
        raise FaceError("bad_config", "The option --only names nothing.", f"Use {', '.join(REGIONS)}.")
    for name in names:
        named(name)
    return names


def parse_gains(listed: Sequence[str], also: Iterable[str] = ()) -> dict[str, float]:
    """The factors in ``["jawOpen=1.2", "mouth=0.9"]``.

    Args:
        listed: NAME=FACTOR, each factor 0 to 4.
        also: names that are known besides regions and channels.

    Raises:
        FaceError: ``bad_config``.
    """
    gains: dict[str, float] = {}
    also = tuple(also)
    for text in listed:
        name, separator, number = text.partition("=")
        try:
            gain = float(number) if separator else float("nan")
        except ValueError:
            gain = float("nan")
        if not 0 <= gain <= MAX_GAIN:
            raise FaceError(
                "bad_config",
                f"The option --gain must be NAME=FACTOR with a factor of 0 to {MAX_GAIN:g}, not {text!r}.",
                "For example --gain jawOpen=1.2.",
            )
        if name not in (*also, *REGIONS, *ARKIT):
            raise unknown(name, (*also, *REGIONS, *ARKIT))
        gains[name] = gain
    return gains
