"""The machine's own microphone as a publisher: captured here, then a stream like any other.

PortAudio calls back on a thread of its own, which must never wait: it copies the block into a bounded queue
and wakes the event loop, nothing else. If the loop falls seconds behind, the oldest blocks go.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from streamer.contract import wire
from streamer.contract.errors import FaceError
from streamer.server.hub import Hub

F32 = npt.NDArray[np.float32]

log = logging.getLogger(__name__)

STREAM_NAME = "microphone"
_MAX_BLOCKS = 512


def input_devices() -> list[str]:
    """The names of this machine's microphones; raises ``no_audio_device`` where PortAudio is missing."""
    return [device["name"] for device in _sounddevice().query_devices() if device["max_input_channels"] > 0]


def _sounddevice() -> Any:
    try:
        import sounddevice
    except OSError as error:  # the package is there, PortAudio is not
        raise FaceError(
            "no_audio_device", f"Sound cannot be captured here: {error}.", "Install PortAudio."
        ) from None
    return sounddevice


class Microphone:
    """An open input device; a context manager that captures while it is entered, on a running event loop.

    Args:
        device: part of a device's name, or its number; the system's default where None.

    Raises:
        FaceError: ``no_audio_device``, on entering.
    """

    def __init__(self, device: str | None = None) -> None:
        self._device: str | int | None = int(device) if device and device.isdecimal() else device
        self._blocks: deque[F32] = deque(maxlen=_MAX_BLOCKS)
        self._arrived = asyncio.Event()
        self._is_over = False
        self._stream: Any = None
        self.name = ""

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        sounddevice = _sounddevice()
        try:
            self.name = sounddevice.query_devices(self._device, "input")["name"]
            self._stream = sounddevice.InputStream(
                device=self._device,
                channels=1,
                dtype="float32",
                latency="low",
                callback=self._on_block,
                finished_callback=self._on_finished,
            )
            self._stream.start()
        except (sounddevice.PortAudioError, ValueError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise FaceError("no_audio_device", f"No microphone can be opened: {reason}.") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    async def publish(self, hub: Hub) -> None:
        """Feeds the stream ``microphone`` until the device is gone or the server stops."""
        audio = wire.AudioFormat("f32", round(self._stream.samplerate), 1)
        stream = hub.open(STREAM_NAME, audio)
        self._blocks.clear()  # what was captured while the model warmed up
        heard = {"device": self.name, "sample_rate_hz": audio.sample_rate_hz}
        log.info("microphone heard", extra=stream.who | heard)
        try:
            while not stream.input_is_over:
                while self._blocks:
                    await stream.room()
                    stream.hear(np.nan_to_num(self._blocks.popleft()))
                if self._is_over:
                    log.error("microphone gone", extra=stream.who | {"device": self.name})
                    return
                self._arrived.clear()
                await self._arrived.wait()
        finally:
            stream.end()

    # ---- on PortAudio's thread ----

    def _on_block(self, block: F32, frames: int, time: Any, status: Any) -> None:
        self._blocks.append(block[:, 0].copy())
        self._notify()

    def _on_finished(self) -> None:
        self._is_over = True
        self._notify()

    def _notify(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._arrived.set)
