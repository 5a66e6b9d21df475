"""A whole recording through exactly the live path: the same session, the same requests, one after another.

There is no other way to animate a file here. What the file gives is what a listener would have seen live,
so a recording is also the way to check the stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from streamer.contract.manifest import Manifest
from streamer.core.crossfader import FrameBlock
from streamer.core.options import SessionOptions
from streamer.core.session import Session
from streamer.engine.backend import Backend

F32 = npt.NDArray[np.float32]


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
    session = Session(manifest, options)
    for chunk in chunks:
        session.feed(chunk)
        yield from _denoise(session, backend)
    session.end()
    yield from _denoise(session, backend)


def _denoise(session: Session, backend: Backend) -> Iterator[FrameBlock]:
    while (request := session.next_request()) is not None:
        block = session.complete(request, backend.infer([request])[0])
        if block is not None:
            yield block
