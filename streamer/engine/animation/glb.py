"""glTF's binary container (GLB, glTF 2.0 §4.4): reading one, and writing one whose length is not known yet.

A GLB is a header, a chunk of JSON and a chunk of binary data. The JSON stands first but tells where
everything in the binary chunk lies, which is known last. So room is left for it: the binary data goes to the
file as it comes, and at the end the JSON is written into its room and filled up with spaces, as the format
wants it.
"""

from __future__ import annotations

import json
import struct
from typing import IO, Any

from streamer.contract.errors import FaceError

Document = dict[str, Any]

FLOAT, UNSIGNED_SHORT = 5126, 5123
_HEADER, _CHUNK = struct.Struct("<4sII"), struct.Struct("<I4s")
_MAGIC, _VERSION, _JSON, _BINARY = b"glTF", 2, b"JSON", b"BIN\0"
_LARGEST = 2**32 - 1


def parse(raw: bytes) -> tuple[Document, bytes]:
    """A GLB's JSON and its binary chunk; ValueError or struct.error where it is none."""
    magic, version, _ = _HEADER.unpack_from(raw)
    if magic != _MAGIC or version != _VERSION:
        raise ValueError("it is no binary glTF 2.0")
    length, _ = _CHUNK.unpack_from(raw, _HEADER.size)
    start = _HEADER.size + _CHUNK.size
    document: Document = json.loads(raw[start : start + length])
    return document, raw[start + length + _CHUNK.size :]


def encode(document: Document) -> bytes:
    """The JSON of a document, as short as it gets."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


class GlbWriter:
    """A GLB on its way into a file that can seek. ``room``: bytes left for its JSON, at least what it
    needs."""

    def __init__(self, stream: IO[bytes], room: int) -> None:
        self._stream, self._room, self._size = stream, room + -room % 4, 0
        stream.write(bytes(_HEADER.size + _CHUNK.size + self._room + _CHUNK.size))

    def align(self) -> int:
        """Where in the binary chunk the next byte will stand, after padding to a multiple of 4."""
        self.write(bytes(-self._size % 4))
        return self._size

    def write(self, raw: bytes) -> None:
        """Appends to the binary chunk."""
        self._stream.write(raw)
        self._size += len(raw)

    def finish(self, document: Document) -> None:
        """Writes the headers and the JSON; ``buffers`` is set to the binary chunk.

        Raises:
            FaceError: ``bad_output``, it grew beyond what a GLB can hold.
            ValueError: the JSON does not fit into its room.
        """
        size = self.align()
        text = encode(document | {"buffers": [{"byteLength": size}]})
        if len(text) > self._room:
            raise ValueError(f"a JSON of {len(text)} bytes in a room of {self._room}")
        total = _HEADER.size + _CHUNK.size + self._room + _CHUNK.size + size
        if total > _LARGEST:
            raise FaceError(
                "bad_output", "The animation is longer than a glTF file can be, 4 GiB.", "Cut the recording."
            )
        self._stream.seek(0)
        self._stream.write(_HEADER.pack(_MAGIC, _VERSION, total) + _CHUNK.pack(self._room, _JSON))
        self._stream.write(text.ljust(self._room))
        self._stream.write(_CHUNK.pack(size, _BINARY))
