"""Many utterances from a few processes, in an order that does not depend on how many there are.

The parent hands out numbers and is the only one that writes; a worker keeps its engines and its aligner
loaded and returns bytes. Work in flight is bounded, and results are taken in the order of their numbers, so
that stopping at any time leaves a beginning of the same corpus, and at most what was in flight is lost. An
engine is done when it has spoken for its share of the time, people also when they have said all. Workers do
not hear Ctrl-C, which is for the parent, and end by themselves when the parent is gone.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import count, islice

from model.align import Aligner
from model.corpus.engines import ENGINES, READERS
from model.corpus.folder import CorpusFolder
from model.corpus.people import People
from model.corpus.sentences import dealt
from model.corpus.utterance import Engine, Rejected, Utterance, make_utterance

_IN_FLIGHT_PER_WORKER = 2
_MOST_REJECTED_IN_A_ROW = 25


class Stuck(Exception):
    """The work cannot go on; the message says why. What was made is kept."""


@dataclass(frozen=True)
class Order:
    """How much of which engines: ``seconds`` of speech from each, of these sentences."""

    engines: Sequence[str]
    seconds: float
    sentences: Sequence[str]
    seed: int
    workers: int


def produce(folder: CorpusFolder, order: Order, advance: Callable[[str, float, int], None]) -> None:
    """Makes what is missing of the order.

    ``advance(engine, seconds, rejected)`` is told of every utterance, also of those that were there before.
    Raises Stuck.
    """
    lacking = []
    for engine in order.engines:
        done = folder.done(engine)
        advance(engine, done.seconds, len(done.rejected))
        if done.seconds < order.seconds:
            lacking.append(engine)
    if not lacking:
        return
    with _workers(order.workers) as pool:
        try:
            for engine in lacking:
                _produce_engine(pool, folder, order, engine, advance)
        except KeyboardInterrupt:
            print("\nStopping as soon as the sentences in hand are spoken.", file=sys.stderr)
            raise
        except BrokenProcessPool as broken:
            raise Stuck(
                "a worker died, perhaps for want of memory: try again, or with fewer --workers"
            ) from broken


def _produce_engine(
    pool: ProcessPoolExecutor,
    folder: CorpusFolder,
    order: Order,
    engine: str,
    advance: Callable[[str, float, int], None],
) -> None:
    """One engine until it has spoken for long enough."""
    done = folder.done(engine)
    listed = ENGINES[engine].listed
    numbers = iter(count(1) if listed is None else range(1, len(listed()) + 1))
    numbers = filter(lambda number: not done.has(number), numbers)
    in_flight: deque[tuple[int, Future[Utterance | Rejected]]] = deque()
    seconds, in_a_row = done.seconds, 0
    try:
        while seconds < order.seconds:
            for number in islice(numbers, order.workers * _IN_FLIGHT_PER_WORKER - len(in_flight)):
                text = ""
                if engine in READERS:
                    text = dealt(order.sentences, READERS.index(engine), len(READERS), number - 1)
                in_flight.append((number, pool.submit(_make, engine, text, order.seed, number)))
            if not in_flight:
                break
            number, future = in_flight.popleft()
            made = future.result()
            if isinstance(made, Rejected):
                folder.reject(engine, number, made)
                advance(engine, 0.0, 1)
                in_a_row += 1
                if in_a_row == _MOST_REJECTED_IN_A_ROW:
                    raise Stuck(f"{engine}: {in_a_row} sentences in a row were rejected ({made.reason})")
            else:
                folder.keep(engine, number, made)
                length = float(made.line["duration_s"])  # type: ignore[arg-type]
                advance(engine, length, 0)
                seconds += length
                in_a_row = 0
    finally:
        for _, future in in_flight:
            future.cancel()


@contextmanager
def _workers(number: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that ignore Ctrl-C, and so do the commands that they start."""
    pool = ProcessPoolExecutor(number, multiprocessing.get_context("spawn"), _follow_parent)
    hears = signal.signal(signal.SIGINT, signal.SIG_IGN)  # is inherited by processes that start now
    try:
        for started in [pool.submit(int) for _ in range(number)]:  # one process starts with each
            started.result()
    finally:
        signal.signal(signal.SIGINT, hears)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _follow_parent() -> None:
    """Ends this process when its parent is gone, also when the parent was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _make(engine: str, text: str, seed: int, number: int) -> Utterance | Rejected:
    loaded = _engine(engine)
    if isinstance(loaded, People):
        return loaded.utterance(engine, _aligner(), seed, number)
    aligner = _aligner() if ENGINES[engine].aligned else None
    return make_utterance(engine, loaded, aligner, text, seed, number)


@cache
def _engine(name: str) -> Engine | People:
    return ENGINES[name].load()


@cache
def _aligner() -> Aligner:
    return Aligner()
