"""Watching a stream: every frame, printed or written as a table.

Frames go to a ``Sink`` as they come, none is left out and none is made up. The table is the one that
``diffspeaker animate`` writes: ``time_s`` and the channels by name. Rule: the time is the stream's own until
its clock starts anew (an interrupt, another speaker); from then on it goes on where it was, so that it only
ever grows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TextIO

import numpy as np
import numpy.typing as npt

from diffspeaker_client.client import connect
from diffspeaker_client.reconnect import Attempts, keep_trying
from diffspeaker_client.status import Status
from streamer.contract import wire
from streamer.contract.errors import FaceError

F32 = npt.NDArray[np.float32]

_MOST_NAMED = 4
_LEAST_NAMED = 0.05


class Sink(Protocol):
    """Takes frames."""

    def write(self, channels: Sequence[str], times_s: npt.NDArray[np.float64], values: F32) -> None:
        """Takes frames: ``values`` float32 (n, len(channels)), at ``times_s`` (n,)."""
        ...


class Table:
    """Frames as rows of comma-separated values.

    Args:
        stream: where they go; it is flushed after each message.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._channels: tuple[str, ...] | None = None

    def write(self, channels: Sequence[str], times_s: npt.NDArray[np.float64], values: F32) -> None:
        """See ``Sink``; raises ``bad_output`` where the columns have changed or the disk is full."""
        if self._channels not in (None, tuple(channels)):
            raise FaceError(
                "bad_output", "The stream has come back with other channels.", "Write to a new file."
            )
        try:
            if self._channels is None:
                self._channels = tuple(channels)
                self._stream.write(",".join(["time_s", *channels]) + "\n")
            np.savetxt(self._stream, np.column_stack([times_s, values]), fmt="%.6f", delimiter=",")
            self._stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise FaceError(
                "bad_output", f"The table cannot be written: {error.strerror}.", "Make room."
            ) from None


class Glance:
    """The newest frame of each message as a line: when, and the channels that are open widest.

    Args:
        stream: where it goes.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, channels: Sequence[str], times_s: npt.NDArray[np.float64], values: F32) -> None:
        """See ``Sink``."""
        face = values[-1]
        widest = [place for place in np.argsort(-face)[:_MOST_NAMED] if face[place] >= _LEAST_NAMED]
        named = "  ".join(f"{channels[place]} {face[place]:.2f}" for place in widest) or "at rest"
        self._stream.write(f"{times_s[-1]:9.3f} s  {named}\n")
        self._stream.flush()


class Watcher:
    """One stream to one sink.

    Args:
        url: of the stream. token: the server's, where it wants one. sink: takes the frames.
        status: for the user. once: whether the first connection is the last.
    """

    def __init__(self, url: str, token: str | None, sink: Sink, status: Status, *, once: bool) -> None:
        self._url, self._token, self._sink, self._status, self._once = url, token, sink, status, once
        self._clock: tuple[str, int] | None = None  # session and epoch
        self._base_s = 0.0
        self._next_s = 0.0

    async def run(self) -> None:
        """Watches until it is cancelled; with ``once``, until the stream is over.

        Raises:
            FaceError, Unreachable: see ``keep_trying``.
        """
        await keep_trying(self._watch, self._url, self._status, once=self._once)

    async def _watch(self, attempts: Attempts) -> bool:
        async with connect(self._url, "watch", token=self._token) as face:
            attempts.welcomed()
            welcome = face.welcome
            self._status.say(f"Watching {welcome.stream!r} at {self._url}. Ctrl-C ends it.")
            async for event in face:
                if isinstance(event, wire.Frames) and len(event.values):
                    times_s = self._times_s(event, welcome.session, welcome.frame_rate_hz)
                    self._sink.write(welcome.channels, times_s, event.values)
        if not self._once:
            self._status.say(f"The stream {welcome.stream!r} is over. Waiting for it to be spoken on again.")
        return True

    def _times_s(self, frames: wire.Frames, session: str, rate_hz: int) -> npt.NDArray[np.float64]:
        clock = (session, frames.epoch)
        if clock != self._clock:
            self._base_s = 0.0 if self._clock is None else self._next_s
            self._clock = clock
        indices = frames.first_frame + np.arange(len(frames.values), dtype=np.float64)
        times_s: npt.NDArray[np.float64] = self._base_s + indices / rate_hz
        self._next_s = float(times_s[-1]) + 1 / rate_hz
        return times_s
