"""From one stream to all who watch it: encodes each wanted format once, and fans it out.

State: the subscribers, the numbers of the next messages, and how much audio was passed through. Nothing here
waits for a subscriber; a slow one loses its own oldest frames and nothing else happens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from streamer.contract import wire
from streamer.contract.errors import FaceError
from streamer.core.crossfader import FrameBlock
from streamer.engine.bundle import Bundle
from streamer.server.metrics import Metrics
from streamer.server.subscriber import Media, Subscriber, show_all

F32 = npt.NDArray[np.float32]

_PASSTHROUGH_S = 0.5  # audio in one passthrough message, at most


class Broadcast:
    """The subscribers of one stream.

    Args:
        bundle: whose rig serves the ``vertices`` output.
        vertices_off_loop: compute vertices in a thread, for a rig that would hold up the event loop.
        metrics: where frames are counted. clock: monotonic seconds.
    """

    def __init__(
        self, bundle: Bundle, *, vertices_off_loop: bool, metrics: Metrics, clock: Callable[[], float]
    ) -> None:
        self._subscribers: dict[Subscriber, None] = {}  # in the order of coming: the speaker is served first
        self.frames = 0
        """Frames published since the start."""
        self._bundle = bundle
        self._rate_hz = bundle.manifest.timing.sample_rate_hz
        self._vertices_off_loop = vertices_off_loop
        self._metrics = metrics
        self._clock = clock
        self._seq = 0
        self._audio_seq = 0
        self._audio_epoch = 0
        self._audio_samples = 0  # passed through in this epoch

    def join(self, subscriber: Subscriber) -> None:
        """Adds a subscriber, who begins with the next block."""
        self._subscribers[subscriber] = None

    def leave(self, subscriber: Subscriber) -> None:
        """Forgets a subscriber; one that is not there is no mistake."""
        self._subscribers.pop(subscriber, None)

    async def publish(self, block: FrameBlock) -> None:
        """Sends a block's frames. Calls must not overlap."""
        wanted = dict.fromkeys(one.output for one in self._subscribers if one.output is not None)
        values: dict[wire.Kind, F32] = {"coefficients": block.values}
        if any(output.kind == "vertices" for output in wanted):
            values["vertices"] = await self._vertices(block.values)
        emitted = self._clock()
        present = list(self._subscribers)  # who comes meanwhile begins with the next block
        for output in wanted:
            media = Media(self._encode(block, values[output.kind], output, emitted), len(block.values))
            await show_all(media, (one for one in present if one.output == output))
        self._seq += 1
        self.frames += len(block.values)
        self._metrics.frames.inc(len(block.values))

    def pass_through(self, epoch: int, heard: F32) -> None:
        """Sends audio, float32 (n,) at the model's rate, to those who asked for it."""
        if epoch != self._audio_epoch:
            self._audio_epoch, self._audio_samples = epoch, 0
        listeners = [subscriber for subscriber in self._subscribers if subscriber.audio_passthrough]
        step = int(_PASSTHROUGH_S * self._rate_hz)
        for start in range(0, len(heard) if listeners else 0, step):
            samples = np.clip(np.rint(heard[start : start + step] * 32768), -32768, 32767).astype(np.int16)
            pts_s = (self._audio_samples + start) / self._rate_hz
            audio = wire.Passthrough(samples, epoch, self._audio_seq, pts_s, self._rate_hz)
            media = Media(wire.encode_passthrough(audio), 0)
            self._audio_seq += 1
            for subscriber in listeners:
                subscriber.show(media)
        self._audio_samples += len(heard)

    def tell(self, message: wire.ServerMessage) -> None:
        """Sends a control message to everybody."""
        for subscriber in self._subscribers:
            subscriber.tell(message)

    def finish(self, error: FaceError | None) -> None:
        """Nothing follows; an error is told last."""
        for subscriber in self._subscribers:
            subscriber.finish(error)

    # ---- inside ----

    def _encode(self, block: FrameBlock, values: F32, output: wire.OutputFormat, emitted: float) -> bytes:
        flags = wire.FLAG_EASED * block.eased | wire.FLAG_LAST * block.last
        return wire.encode_frames(
            wire.Frames(
                values=values,
                kind=output.kind,
                dtype=output.dtype,
                flags=flags,
                epoch=block.epoch,
                seq=self._seq,
                first_frame=block.first_frame,
                pts_s=block.pts_s,
                emit_time_s=emitted,
            )
        )

    async def _vertices(self, frames: F32) -> F32:
        if self._vertices_off_loop:
            vertices = await asyncio.to_thread(self._bundle.vertices, frames)
        else:
            vertices = self._bundle.vertices(frames)
        return vertices.reshape(len(frames), -1)
