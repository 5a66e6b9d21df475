"""The server as a whole: what starts in which order, and how it stops.

::

    warm up → listen → serve … stop: no new streams → drain → close → done

Nobody can connect before the model is warm. Stopping animates what was received, for a bounded time, tells
every client ``shutting_down`` and leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from streamer.contract.errors import FaceError
from streamer.engine.bundle import Bundle
from streamer.engine.inference_thread import InferenceThread
from streamer.server.connection import converse
from streamer.server.denoiser import Denoiser
from streamer.server.house import House
from streamer.server.http import Site, find_web_root
from streamer.server.hub import Hub
from streamer.server.metrics import Metrics
from streamer.server.microphone import Microphone
from streamer.server.relay import Relay
from streamer.server.settings import Settings
from streamer.server.sockets import FaceConnection, listen, load, tls
from streamer.server.tracing import Tracer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Address:
    """Where a running server is found, its streams, and whether only a new process will help."""

    host: str
    port: int
    hub: House
    failed: asyncio.Event
    is_secure: bool = False

    @property
    def page(self) -> str:
        """The page's address, for a browser on this machine."""
        return page_of(self.host, self.port, is_secure=self.is_secure)

    def stream(self, name: str) -> str:
        """A stream's address, for a client on this machine."""
        return f"{self.page.replace('http', 'ws', 1)}v1/streams/{name}"


def page_of(host: str, port: int, *, is_secure: bool) -> str:
    """The page's address, for a browser on this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"{'https' if is_secure else 'http'}://{f'[{host}]' if ':' in host else host}:{port}/"


@contextlib.asynccontextmanager
async def serving(
    settings: Settings,
    bundle: Bundle,
    thread: InferenceThread,
    *,
    web_root: Path | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[Address]:
    """A server that runs inside the context; leaving it stops the server gracefully.

    Args:
        settings: where it listens, and its bounds. bundle: the model and the face.
        thread: a started inference thread. web_root: the page's folder; the one that ships where None.
        clock: monotonic seconds.

    Raises:
        FaceError: ``port_in_use``, ``bad_config``, ``bad_bundle`` or ``inference_failed``.
    """
    metrics = Metrics()
    metrics.follow(thread.backend)
    denoiser = Denoiser(thread)
    async with _tracing(settings, clock) as tracer, _task_group() as tasks:
        hub = Hub(bundle, denoiser, settings, metrics, tasks, tracer, clock)
        watch = tasks.create_task(denoiser.watch(settings.look_interval_s, metrics.hung_workers.set))
        await hub.warm_up()

        def is_ready() -> bool:
            return hub.is_accepting and denoiser.is_working and not thread.backend.is_away

        site = Site(web_root or find_web_root(), bundle.folder, bundle.manifest, metrics, is_ready)
        async with _listening(hub, site) as (port, is_secure):
            yield Address(settings.host, port, hub, denoiser.failed, is_secure)
        watch.cancel()


@contextlib.asynccontextmanager
async def relaying(
    settings: Settings,
    bundle: Bundle,
    upstream: str,
    token: str | None = None,
    *,
    web_root: Path | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[Address]:
    """A relay that runs inside the context.

    Args:
        settings: where it listens, and its bounds. bundle: of the page's face.
        upstream: the server whose streams it passes on. token: for it.
        web_root: the page's folder; the one that ships where None. clock: monotonic seconds.

    Raises:
        FaceError: ``port_in_use`` or ``bad_config``.
    """
    metrics = Metrics()
    async with _task_group() as tasks:
        relay = Relay(upstream, token, settings, metrics, tasks, clock)
        site = Site(
            web_root or find_web_root(), bundle.folder, bundle.manifest, metrics, lambda: relay.is_accepting
        )
        async with _listening(relay, site) as (port, is_secure):
            yield Address(settings.host, port, relay, asyncio.Event(), is_secure)


@contextlib.asynccontextmanager
async def _listening(house: House, site: Site) -> AsyncIterator[tuple[int, bool]]:
    """The open port, and whether it speaks TLS; leaving drains the house and closes it."""
    settings = house.settings

    async def handle(socket: FaceConnection) -> None:
        await converse(socket, house)

    context = tls(settings)
    server = await listen(handle, house.knock, site, settings, context)
    if context is not None:
        _reload_on_hangup(context, settings)
    listening = server.sockets[0] if settings.channel is None else settings.channel.port
    port = listening.getsockname()[1]
    log.info("listening", extra={"host": settings.host, "port": port})
    async with _task_group() as tasks:
        reporting = tasks.create_task(house.report())
        try:
            yield port, context is not None
        finally:
            try:
                async with asyncio.timeout(settings.drain_timeout_s):
                    await house.drain()
            except TimeoutError:
                log.warning("draining took too long", extra={"timeout_s": settings.drain_timeout_s})
                house.abandon()
            server.close()
            await server.wait_closed()
            reporting.cancel()
            log.info("stopped")


async def serve_until(
    stop: asyncio.Event,
    settings: Settings,
    bundle: Bundle,
    thread: InferenceThread,
    *,
    microphone: Microphone | None = None,
    on_ready: Callable[[Address], None],
) -> None:
    """Serves until ``stop`` is set; raises as ``serving`` does, and ``no_audio_device``.

    Where no inference thread answers any more it stops by itself and raises ``inference_failed``: whoever
    keeps the process running should start a new one.

    Args:
        stop: ends it. settings, bundle, thread: as for ``serving``.
        microphone: published as the stream ``microphone`` where one is given.
        on_ready: told once, when clients may come.
    """
    # The device is opened first: where there is none, that is said before a model is warmed.
    with microphone or contextlib.nullcontext():
        async with serving(settings, bundle, thread) as address, _task_group() as tasks:

            async def stop_when_failed() -> None:
                await address.failed.wait()
                stop.set()

            beside = [tasks.create_task(stop_when_failed())]
            if microphone:
                assert isinstance(address.hub, Hub)
                beside.append(tasks.create_task(microphone.publish(address.hub)))
            on_ready(address)
            await stop.wait()
            for task in beside:
                task.cancel()
            if address.failed.is_set():
                raise FaceError("inference_failed", "The model does not answer any more.", "Start it again.")


def _reload_on_hangup(context: ssl.SSLContext, settings: Settings) -> None:
    """A renewed certificate is read on SIGHUP, where the system has it; a bad one leaves the old one."""

    def reload() -> None:
        try:
            load(context, settings)
            log.warning("certificate read again")
        except FaceError as error:
            log.error("old certificate stays", extra={"reason": error.message})

    if hasattr(signal, "SIGHUP"):
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)


@contextlib.asynccontextmanager
async def _tracing(settings: Settings, clock: Callable[[], float]) -> AsyncIterator[Tracer | None]:
    if settings.trace_to is None:
        yield None
        return
    tracer = Tracer(settings.trace_to, clock)
    try:
        yield tracer
    finally:
        await asyncio.to_thread(tracer.close)


@contextlib.asynccontextmanager
async def _task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group that raises what its body raised, not a group of one."""
    try:
        async with asyncio.TaskGroup() as tasks:
            yield tasks
    except BaseExceptionGroup as group:
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from None
        raise
