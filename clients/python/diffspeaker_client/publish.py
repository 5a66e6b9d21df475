"""Speaking on a stream: a sound file or a microphone, until it ends.

Two tasks of one connection: one sends what the source gives, the other reads what the server says. Rules:

1. A server that is away is waited for (``reconnect``), and so is a name that the server still holds for a
   connection of ours which broke.
2. A lost connection is resumed where the server still keeps the stream: for those who watch, the speaker was
   only silent. A file plays in real time and goes on behind what the server has heard of it, so that nothing
   is missed and nothing comes twice; it is heard in full when the server has said ``ended``. A microphone has
   no end, and what is said while nobody listens is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from diffspeaker_client.client import Face, connect
from diffspeaker_client.reconnect import Attempts, keep_trying
from diffspeaker_client.status import Status
from streamer.contract.errors import FaceError
from streamer.contract.wire import AudioFormat

F32 = npt.NDArray[np.float32]

_QUIETEST_DB = -90.0


class Source(Protocol):
    """Something that is heard: ``SoundFile``, ``Microphone``.

    Attributes:
        name: for people. format: of the chunks. is_endless: whether it has no end of its own.
    """

    name: str
    format: AudioFormat
    is_endless: bool

    def chunks(self) -> AsyncIterator[F32]:
        """PCM from now on, float32 (n, channels) in [-1, 1], as it is heard."""
        ...

    def go_back(self, frames: int) -> None:
        """Has the last sample frames heard once more, where that makes sense."""
        ...


@dataclass(frozen=True)
class Speech:
    """What is said to whom.

    Attributes:
        url: of the stream. token: the server's, where it wants one.
        style: weights and scales; the bundle's where None. lookahead_ms: the server's choice where None.
        once: whether a lost connection is the end.
    """

    url: str
    token: str | None = None
    style: Mapping[str, float] | None = None
    lookahead_ms: float | None = None
    once: bool = False


class Publisher:
    """One source to one stream.

    Args:
        speech: what is said to whom. source: entered already. status: for the user.
    """

    def __init__(self, speech: Speech, source: Source, status: Status) -> None:
        self._speech, self._source, self._status = speech, source, status
        self._session: str | None = None  # of the present connection, or the one that was lost
        self._given = 0  # sample frames of it
        self._spoken_s = 0.0
        self._level_db = _QUIETEST_DB

    async def run(self) -> None:
        """Speaks until the source ends, or until it is cancelled.

        Raises:
            FaceError, Unreachable: see ``keep_trying``.
        """
        speech = self._speech
        await keep_trying(self._connect, speech.url, self._status, once=speech.once, retries=_still_held)

    async def _connect(self, attempts: Attempts) -> bool:
        speech = self._speech
        async with connect(
            speech.url,
            "publish",
            token=speech.token,
            audio=self._source.format,
            style=speech.style,
            lookahead_ms=speech.lookahead_ms,
            resume=self._session,
        ) as face:
            attempts.welcomed()
            welcome = face.welcome
            if welcome.session == self._session:
                self._source.go_back(self._given - welcome.received_samples)
            self._session, self._given = welcome.session, welcome.received_samples
            self._status.say(
                f"{self._source.name} speaks as {welcome.stream!r} at {speech.url}; its face is "
                f"{welcome.face_delay_ms:.0f} ms behind. Ctrl-C ends it."
            )
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(_listen(face))
                    await self._speak(face)
            except BaseExceptionGroup as group:
                raise group.exceptions[0] from None
        return False

    async def _speak(self, face: Face) -> None:
        async for chunk in self._source.chunks():
            self._given += len(chunk)
            await face.send_audio(chunk)
            self._spoken_s += len(chunk) / self._source.format.sample_rate_hz
            self._level_db = level_db(chunk)
            self._status.show(self._line)
        await face.end()

    def _line(self) -> str:
        return f"{self._spoken_s:.0f} s spoken | {self._level_db:.0f} dB"


def level_db(chunk: F32) -> float:
    """How loud a chunk is, in dB below full scale; −90 for silence."""
    power = float(np.mean(np.square(chunk, dtype=np.float64))) if len(chunk) else 0.0
    return max(_QUIETEST_DB, 10 * float(np.log10(max(power, 1e-9))))


async def _listen(face: Face) -> None:
    """Reads until the server closes; raises the error that it closes with."""
    async for _ in face:
        pass


def _still_held(error: FaceError, attempts: Attempts) -> bool:
    return error.code == "stream_taken" and attempts.has_been_welcomed
