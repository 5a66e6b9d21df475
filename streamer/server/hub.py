"""The streams of a server by name: who may open one, who finds one, and what every new one is made of.

State: the open streams. Each runs as a task of the server's task group and leaves the hub when it has ended.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from streamer.contract import wire
from streamer.contract.errors import FaceError
from streamer.core.options import SessionOptions
from streamer.core.session import Session
from streamer.engine.bundle import Bundle
from streamer.server.broadcast import Broadcast
from streamer.server.denoiser import Denoiser
from streamer.server.house import House, check_name
from streamer.server.limits import RETRY_S
from streamer.server.metrics import Metrics
from streamer.server.settings import Settings
from streamer.server.stream import Stream
from streamer.server.tracing import Tracer

log = logging.getLogger(__name__)

_WARM_UP_WINDOWS, _COLD_WINDOWS = 12, 2
_MAX_ON_LOOP_S = 0.001


class Hub(House):
    """The open streams.

    Args:
        bundle: the model and the face. denoiser: computes. settings: defaults and bounds.
        metrics: where it counts. tasks: where streams run. tracer: told of every window, or None.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        bundle: Bundle,
        denoiser: Denoiser,
        settings: Settings,
        metrics: Metrics,
        tasks: asyncio.TaskGroup,
        tracer: Tracer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(settings, metrics, clock)
        self.bundle = bundle
        self._denoiser = denoiser
        self._tasks = tasks
        self._tracer = tracer
        self._streams: dict[str, Stream] = {}
        self._vertices_off_loop = False
        self._running: set[asyncio.Task[None]] = set()
        self._load = Fraction()  # speakers, each at least one; see `_cost`
        metrics.capacity.set(settings.max_sessions)

    async def warm_up(self) -> None:
        """Denoises silence until the model is warm, which also measures how long a window takes.

        Raises:
            FaceError: the model fails.
        """
        manifest = self.bundle.manifest
        session = Session(manifest, self._options(manifest.timing.sample_rate_hz, None))
        hop_samples = session.grid.frame_sample(session.options.hop_frames) + 1
        windows = 0
        while windows < _WARM_UP_WINDOWS:
            session.feed(np.zeros(hop_samples, np.float32))
            while (request := session.next_request()) is not None:
                outcome = await self._denoiser.denoise("warm-up", request, self.clock() + 1)
                assert outcome.motion is not None
                session.complete(request, outcome.motion)
                windows += 1
                if windows == _COLD_WINDOWS:
                    self._denoiser.forget()

        still = np.zeros((session.options.hop_frames, manifest.frame_width), np.float32)
        await asyncio.to_thread(self.bundle.vertices, still)  # reads the rig
        started = self.clock()
        await asyncio.to_thread(self.bundle.vertices, still)
        self._vertices_off_loop = self.clock() - started > _MAX_ON_LOOP_S
        self.is_accepting = True

    def open(self, name: str, audio: wire.AudioFormat, hello: wire.Hello | None = None) -> Stream:
        """Opens a stream and starts it.

        Args:
            name: its name. audio: what will be fed. hello: what the speaker chose; the defaults where None.

        Raises:
            FaceError: ``stream_taken``, ``at_capacity``, ``shutting_down``, ``bad_stream_name``,
                ``bad_audio_format`` or ``bad_option``.
        """
        check_name(name)
        wire.check_audio_format(audio)
        if not self.is_accepting:
            raise FaceError("shutting_down", "The server takes no new streams.")
        if (taken := self._streams.get(name)) is not None:
            if not taken.seat.is_kept:
                raise FaceError("stream_taken", f"The stream {name} has a publisher already.")
            # Who speaks anew under this name is not waiting for who was lost.
            del self._streams[name]
            taken.seat.give_up()
        options = self._options(audio.sample_rate_hz, hello)
        cost = self._cost(options)
        if self._load + cost > self.settings.max_sessions and self._streams:
            raise FaceError(
                "at_capacity",
                f"All {self.settings.max_sessions} places for speakers are taken.",
                f"Try again in {RETRY_S} s, or on another server.",
            )
        stream = Stream(
            name,
            secrets.token_hex(8),
            Session(self.bundle.manifest, options),
            self._denoiser,
            Broadcast(
                self.bundle,
                vertices_off_loop=self._vertices_off_loop,
                metrics=self.metrics,
                clock=self.clock,
            ),
            read_ahead_s=self.settings.read_ahead_s,
            allowance_s=self._denoiser.usual_s,
            catches_up=self.settings.join_late_windows,
            paced=hello is not None and hello.paced,
            tracer=self._tracer,
            metrics=self.metrics,
            clock=self.clock,
        )
        self._streams[name] = stream
        self._load += cost
        self._update_idle()
        log.info("stream opened", extra=stream.who)
        task = self._tasks.create_task(self._run(stream, cost), name=f"stream {name}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return stream

    def speak(self, name: str, hello: wire.Hello) -> Stream:
        """The stream that a speaker's hello opens, or goes on with; raises as ``open`` and ``resume`` do."""
        if hello.audio is None:
            raise FaceError("bad_audio_format", f"A {hello.role!r} hello must say what 'audio' it will send.")
        return self.resume(name, hello) or self.open(name, hello.audio, hello)

    async def watch(self, name: str, hello: wire.Hello) -> Stream:
        """The stream that a watcher's hello names; raises as ``find`` does."""
        return self.find(name)

    def check_output(self, output: wire.OutputFormat) -> None:
        """Raises ``bad_option`` where the bundle has no frames of a kind."""
        if output.kind == "coefficients" and self.bundle.manifest.motion.kind != "coefficients":
            raise FaceError(
                "bad_option", "This bundle moves vertices and has no coefficients.", "Ask for vertices."
            )

    def resume(self, name: str, hello: wire.Hello) -> Stream | None:
        """The open stream that a speaker was lost from and comes back to; None where there is none.

        Raises:
            FaceError: ``bad_audio_format``, the audio's rate is another than the stream's.
        """
        stream = self._streams.get(name)
        if stream is None or hello.resume != stream.session_id or stream.input_is_over:
            return None
        if hello.audio is None or hello.audio.sample_rate_hz != stream.sample_rate_hz:
            raise FaceError(
                "bad_audio_format",
                f"The stream {name} goes on at {stream.sample_rate_hz} Hz.",
                "Send the audio at that rate, or begin anew with a hello without 'resume'.",
            )
        log.info("stream resumed", extra=stream.who)
        self.metrics.resumed.inc()
        return stream

    def find(self, name: str) -> Stream:
        """The open stream of a name; raises ``bad_stream_name`` or ``unknown_stream``."""
        check_name(name)
        try:
            return self._streams[name]
        except KeyError:
            raise FaceError("unknown_stream", f"Nobody publishes the stream {name}.") from None

    def end_all(self, farewell: FaceError) -> None:
        """Ends every stream; what was received is animated, then its subscribers are told why."""
        for stream in self._streams.values():
            stream.end(farewell)

    def abandon(self) -> None:
        """Stops the streams where they are."""
        for task in self._running:
            task.cancel()

    @property
    def fullness(self) -> float:
        """How much of the places for speakers is taken."""
        return float(self._load / self.settings.max_sessions)

    @property
    def is_busy(self) -> bool:
        """Whether a stream is open."""
        return bool(self._load)

    def _cost(self, options: SessionOptions) -> Fraction:
        """How many speakers a stream counts as: one with a shorter hop asks for more windows a second."""
        timing = self.bundle.manifest.timing
        if self.settings.hop_ms is None:
            usual = timing.hop.default_frames
        else:
            usual = timing.grid().hop_frames(self.settings.hop_ms)
        return max(Fraction(1), Fraction(usual, options.hop_frames))

    async def _run(self, stream: Stream, cost: Fraction) -> None:
        try:
            await stream.run()
        finally:
            if self._streams.get(stream.name) is stream:
                del self._streams[stream.name]
            self._load -= cost
            self._update_idle()
        log.info("stream ended", extra=stream.who | {"frames": stream.broadcast.frames})

    def _update_idle(self) -> None:
        self.metrics.sessions.set(len(self._streams))
        super()._update_idle()

    def _options(self, sample_rate_hz: int, hello: wire.Hello | None) -> SessionOptions:
        settings = self.settings
        asked = hello or wire.Hello(wire.VERSION, "publish")
        seed = settings.seed if asked.seed is None else asked.seed
        if seed is not None and seed < 0:
            raise FaceError("bad_option", f"The seed {seed} is negative.", "Choose a whole number from 0 on.")
        return SessionOptions.choose(
            self.bundle.manifest,
            sample_rate_hz=sample_rate_hz,
            lookahead_ms=settings.lookahead_ms if asked.lookahead_ms is None else asked.lookahead_ms,
            hop_ms=settings.hop_ms if asked.hop_ms is None else asked.hop_ms,
            style=settings.style if asked.style is None else asked.style,
            seed=seed,
        )
