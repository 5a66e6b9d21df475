"""Which event loop runs, and how a signal reaches it: uvloop where it is installed, asyncio's own elsewhere.

The first SIGINT or SIGTERM asks for a graceful stop; a second one ends the process in the usual way. A
process that others stop, too (a front, a supervisor that tells all of a group), heeds the first one only.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, or None for asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def run(main: Callable[[asyncio.Event], Coroutine[Any, Any, T]], *, heeds_once: bool = False) -> T:
    """Runs ``main(stop)`` to its end; call it on the main thread.

    Args:
        main: the program; ``stop`` is set by the first signal. heeds_once: whether later ones change nothing.
    """

    async def with_signals() -> T:
        stop = asyncio.Event()
        _on_signal(stop.set, heeds_once)
        return await main(stop)

    previous = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(with_signals())
    finally:
        for number, handler in previous.items():
            if handler is not None:  # None: not Python's to restore
                signal.signal(number, handler)


def _on_signal(callback: Callable[[], None], heeds_once: bool) -> None:
    loop = asyncio.get_running_loop()

    def heed() -> None:
        for number in _SIGNALS:
            usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, signal.SIG_IGN if heeds_once else usual)
        callback()

    for number in _SIGNALS:
        try:
            loop.add_signal_handler(number, heed)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(heed))
