"""A film: pictures and sound into an MP4 (H.264 and AAC) that browsers, phones and chat programs play.

Pictures and sound are encoded as they are given and interleaved by their own times, so a film of any length
is made in bounded memory by whoever gives them in turns. Sound of a rate that AAC does not know is resampled
to 48 kHz. The file appears under its name when it is whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.reformatter import Colorspace
from av.video.stream import VideoStream

from streamer.contract.errors import FaceError
from streamer.engine.animation.whole import refusal, whole_path

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]

_BT709 = 1  # the number of HD's colours in H.264's tables (ITU-T H.273)
_LIMITED_RANGE = 1
_AAC_RATES_HZ = frozenset(av.codec.Codec("aac", "w").audio_rates or ())
_USUAL_RATE_HZ = 48_000


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
        known = sample_rate_hz in _AAC_RATES_HZ
        self._sound_rate_hz = sample_rate_hz if known else _USUAL_RATE_HZ
        self._audio: AudioStream = container.add_stream("aac", rate=self._sound_rate_hz, layout="mono")
        self._audio.bit_rate = min(96_000, 4 * self._sound_rate_hz)
        self._resampler = None if known else AudioResampler("fltp", "mono", self._sound_rate_hz)
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
        self._hear(frame)

    def _hear(self, frame: av.AudioFrame | None) -> None:
        """Encodes a frame at its own rate; None is the end."""
        for resampled in [frame] if self._resampler is None else self._resampler.resample(frame):
            self._container.mux(self._audio.encode(resampled))

    def _finish(self) -> None:
        self._container.mux(self._video.encode(None))
        self._hear(None)
        if self._resampler is not None:
            self._container.mux(self._audio.encode(None))


@contextmanager
def record(path: Path, size: tuple[int, int], frame_rate_hz: int, sample_rate_hz: int) -> Iterator[Film]:
    """A film that becomes ``path`` when the block ends well, and leaves nothing when it does not.

    Args:
        path: the .mp4 to write.
        size: (height, width) of its pictures, both even, as H.264 wants them.
        frame_rate_hz: pictures per second.
        sample_rate_hz: of the sound.

    Raises:
        FaceError: ``bad_config``, odd sizes; ``bad_output``, the file cannot be written.
    """
    if size[0] % 2 or size[1] % 2:
        raise FaceError("bad_config", f"A film of {size[1]}×{size[0]} pixels needs even sizes.")
    try:
        with (
            whole_path(path) as part,
            av.open(str(part), "w", format="mp4", options={"movflags": "+faststart"}) as container,
        ):
            film = Film(container, size, frame_rate_hz, sample_rate_hz)
            yield film
            film._finish()
    except av.FFmpegError as error:
        raise refusal(path, error.errno, error.strerror or str(error)) from None
