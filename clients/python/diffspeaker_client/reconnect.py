"""What went wrong with a connection, in a sentence, and trying again.

``trouble_of`` turns whatever ``connect`` and a ``Face`` raise into what a person should read, and says
whether waiting helps. ``keep_trying`` runs connections one after another. Rules:

1. A server that is away, full or stopping, and a stream that nobody speaks on yet, are waited for: half a
   second at first, twice as long each time, eight seconds at most; one second at most for a stream, whose
   first words should not be missed. A connection that was welcomed starts the waiting anew.
2. What waiting does not mend (a wrong token, a name that is not possible, a bundle without coefficients) is
   raised at once.
3. Each reason is told once, until it changes or a connection was welcomed in between. That nobody speaks on
   a stream which is over goes without saying.
4. Who comes back after a connection was lost is told how long it took.
5. What goes wrong beside an open connection (a disk that is full, a reader of the output that went away) is
   not the connection's trouble, and is raised as it is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from diffspeaker_client.status import Status
from streamer.contract.errors import FaceError

_FIRST_S, _LONGEST_S, _LONGEST_FOR_A_STREAM_S = 0.5, 8.0, 1.0
_WAITED_FOR = {"unknown_stream", "at_capacity", "shutting_down", "inference_failed", "hello_timeout"}
_WAITED_FOR |= {"engine_away"}
_WAITED_FOR |= {"internal"}  # which a connection that was closed before its welcome is, too
_AGAIN = "Trying again."


class Unreachable(Exception):
    """A connection that could not be made or kept; ``str`` is the sentence and what to do."""

    exit_code = 1


@dataclass(frozen=True)
class Trouble:
    """What went wrong with a connection.

    Attributes:
        sentence: what, and what to do about it.
        passes: whether waiting may mend it. longest_s: how long to wait for that at most.
    """

    sentence: str
    passes: bool
    longest_s: float = _LONGEST_S


def trouble_of(error: Exception, url: str) -> Trouble | None:
    """The trouble that an exception of ``connect`` or a ``Face`` means; None where it is a bug."""
    if isinstance(error, FaceError):
        longest_s = _LONGEST_FOR_A_STREAM_S if error.code == "unknown_stream" else _LONGEST_S
        return Trouble(str(error), error.code in _WAITED_FOR, longest_s)
    if isinstance(error, ConnectionClosed):
        return Trouble(f"The connection to {url} was lost.", True)
    if isinstance(error, InvalidURI):
        return Trouble(f"{url} is not an address of a server. Use ws://HOST:PORT with --server.", False)
    if isinstance(error, InvalidHandshake):
        return Trouble(f"What answers at {url} is no DiffSpeaker server: {error}. See --server.", True)
    if isinstance(error, OSError):
        reason = _reason(error)
        return Trouble(
            f"The server at {url} cannot be reached: {reason}. Start it with `diffspeaker serve`, or name it "
            "with --server.",
            True,
        )
    return None


def _reason(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError) or "Connect call failed" in str(error):
        return "nothing listens there"
    if isinstance(error, TimeoutError):
        return "no answer"
    return (error.strerror or str(error) or type(error).__name__).rstrip(".")


class Attempts:
    """How long to wait before each new connection.

    Args:
        status: where it is said how long it took. clock: monotonic seconds.

    Attributes:
        has_been_welcomed: whether any of them was. is_open: whether the present one was.
    """

    def __init__(self, status: Status, clock: Callable[[], float] = time.monotonic) -> None:
        self._status = status
        self._clock = clock
        self._next_s = _FIRST_S
        self._lost: float | None = None  # when the last connection broke off
        self.has_been_welcomed = self.is_open = False

    def welcomed(self) -> None:
        """A connection was welcomed: the next wait is short again, and its reason is told again."""
        self._status.forget()
        self._next_s = _FIRST_S
        self.has_been_welcomed = self.is_open = True
        if self._lost is not None:
            self._status.say(f"Back after {self._clock() - self._lost:.1f} s.")
            self._lost = None

    def broken(self) -> None:
        """The present connection broke off, or could not be made."""
        if self.is_open:
            self._lost = self._clock()
            self.is_open = False

    def wait_s(self, longest_s: float) -> float:
        """The next wait, in seconds."""
        wait_s = min(self._next_s, longest_s)
        self._next_s = min(2 * self._next_s, _LONGEST_S)
        return wait_s


async def keep_trying(
    connection: Callable[[Attempts], Awaitable[bool]],
    url: str,
    status: Status,
    *,
    once: bool,
    retries: Callable[[FaceError, Attempts], bool] = lambda error, attempts: False,
) -> None:
    """Runs connections until one says that it was the last.

    Args:
        connection: one whole connection; calls ``welcomed``, and returns whether another should follow.
        url: of the stream, for the sentences.
        status: where they are said.
        once: whether the first connection is the last, however it ends.
        retries: further errors of the server that are waited for.

    Raises:
        FaceError: what the server refused and waiting does not mend.
        Unreachable: the connection failed and ``once`` forbids another.
    """
    attempts = Attempts(status)
    is_over = False
    while True:
        longest_s = _LONGEST_FOR_A_STREAM_S
        try:
            if not await connection(attempts) or once:
                return
            attempts.is_open, is_over = False, True
        except Exception as error:
            trouble = trouble_of(error, url)
            if trouble is None or (attempts.is_open and isinstance(error, OSError)):
                raise
            code = error.code if isinstance(error, FaceError) else ""
            passes = trouble.passes or (isinstance(error, FaceError) and retries(error, attempts))
            if once or not passes:
                if code:
                    raise
                raise Unreachable(trouble.sentence) from error
            is_over = is_over and code == "unknown_stream"
            if not is_over:
                status.say(f"{trouble.sentence} {_AGAIN}")
            attempts.broken()
            longest_s = trouble.longest_s
        await asyncio.sleep(attempts.wait_s(longest_s))
