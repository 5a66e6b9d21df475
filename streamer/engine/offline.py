"""Whole recordings through exactly the live path: the same sessions, the same requests, one after another.

There is no other way to animate a file here. What the file gives is what a listener would have seen live,
so a recording is also the way to check the stream.

Several recordings can go side by side: each has a session of its own, and the windows of all are denoised as
one batch, as a server does it for many speakers. That is faster and changes nothing else. Audio is read as it
is needed, so nothing is ever held of a recording but the session's own windows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from streamer.contract.manifest import Manifest
from streamer.core.crossfader import FrameBlock
from streamer.core.options import SessionOptions
from streamer.core.session import Session, WindowRequest
from streamer.engine.backend import Backend

F32 = npt.NDArray[np.float32]
Clip = tuple[Iterable[F32], SessionOptions]


def animate(
    chunks: Iterable[F32], manifest: Manifest, backend: Backend, options: SessionOptions
) -> Iterator[FrameBlock]:
    """Frames of a recording, in order, as its audio is read.

    Args:
        chunks: mono float32 (n,) of any lengths, at ``options.sample_rate_hz``.
        manifest: the bundle's manifest.
        backend: computes the motion, in batches of one.
        options: what a client would choose in its hello.

    Raises:
        FaceError: ``bad_audio_values`` or ``inference_failed``.
    """
    for _, block in animate_together([(chunks, options)], manifest, backend):
        yield block


def animate_together(
    clips: Iterable[Clip], manifest: Manifest, backend: Backend, at_once: int = 16
) -> Iterator[tuple[int, FrameBlock]]:
    """Frames of many recordings, denoised in batches: what ``animate`` gives of each, interleaved.

    Args:
        clips: chunks and options of each, as ``animate`` takes them. A clip is taken when its turn comes.
        manifest: the bundle's manifest.
        backend: computes the motion.
        at_once: how many recordings go side by side, which is the largest batch. When one ends, the next
            takes its place.

    Returns:
        The clip's number, from 0, and a block of its frames; each clip's own blocks are in order.

    Raises:
        FaceError: ``bad_audio_values`` or ``inference_failed``.
    """
    waiting = enumerate(clips)
    reading: list[_Reading] = []
    while True:
        ready = [(one, request) for one in reading if (request := one.next_request()) is not None]
        while len(ready) < at_once and (entry := next(waiting, None)) is not None:
            one = _Reading(*entry, manifest)
            if (request := one.next_request()) is not None:
                ready.append((one, request))
        if not ready:
            return
        reading = [one for one, _ in ready]
        motions = backend.infer([request for _, request in ready])
        for (one, request), motion in zip(ready, motions, strict=True):
            block = one.session.complete(request, motion)
            if block is not None:
                yield one.number, block


class _Reading:
    """A recording on its way through its session."""

    def __init__(self, number: int, clip: Clip, manifest: Manifest) -> None:
        chunks, options = clip
        self.number = number
        self.session = Session(manifest, options)
        self._chunks = iter(chunks)

    def next_request(self) -> WindowRequest | None:
        """The next window, for which as much audio is read as it takes; None when all frames are out."""
        while (request := self.session.next_request()) is None and not self.session.is_drained:
            chunk = next(self._chunks, None)
            if chunk is None:
                self.session.end()
            else:
                self.session.feed(chunk)
        return request
