"""A pipecat processor that gives a bot a face: what its text-to-speech says goes to DiffSpeaker Live and
comes back as frames of the face.

Put it between the text-to-speech and the transport::

    Pipeline([transport.input(), stt, llm, tts, FaceProcessor("ws://127.0.0.1:8600/v1/streams/bot"),
              transport.output()])

Every frame passes through unchanged. Beside them travel ``FaceFrame``s, for whoever drives an avatar in the
same process; a page or an engine elsewhere simply watches the same stream. Rules:

1. The connection is paced: audio is sent as it comes, in bursts, and plays in real time from then on, as the
   transport plays it. Faces come when they are due, ``delay_ms`` after the audio of the same instant: delay
   the sound by that much, or let the watchers do it.
2. An ``InterruptionFrame`` drops what was not shown yet and closes the mouth.
3. Between utterances the face hears silence, in real time, so that the last syllable is finished and the
   face goes on blinking.
4. A server that is away does not silence the bot: an ``ErrorFrame`` says so once, the audio passes, and the
   connection is tried again with the next utterance.

Needs pipecat-ai 1.14 and the Python client (``clients/python``) with websockets, numpy and msgspec.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from diffspeaker_client import AudioFormat, Face, FaceError, Frames, connect
from pipecat.frames.frames import (
    CancelFrame,
    DataFrame,
    EndFrame,
    Frame,
    InterruptionFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from websockets.exceptions import ConnectionClosed

_SILENCE_S = 0.04  # at a time: what the next word waits for at most
_CLOSE_S = 5.0


@dataclass
class FaceFrame(DataFrame):
    """Consecutive frames of the face, due now.

    Attributes:
        channels: the names of the columns. values: float32 (n, len(channels)).
        epoch: a number that grows with every interruption. pts_s: the first one's time on the epoch's clock.
        fps: frames per second.
    """

    channels: list[str] = field(default_factory=list)
    values: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    epoch: int = 0
    pts_s: float = 0.0
    fps: int = 30


class FaceProcessor(FrameProcessor):
    """See the top.

    Args:
        url: ``ws://HOST:PORT/v1/streams/<name>``; watchers use the same.
        token: the server's, where it wants one.
        style: the manner of speaking, ``{"cheerful": 1.0}``.
    """

    def __init__(
        self, url: str, *, token: str | None = None, style: dict[str, float] | None = None, **kwargs: object
    ) -> None:
        super().__init__(**kwargs)
        self._url, self._token, self._style = url, token, style
        self._face: Face | None = None
        self._format: AudioFormat | None = None
        self._connection = contextlib.AsyncExitStack()
        self._reading: asyncio.Task[None] | None = None
        self._idling: asyncio.Task[None] | None = None
        self._heard_until = 0.0  # when what was sent will have been played
        self._is_away = False

    @property
    def delay_ms(self) -> float:
        """How far the face lags its audio; 0 before the first utterance."""
        return self._face.welcome.face_delay_ms if self._face else 0.0

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Passes the frame on, and tells the face what it means for it."""
        await super().process_frame(frame, direction)
        try:
            if isinstance(frame, TTSStartedFrame):
                self._is_away = False
            elif isinstance(frame, TTSAudioRawFrame) and not self._is_away:
                await self._speak(frame)
            elif isinstance(frame, InterruptionFrame) and self._face:
                self._heard_until = 0.0
                await self._face.interrupt()
            elif isinstance(frame, EndFrame):
                await self._finish()
            elif isinstance(frame, CancelFrame):
                await self._leave()
        except (OSError, FaceError, ConnectionClosed) as error:
            self._is_away = True
            await self._leave()
            await self.push_error(f"The face is away: {error} The bot goes on without it.", error)
        await self.push_frame(frame, direction)

    async def cleanup(self) -> None:
        """Closes the connection."""
        await self._leave()
        await super().cleanup()

    # ---- inside ----

    async def _speak(self, frame: TTSAudioRawFrame) -> None:
        audio = AudioFormat("s16", frame.sample_rate, frame.num_channels)
        if self._face is None or self._format != audio or self._reading is None or self._reading.done():
            await self._leave()
            await self._join(audio)
        await self._send(np.frombuffer(frame.audio, "<i2"), frame.num_frames / frame.sample_rate)

    async def _join(self, audio: AudioFormat) -> None:
        self._format = audio
        self._face = await self._connection.enter_async_context(
            connect(self._url, "converse", token=self._token, audio=audio, style=self._style, paced=True)
        )
        self._reading = self.create_task(self._read(self._face))
        self._idling = self.create_task(self._idle(self._face, audio))

    async def _send(self, pcm: npt.NDArray[np.int16], seconds: float) -> None:
        assert self._face is not None
        self._heard_until = max(self._heard_until, time.monotonic()) + seconds
        await self._face.send_audio(pcm)

    async def _read(self, face: Face) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for event in face:
                if isinstance(event, Frames):
                    welcome = face.welcome
                    await self.push_frame(
                        FaceFrame(
                            channels=welcome.channels,
                            values=event.values,
                            epoch=event.epoch,
                            pts_s=event.pts_s,
                            fps=welcome.frame_rate_hz,
                        )
                    )

    async def _idle(self, face: Face, audio: AudioFormat) -> None:
        """Rule 3."""
        silence = np.zeros(int(_SILENCE_S * audio.sample_rate_hz) * audio.channels, np.int16)
        with contextlib.suppress(ConnectionClosed):
            while True:
                await asyncio.sleep(max(0.0, self._heard_until - time.monotonic()))
                if time.monotonic() >= self._heard_until and self._face is face:
                    await self._send(silence, _SILENCE_S)

    async def _finish(self) -> None:
        """Waits until the last syllable was shown."""
        if self._face and self._reading:
            await self._stop_idling()
            await self._face.end()
            left_s = max(0.0, self._heard_until - time.monotonic()) + _CLOSE_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await asyncio.wait([self._reading])
        await self._leave()

    async def _stop_idling(self) -> None:
        if self._idling:
            await self.cancel_task(self._idling)
            self._idling = None

    async def _leave(self) -> None:
        await self._stop_idling()
        if self._reading:
            await self.cancel_task(self._reading)
            self._reading = None
        self._face = None
        with contextlib.suppress(OSError, ConnectionClosed):
            await self._connection.aclose()
        self._connection = contextlib.AsyncExitStack()
