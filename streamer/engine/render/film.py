"""A film: pictures and sound into an MP4 (H.264 and AAC) that browsers, phones and chat programs play.

Pictures and sound are encoded as they are given and interleaved by their own times, so a film of any length
is made in bounded memory by whoever gives them in turns. The file appears under its name when it is whole.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.reformatter import Colorspace
from av.video.stream import VideoStream

from streamer.contract.errors import FaceError

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]

_BT709 = 1  # the number of HD's colours in H.264's tables (ITU-T H.273)
_LIMITED_RANGE = 1


class Film:
    """An open film; ``record`` makes one. Picture i stands at i / frame_rate_hz s, sound begins at 0 s."""

    def __init__(
        self, container: OutputContainer, size: tuple[int, int], frame_rate_hz: int, sample_rate_hz: int
    ) -> None:
        self._container = container
        self._size, self._frame_rate_hz, self._sample_rate_hz = size, frame_rate_hz, sample_rate_hz
        self._video: VideoStream = container.add_stream(
            "libx264", rate=frame_rate_hz, options={"crf": "17", "preset": "veryfast"}
        )
        self._video.height, self._video.width = size
        self._video.pix_fmt = "yuv420p"
        context = self._video.codec_context
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED_RANGE
        self._audio: AudioStream = container.add_stream("aac", rate=sample_rate_hz, layout="mono")
        self._audio.bit_rate = 96_000
        self._pictures = self._samples = 0

    def show(self, picture: U8) -> None:
        """The next picture, uint8 (height, width, 3)."""
        if picture.shape != (*self._size, 3):
            raise ValueError(f"a picture of {picture.shape} in a film of {self._size}")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)
        frame.pts, frame.time_base = self._pictures, Fraction(1, self._frame_rate_hz)
        self._pictures += 1
        self._container.mux(self._video.encode(frame))

    def play(self, samples: F32) -> None:
        """The next samples, mono float32 (n,), in [-1, 1]."""
        if not len(samples):
            return
        frame = av.AudioFrame.from_ndarray(
            np.clip(samples, -1, 1).astype(np.float32)[None], format="fltp", layout="mono"
        )
        frame.sample_rate = self._sample_rate_hz
        frame.pts, frame.time_base = self._samples, Fraction(1, self._sample_rate_hz)
        self._samples += len(samples)
        self._container.mux(self._audio.encode(frame))

    def _finish(self) -> None:
        for stream in (self._video, self._audio):
            self._container.mux(stream.encode(None))


@contextmanager
def record(path: Path, size: tuple[int, int], frame_rate_hz: int, sample_rate_hz: int) -> Iterator[Film]:
    """A film that becomes ``path`` when the block ends well, and leaves nothing when it does not.

    Args:
        path: the .mp4 to write.
        size: (height, width) of its pictures, both even, as H.264 wants them.
        frame_rate_hz: pictures per second.
        sample_rate_hz: of the sound; a rate that AAC knows, 8,000 to 96,000.

    Raises:
        FaceError: ``bad_config``, odd sizes; ``bad_output``, the file cannot be written.
    """
    if size[0] % 2 or size[1] % 2:
        raise FaceError("bad_config", f"A film of {size[1]}×{size[0]} pixels needs even sizes.")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with av.open(str(part), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            film = Film(container, size, frame_rate_hz, sample_rate_hz)
            yield film
            film._finish()
        part.replace(path)
    except OSError as error:
        raise FaceError("bad_output", f"{path} cannot be written: {error.strerror or error}.") from None
    finally:
        part.unlink(missing_ok=True)
