"""A sound file as a stream of mono samples at its own rate, read in blocks so that length costs no memory.

libsndfile reads the formats (wav, flac, ogg, mp3 and their kin); any number of channels is mixed down by
their mean. Whatever is wrong with a file is said in a sentence that names it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from streamer.contract.errors import FaceError

F32 = npt.NDArray[np.float32]

_BLOCK_S = 0.5
_BLOCK_VALUES = 1 << 20  # of all channels, whatever rate and channels a header claims


@dataclass(frozen=True)
class Recording:
    """A sound file that was opened once and found readable.

    Attributes:
        path: the file. sample_rate_hz: its rate. duration_s: its length as its header tells it.
    """

    path: Path
    sample_rate_hz: int
    duration_s: float

    @classmethod
    def open(cls, path: Path) -> Recording:
        """Reads the file's header.

        Raises:
            FaceError: ``bad_audio_file``, there is no such file, it is no sound file, or it holds no sound.
        """
        try:
            with path.open("rb") as stream:
                is_empty = not stream.read(1)
        except OSError as error:
            raise FaceError("bad_audio_file", f"{path} cannot be read: {error.strerror}.") from None
        if is_empty:
            raise FaceError("bad_audio_file", f"{path} is an empty file.")
        try:
            header = soundfile.info(str(path))
        except (soundfile.SoundFileError, TypeError) as error:  # TypeError: the name ends with .raw
            raise _refusal(path, error) from None
        if header.frames < 1:
            raise FaceError("bad_audio_file", f"{path} holds no sound: it is 0 samples long.")
        return cls(path, header.samplerate, header.frames / header.samplerate)

    def chunks(self) -> Iterator[F32]:
        """The samples in order, mono float32 (n,), half a second at a time.

        Raises:
            FaceError: ``bad_audio_file``, the file turned out broken on the way.
        """
        heard = False
        try:
            with soundfile.SoundFile(str(self.path)) as sound:
                block = max(1, min(int(_BLOCK_S * self.sample_rate_hz), _BLOCK_VALUES // sound.channels))
                while len(pcm := sound.read(block, dtype="float32", always_2d=True)):
                    heard = True
                    # In float64, so that two huge finite samples cannot overflow; infinite ones, which the
                    # session refuses, may be added up in peace.
                    with np.errstate(invalid="ignore"):
                        mono = pcm.mean(axis=1, dtype=np.float64).astype(np.float32)
                    yield mono
        except soundfile.SoundFileError as error:
            raise _refusal(self.path, error) from None
        if not heard:
            raise FaceError("bad_audio_file", f"{self.path} holds no sound that can be decoded.")


def _refusal(path: Path, error: Exception) -> FaceError:
    reason = getattr(error, "error_string", None) or str(error)
    return FaceError("bad_audio_file", f"{path} is not a sound file that can be read: {reason.rstrip('. ')}.")
