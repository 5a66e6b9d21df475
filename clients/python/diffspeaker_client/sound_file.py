"""A sound file as a speaker: chunks of its PCM, each when it would be heard.

Rule: chunk *n* comes *n* × 20 ms after the first, whatever the time between; a listener that was slow gets
what it missed at once and is then in time again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from streamer.contract import wire
from streamer.contract.errors import FaceError
from streamer.contract.wire import AudioFormat

_CHUNK_S = 0.02


class SoundFile:
    """An open sound file; a context manager.

    Args:
        path: wav, flac, ogg or mp3; of more than two channels the first two are taken.

    Attributes:
        format: of the chunks. name: for people.

    Raises:
        FaceError: ``bad_audio_file`` or ``bad_audio_format``.
    """

    is_endless = False

    def __init__(self, path: Path) -> None:
        import soundfile

        self.name = str(path)
        try:
            self._file: Any = soundfile.SoundFile(path)
        except (OSError, TypeError, soundfile.SoundFileError) as error:  # TypeError: .raw, which says no rate
            reason = "there is no such file" if not path.exists() else str(error).rstrip(".")
            raise FaceError("bad_audio_file", f"{path} cannot be read: {reason}.") from None
        self.format = AudioFormat("s16", self._file.samplerate, min(self._file.channels, 2))
        try:
            wire.check_audio_format(self.format)
        except FaceError:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def go_back(self, frames: int) -> None:
        """Has the last ``frames`` sample frames heard once more."""
        self._file.seek(max(0, self._file.tell() - frames))

    async def chunks(self) -> AsyncIterator[npt.NDArray[np.float32]]:
        """The rest of the file, float32 (n, channels) in [-1, 1], in real time."""
        size = max(1, round(_CHUNK_S * self.format.sample_rate_hz))
        due_s = time.monotonic()
        while True:
            # Before reading, so that who is stopped while waiting has lost nothing.
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            chunk = self._file.read(size, dtype="float32", always_2d=True)
            if not len(chunk):
                return
            due_s += len(chunk) / self.format.sample_rate_hz
            yield chunk[:, : self.format.channels]
