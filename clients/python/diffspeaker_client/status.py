"""What a command tells its user while it runs: sentences, and one line that is rewritten.

Everything goes to stderr, so that stdout stays free for what a command prints. The line is there only on a
terminal; sentences are always said. Rules: a sentence never breaks the line, and the same sentence is not
said twice in a row.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

_EVERY_S = 1.0
_CLEAR = "\r\x1b[K"


class Status:
    """Sentences and a line.

    Args:
        stream: where they go; stderr where None.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._is_terminal = self._stream.isatty()
        self._last = ""
        self._line = ""
        self._shown_s = float("-inf")

    def say(self, sentence: str) -> None:
        """Prints a sentence on a line of its own, unless it was the last one said."""
        if sentence == self._last:
            return
        self._last = sentence
        clear = _CLEAR if self._line else ""
        self._stream.write(f"{clear}{sentence}\n{self._line}")
        self._stream.flush()

    def forget(self) -> None:
        """What was said last may be said again: it has come true anew."""
        self._last = ""

    def show(self, line: Callable[[], str]) -> None:
        """Rewrites the line once a second; ``line`` is asked for it only then, and only on a terminal."""
        now_s = time.monotonic()
        if not self._is_terminal or now_s - self._shown_s < _EVERY_S:
            return
        self._shown_s, self._line = now_s, line()
        self._stream.write(f"{_CLEAR}{self._line}")
        self._stream.flush()

    def close(self) -> None:
        """Ends the line, so that whatever follows begins on a new one."""
        if self._line:
            self._line = ""
            self._stream.write("\n")
            self._stream.flush()
