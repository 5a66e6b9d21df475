"""Actors in free games, as recordings: where each lies in its package, and how it is read.

Synthetic voices are all of a few kinds, and a model that hears nothing else reads people worse. These
packages of Debian hold people speaking English, under licences that let anyone copy and change them; nothing
of them is kept in the project. Each reader lists what there is without decoding it: a name, and a function
that decodes.

- ``amazon-queen``, Flight of the Amazon Queen: ``queen.1c`` begins with a table (big-endian: ``QTBL``, six
  characters of version, three u8 of flags and compression, u16 entries; each entry 12 characters of name, u8
  bundle, u32 offset, u32 size); the ``.SB`` are speech, as MP3 files.
- ``drascula``, Drascula: ``.ALS`` files, 8-bit samples without sign at 11,025 Hz after 32 bytes.
- ``warzone``, Warzone 2100: Ogg files in ``base.wz``, a ZIP archive.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

F32 = npt.NDArray[np.float32]
Sound = tuple[F32, int]

_ALS_HEADER_BYTES, _ALS_RATE_HZ = 32, 11_025
_QUEEN_HEAD, _QUEEN_ENTRY = ">4s6s3xH", ">12sBII"
_NO_SPEECH = ("/sfx/", "/radclick/")


@dataclass(frozen=True)
class Recording:
    """Somebody speaking: whose package and which of its files, and how it is decoded, (n,) and its rate."""

    voice: str
    name: str
    decode: Callable[[], Sound]


def amazon_queen(file: Path) -> Iterator[Recording]:
    """The speech in ``queen.1c``; ValueError where it is another file."""
    with file.open("rb") as stream:
        magic, _, count = struct.unpack(_QUEEN_HEAD, stream.read(struct.calcsize(_QUEEN_HEAD)))
        if magic != b"QTBL":
            raise ValueError(f"{file} is not the data of Flight of the Amazon Queen")
        table = stream.read(count * struct.calcsize(_QUEEN_ENTRY))
    for entry, _, offset, size in struct.iter_unpack(_QUEEN_ENTRY, table):
        name = entry.split(b"\0")[0].decode("ascii")
        if name.endswith(".SB"):
            yield Recording("amazon-queen", name.removesuffix(".SB"), _Part(file, offset, size))


def drascula(folder: Path) -> Iterator[Recording]:
    """The speech files of a folder."""
    for file in sorted(folder.glob("*.ALS")):
        yield Recording("drascula", file.stem, _Bytes(file))


def warzone(file: Path) -> Iterator[Recording]:
    """The speech in ``base.wz``."""
    with zipfile.ZipFile(file) as archive:
        names = sorted(archive.namelist())
    for name in names:
        is_sound = name.startswith(("audio/", "sequenceaudio/")) and name.endswith(".ogg")
        if is_sound and not any(part in name for part in _NO_SPEECH):
            yield Recording("warzone", name.removesuffix(".ogg"), _Member(file, name))


@dataclass(frozen=True)
class _Part:
    file: Path
    offset: int
    size: int

    def __call__(self) -> Sound:
        with self.file.open("rb") as stream:
            stream.seek(self.offset)
            return _decoded(stream.read(self.size))


@dataclass(frozen=True)
class _Bytes:
    file: Path

    def __call__(self) -> Sound:
        samples = np.fromfile(self.file, np.uint8, offset=_ALS_HEADER_BYTES)
        return (samples.astype(np.float32) - 128) / 128, _ALS_RATE_HZ


@dataclass(frozen=True)
class _Member:
    file: Path
    name: str

    def __call__(self) -> Sound:
        with zipfile.ZipFile(self.file) as archive:
            return _decoded(archive.read(self.name))


def _decoded(content: bytes) -> Sound:
    audio, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    return audio.mean(axis=1), rate
