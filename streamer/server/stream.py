"""One speaker: received audio on one side, subscribers on the other, a session and the engine between them.

::

    hear → inbox → session → denoiser → session → broadcast → every subscriber's outbox

``run`` is the one task. State: the session; the inbox, audio received and not yet fed; how the stream
will end. Rules:

1. The session is fed only while it wants audio, so what an ``interrupt`` must drop lies in the inbox.
2. Frames and what is said about them go out under one lock, in the session's order.
3. The stream ends when its session is drained, or at the first failure. Every subscriber is told which. A
   speaker who is lost has a ``seat`` to come back to; until then the stream just hears nothing.
4. When a live speaker's window took longer than a hop and others wait behind it, those are denoised as one,
   until the face is in time again. A speaker who was ever ahead of real time (a file, a script) is not live
   and waits for every window, so that the same audio gives the same frames.
5. Where the engine is away (a pool of machines, of which some are lost), the window is asked again, with
   those that have become due meanwhile, until it is back or ``_PATIENCE_S`` have passed: late is better than
   never.
6. A paced stream's window is denoised when its first frame is due within ``PACED_LEAD_S``; until then its
   audio waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from streamer.contract import wire
from streamer.contract.errors import FaceError
from streamer.core.crossfader import FrameBlock
from streamer.core.session import Session, State, WindowRequest
from streamer.engine.inference_thread import Outcome
from streamer.server.broadcast import Broadcast
from streamer.server.denoiser import Denoiser
from streamer.server.inbox import Inbox
from streamer.server.metrics import Metrics
from streamer.server.seat import Seat
from streamer.server.subscriber import Subscriber
from streamer.server.tracing import Tracer

F32 = npt.NDArray[np.float32]

log = logging.getLogger(__name__)

PACED_LEAD_S = 0.25
_POLL_S = 0.1  # how long a paced stream sleeps at most
_PATIENCE_S, _PAUSE_S = 10.0, 0.05  # with an engine that is away, and between questions


class Stream:
    """One named speaker.

    Args:
        name: the stream's name. session_id: unique in the server.
        session: a fresh session.
        denoiser: computes its windows. broadcast: takes its frames.
        read_ahead_s: audio that the inbox holds.
        allowance_s: the time allowed for computing, part of the published face delay.
        catches_up: whether rule 4 holds. paced: whether rule 6 does. tracer: told of every window, or None.
        metrics: where it counts. clock: monotonic seconds.
    """

    def __init__(
        self,
        name: str,
        session_id: str,
        session: Session,
        denoiser: Denoiser,
        broadcast: Broadcast,
        *,
        read_ahead_s: float,
        allowance_s: float,
        catches_up: bool,
        paced: bool,
        tracer: Tracer | None,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self.name = name
        self.session_id = session_id
        self.broadcast = broadcast
        self.seat = Seat(self.end)
        self._session = session
        self._denoiser = denoiser
        self._allowance_s = allowance_s
        self._catches_up = catches_up
        self._paced = paced
        self._tracer = tracer
        self._metrics = metrics
        self._clock = clock

        self._inbox = Inbox(session.options.sample_rate_hz, read_ahead_s, clock)
        self._input_over = False
        self._farewell: FaceError | None = None
        self._wake = asyncio.Event()
        self._order = asyncio.Lock()
        self._late = 0

    @property
    def who(self) -> dict[str, object]:
        """The fields of every event of this stream."""
        return {"stream": self.name, "session": self.session_id}

    # ---- the speaker's side ----

    @property
    def input_is_over(self) -> bool:
        """Whether no more audio is taken."""
        return self._input_over

    @property
    def sample_rate_hz(self) -> int:
        """Of the audio that is heard."""
        return self._session.options.sample_rate_hz

    async def room(self) -> None:
        """Waits until the inbox has room."""
        await self._inbox.room()

    def hear(self, samples: F32) -> None:
        """Takes audio, float32 (n,) mono at the session's rate; what comes after ``end`` is ignored."""
        if not self._input_over and len(samples):
            self._inbox.put(samples)
            self._wake.set()

    def set_style(self, style: Mapping[str, float]) -> None:
        """Changes the style from the next window on; raises ``bad_option``."""
        if self._session.is_drained:
            return
        from_frame = self._session.set_style(style)
        self.broadcast.tell(wire.StyleEcho(dict(style), self._session.epoch, from_frame))

    async def interrupt(self) -> None:
        """Drops what was received and not yet emitted, and eases the mouth shut."""
        if self._session.is_drained:
            return
        self._metrics.interrupts.inc()
        waiting = self._session.pending_windows * self._session.options.hop_frames
        self._metrics.frames_dropped.labels("interrupt").inc(waiting)
        self._inbox.begin_epoch()
        eased, epoch = self._session.interrupt()
        async with self._order:
            await self.broadcast.publish(eased)
            self.broadcast.tell(wire.Interrupted(epoch, eased.first_frame + len(eased.values) - 1))
        self._wake.set()

    def end(self, farewell: FaceError | None = None) -> None:
        """No more audio: what was received is still animated, then the subscribers are told ``farewell``."""
        self._input_over = True
        self._farewell = self._farewell or farewell
        self._wake.set()

    # ---- the subscribers' side ----

    def join(self, subscriber: Subscriber) -> None:
        """Adds a subscriber, who begins with the next block."""
        self.broadcast.join(subscriber)

    def leave(self, subscriber: Subscriber) -> None:
        """Forgets a subscriber; one that is not there is no mistake."""
        self.broadcast.leave(subscriber)

    @property
    def face_delay_ms(self) -> float:
        """How far the face lags live audio: hop, lookahead, resampling and the allowance for computing."""
        return round(1000 * (self._session.delay_s + self._allowance_s), 1)

    def welcome(self, role: wire.Role, output: wire.OutputFormat) -> wire.Welcome:
        """What a client must know before its first frame."""
        session, manifest = self._session, self._session.manifest
        is_vertices = output.kind == "vertices"
        return wire.Welcome(
            version=wire.VERSION,
            session=self.session_id,
            stream=self.name,
            role=role,
            epoch=session.epoch,
            bundle=f"{manifest.name} {manifest.version}",
            kind=output.kind,
            dtype=output.dtype,
            width=3 * manifest.rig.vertices if is_vertices else manifest.frame_width,
            scale=wire.scale_of(output.kind, output.dtype),
            channels=manifest.motion.channels,
            unit="metre" if is_vertices else manifest.motion.unit,
            frame_rate_hz=session.grid.frame_rate_hz,
            sample_rate_hz=session.grid.sample_rate_hz,
            hop_ms=session.grid.hop_ms(session.options.hop_frames),
            lookahead_ms=session.grid.lookahead_ms(session.options.lookahead_frames),
            face_delay_ms=self.face_delay_ms,
            styles=manifest.styles,
            style_scales=manifest.style_scales,
            style=session.style,
            received_samples=self._inbox.received_samples,
            server_time_s=self.now(),
        )

    def now(self) -> float:
        """The clock of ``emit_time_s``."""
        return self._clock()

    def stats(self, subscriber: Subscriber) -> wire.Stats:
        """The stream's and the subscriber's counts since their start."""
        queued_ms = 1000 * self._inbox.waiting_s
        queued_ms += self._session.grid.hop_ms(self._session.pending_windows)
        return wire.Stats(subscriber.dropped_frames, self._late, self.broadcast.frames, round(queued_ms, 1))

    # ---- the task ----

    async def run(self) -> None:
        """Animates until the session is drained or something fails; never raises."""
        error: FaceError | None = None
        try:
            await self._animate()
        except FaceError as failure:
            error = failure
            log.error("stream failed", extra=self.who | {"code": failure.code, "reason": failure.message})
        except Exception as failure:
            log.exception("stream failed", extra=self.who)
            error = FaceError("internal", f"The stream failed: {type(failure).__name__}.")
        self._input_over = True
        self._inbox.close()
        async with self._order:
            if error is None:
                self.broadcast.tell(
                    wire.Ended(self._session.epoch, self._session.emitted_frames, self._session.audio_s)
                )
            self.broadcast.finish(error or self._farewell)

    async def _animate(self) -> None:
        hop_s = self._session.grid.hop_ms(self._session.options.hop_frames) / 1000
        is_behind = False
        away_since: float | None = None
        while True:
            self._pour()
            if (early_s := self._early_s()) > 0:
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(early_s, _POLL_S)):
                        await self._wake.wait()
                continue
            joined = self._session.joined_windows
            request = self._session.next_request(self._catches_up and self._inbox.is_live and is_behind)
            self._metrics.windows_joined.inc(self._session.joined_windows - joined)
            if request is None:
                if self._session.is_drained:
                    return
                self._wake.clear()
                await self._wake.wait()
                continue
            asked = self._clock()
            try:
                outcome = await self._denoiser.denoise(self.session_id, request, asked + hop_s)
            except FaceError as error:
                now = self._clock()
                away_since = now if away_since is None else away_since
                if error.code != "engine_away" or now - away_since > _PATIENCE_S:
                    raise
                self._metrics.windows_given_back.inc()
                self._session.give_back(request)
                is_behind = True
                await asyncio.sleep(_PAUSE_S)
                continue
            away_since = None
            is_late = self._clock() - asked > hop_s
            is_behind = is_late or (is_behind and bool(self._session.pending_windows or self._inbox))
            self._metrics.queue_wait.observe(outcome.queue_s)
            self._metrics.batch_size.observe(outcome.batch)
            self._metrics.frame_latency.labels("compute").observe(outcome.compute_s)
            if log.isEnabledFor(logging.DEBUG):
                log.debug("window denoised", extra=self.who | _facts(request, outcome))
            if outcome.late:
                self._late += 1
                self._metrics.deadline_misses.inc()
            assert outcome.motion is not None
            async with self._order:
                block = self._session.complete(request, outcome.motion)
                if block is not None:
                    self._measure(block)
                    await self.broadcast.publish(block)
                    if self._tracer is not None:
                        self._tracer.window(self.who, asked, outcome)

    def _early_s(self) -> float:
        """How much too early a paced stream's next window would be (rule 6); never while stopping."""
        if not self._paced or self._inbox.plays_from is None or self._farewell is not None:
            return 0.0
        due = self._inbox.plays_from + self._session.grid.frame_time_s(self._session.emitted_frames)
        return due - PACED_LEAD_S - self._clock()

    def _pour(self) -> None:
        """Feeds the session from the inbox while it wants audio (rule 1)."""
        while self._inbox and self._session.wants_audio:
            self.broadcast.pass_through(self._session.epoch, self._session.feed(self._inbox.take()))
        if self._input_over and not self._inbox and not self._session_ended:
            self.broadcast.pass_through(self._session.epoch, self._session.end())

    @property
    def _session_ended(self) -> bool:
        return self._session.state in (State.DRAINING, State.CLOSED)

    def _measure(self, block: FrameBlock) -> None:
        """Notes how long ago the audio at the block's first frame arrived."""
        if self.broadcast.frames == 0 and self._inbox.first_heard is not None:
            self._metrics.first_frame.observe(self._clock() - self._inbox.first_heard)
        if (age_s := self._inbox.age_s(block.pts_s)) is not None:
            self._metrics.frame_latency.labels("total").observe(age_s)
            self._metrics.av_skew.set(age_s - self.face_delay_ms / 1000)


def _facts(request: WindowRequest, outcome: Outcome) -> dict[str, object]:
    return {
        "epoch": request.epoch,
        "first_frame": request.window.emit_start,
        "batch": outcome.batch,
        "queue_ms": round(1000 * outcome.queue_s, 2),
        "compute_ms": round(1000 * outcome.compute_s, 2),
    }
