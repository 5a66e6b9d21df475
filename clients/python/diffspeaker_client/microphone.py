"""This machine's microphone as a speaker: blocks of its PCM, as they are captured.

PortAudio calls back on a thread of its own, which must never wait: it copies the block into a bounded queue
and wakes the event loop, nothing else. Rule: what is captured while nobody takes it is forgotten from the
oldest on, so that a connection which comes back is not minutes behind.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from streamer.contract.errors import FaceError
from streamer.contract.wire import AudioFormat

F32 = npt.NDArray[np.float32]

_MOST_BLOCKS = 64


class Microphone:
    """An open input device; a context manager that captures while it is entered, on a running event loop.

    Args:
        device: part of a device's name, or its number; the system's default where None.

    Attributes:
        format: of the blocks. name: the device's. Both once it is entered.

    Raises:
        FaceError: ``no_audio_device``, on entering.
    """

    is_endless = True
    format: AudioFormat

    def __init__(self, device: str | None = None) -> None:
        self._device: str | int | None = int(device) if device and device.isdecimal() else device
        self._blocks: deque[F32] = deque(maxlen=_MOST_BLOCKS)
        self._is_over = False
        self._stream: Any = None
        self.name = "microphone"

    def __enter__(self) -> Self:
        self._loop, self._arrived = asyncio.get_running_loop(), asyncio.Event()
        try:
            import sounddevice
        except OSError as error:  # the package is there, PortAudio is not
            raise FaceError(
                "no_audio_device", f"Sound cannot be captured here: {error}.", "Install PortAudio."
            ) from None
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
            raise FaceError(
                "no_audio_device",
                f"No microphone can be opened: {reason}.",
                "Plug one in, or choose one with --device.",
            ) from None
        self.format = AudioFormat("s16", round(self._stream.samplerate), 1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def go_back(self, frames: int) -> None:
        """Does nothing: what was said while nobody listened would only make the face late."""

    async def chunks(self) -> AsyncIterator[F32]:
        """Blocks from now on, float32 (n, 1) in [-1, 1], until the device is gone."""
        self._blocks.clear()
        while True:
            while self._blocks:
                yield np.nan_to_num(self._blocks.popleft())
            if self._is_over:
                raise FaceError("no_audio_device", f"The microphone {self.name} is gone.")
            self._arrived.clear()
            await self._arrived.wait()

    # ---- on PortAudio's thread ----

    def _on_block(self, block: F32, frames: int, time: Any, status: Any) -> None:
        self._blocks.append(block.copy())
        self._notify()

    def _on_finished(self) -> None:
        self._is_over = True
        self._notify()

    def _notify(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._arrived.set)
