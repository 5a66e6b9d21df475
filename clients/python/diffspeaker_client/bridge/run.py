"""The bridge: a stream's faces, when they are due, to a program that speaks another protocol.

Two tasks. One keeps a connection and feeds the frames to the ``Playback``; the other asks it, at every place
of its grid, whether a face is due, and sends it. State: the present stream's ``Adjust`` and how far its faces
lag the voice. Rules:

1. The bridge waits for a server that is away and for a stream that nobody speaks on yet (``reconnect``), and
   for the next one after a stream is over; with ``once``, the first connection is the last.
2. Whatever ends the bridge, the avatar's face is at rest afterwards.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from diffspeaker_client.adjust import Adjust
from diffspeaker_client.bridge.encoder import Instant
from diffspeaker_client.bridge.outlet import Outlet
from diffspeaker_client.client import connect
from diffspeaker_client.clock_sync import ClockSync
from diffspeaker_client.playback import Playback
from diffspeaker_client.reconnect import Attempts, keep_trying
from diffspeaker_client.status import Status
from streamer.contract import wire
from streamer.contract.errors import FaceError

_CLOCK_EVERY_S = 2.0


@dataclass(frozen=True)
class Plan:
    """What a bridge carries.

    Attributes:
        url: of the stream. token: the server's, where it wants one.
        fps: faces per second; the stream's frame rate where None.
        only, gains, mirror: see ``Adjust``.
        once: whether the first connection is the last.
    """

    url: str
    token: str | None = None
    fps: int | None = None
    only: tuple[str, ...] | None = None
    gains: Mapping[str, float] = field(default_factory=dict)
    mirror: bool = False
    once: bool = False


class Bridge:
    """One stream to one outlet.

    Args:
        plan: what is carried. outlet: where it leaves; ``run`` closes it. status: for the user.
    """

    def __init__(self, plan: Plan, outlet: Outlet, status: Status) -> None:
        self._plan, self._outlet, self._status = plan, outlet, status
        self._playback = Playback(plan.fps)
        self._adjust: Adjust | None = None
        self._began_s = time.monotonic()
        self._clock = ClockSync()
        self._face_delay_s = self._emit_minus_pts_s = float("nan")
        self._is_last = False

    async def run(self) -> None:
        """Carries faces until it is cancelled; with ``once``, until the stream is over and the face at rest.

        Raises:
            FaceError, Unreachable: see ``keep_trying``.
        """
        plan = self._plan
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._send())
                await keep_trying(self._watch, plan.url, self._status, once=plan.once)
                self._is_last = True
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            self._rest()
            self._outlet.close()

    @property
    def delay_s(self) -> float:
        """How far the avatar's face lags the voice, in seconds; NaN while nothing is known of it.

        The face's own delay, and how long after its emission a frame is shown: the network and the jitter
        buffer. The server's clock is related to ours by questions.
        """
        buffer = self._playback.buffer
        if buffer is None:
            return float("nan")
        shown_s = buffer.offset_s + self._clock.difference_s  # of the pts 0, on the server's clock
        return self._face_delay_s + shown_s - self._emit_minus_pts_s

    # ---- one connection ----

    async def _watch(self, attempts: Attempts) -> bool:
        plan = self._plan
        async with connect(plan.url, "watch", token=plan.token) as face:
            attempts.welcomed()
            welcome = face.welcome
            adjust = Adjust(welcome.channels, only=plan.only, gains=plan.gains, mirror=plan.mirror)
            if not adjust.driven.any():
                raise FaceError(
                    "bad_config", "The stream has none of the channels that would be sent.", "Check --only."
                )
            self._adjust = adjust
            self._clock, self._face_delay_s = ClockSync(), welcome.face_delay_ms / 1000
            self._playback.begin(welcome.width, welcome.frame_rate_hz, time.monotonic())
            self._status.say(
                f"The stream {welcome.stream!r} goes to {self._outlet.name} by {self._outlet.title}, "
                f"{self._playback.fps} faces a second. Ctrl-C ends it."
            )
            asked_s = float("-inf")
            try:
                async for event in face:
                    now_s = time.monotonic()
                    if isinstance(event, wire.Frames):
                        self._playback.push(event, now_s)
                        self._emit_minus_pts_s = event.emit_time_s - event.pts_s
                    elif isinstance(event, wire.ClockReply):
                        self._clock.observe(event.client_time_s, event.server_time_s, now_s)
                    if now_s - asked_s > _CLOCK_EVERY_S:
                        asked_s = now_s
                        await face.ask_clock(now_s)
            finally:
                self._playback.end()
        if not plan.once:
            self._status.say(f"The stream {welcome.stream!r} is over. Waiting for it to be spoken on again.")
        return True

    # ---- sending ----

    async def _send(self) -> None:
        playback = self._playback
        while not (self._is_last and playback.is_silent):
            now_s = time.monotonic()
            face = playback.due(now_s)
            adjust = self._adjust
            if face is not None and adjust is not None:
                news = self._outlet.send(adjust.apply(face), adjust.driven, self._instant(now_s))
                if news:
                    self._status.say(news)
            self._status.show(self._line)
            await asyncio.sleep(playback.wait_s(time.monotonic()))

    def _rest(self) -> None:
        """Rule 2: a face that is not at rest is sent there at once."""
        if self._adjust is not None and not self._playback.is_silent:
            still = np.zeros(len(self._adjust.driven), np.float32)
            self._outlet.send(still, self._adjust.driven, self._instant(time.monotonic()))

    def _instant(self, now_s: float) -> Instant:
        now = datetime.now()
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        return Instant(now_s - self._began_s, (now - midnight).total_seconds(), self._playback.fps)

    def _line(self) -> str:
        delay_s = self.delay_s
        behind = "no face" if delay_s != delay_s else f"face {1000 * delay_s:.0f} ms behind the voice"
        return f"{self._outlet.sent} sent | {behind} | {self._playback.dropped} dropped"
