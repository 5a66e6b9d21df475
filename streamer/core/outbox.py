"""What one subscriber has not yet been sent: a bounded queue that forgets the oldest frames first.

A reader that stalls must cost the server a fixed amount of memory and the other readers nothing. So media
beyond the bounds pushes out the oldest media; a gap in ``seq`` tells the client, ``dropped`` tells ``stats``.
Control messages are never dropped, and everything leaves in the order in which it came.

A pure container: the server waits around it.
"""

from __future__ import annotations

from collections import deque


class Outbox:
    """Messages of one subscriber, in order.

    Args:
        max_messages: the most media messages that it holds, at least 1.
        max_bytes: the most bytes of media that it holds; a single larger message is still taken, alone.
    """

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        if max_messages < 1:
            raise ValueError("an outbox holds at least one message")
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._queue: deque[tuple[bytes | str, bool]] = deque()  # (message, is it media)
        self._media_messages = 0
        self._media_bytes = 0
        self.dropped = 0

    def __len__(self) -> int:
        """How many messages wait, of either kind."""
        return len(self._queue)

    @property
    def media_bytes(self) -> int:
        """How many bytes of media wait."""
        return self._media_bytes

    def put_control(self, message: str) -> None:
        """Adds a control message, which will not be dropped."""
        self._queue.append((message, False))

    def put_media(self, message: bytes) -> int:
        """Adds a media message; returns how many older ones it pushed out."""
        self._queue.append((message, True))
        self._media_messages += 1
        self._media_bytes += len(message)
        pushed_out = 0
        while self._media_messages > 1 and (
            self._media_messages > self._max_messages or self._media_bytes > self._max_bytes
        ):
            self._drop_oldest()
            pushed_out += 1
        return pushed_out

    def take(self) -> bytes | str:
        """Removes and returns the oldest message.

        Raises:
            IndexError: there is none.
        """
        message, is_media = self._queue.popleft()
        if is_media:
            self._media_messages -= 1
            self._media_bytes -= len(message)
        return message

    def _drop_oldest(self) -> None:
        place = next(i for i, (_, is_media) in enumerate(self._queue) if is_media)
        self._media_messages -= 1
        self._media_bytes -= len(self._queue[place][0])
        del self._queue[place]
        self.dropped += 1
