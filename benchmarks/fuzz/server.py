"""A server to be hostile to, in a process of its own.

``python -m benchmarks.fuzz.server FOLDER SETTINGS DESCRIPTORS [MODULE:FUNCTION…]`` is the real server on a
real port, with the bundle and the few lines of numpy of ``tests.fakes`` for a model, so that every frame is
known. It prints its port; each line that it then reads is answered with what it holds (``live.Holding``) as
JSON; it stops where the input ends. The functions are called first, and break something: that is how the
tests know that what is broken is found.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import importlib
import json
import logging
import resource
import sys
import traceback
from pathlib import Path
from typing import Any

import psutil

from benchmarks.fuzz.peak import peak_mb
from streamer.server.loop import loop_factory
from tests.serving import Place, metric, place


class _Errors(logging.Handler):
    """Keeps what is logged as an error: each is a bug, for clients' mistakes are not logged as errors."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Notes the record and where its exception comes from."""
        error = record.exc_info[1] if record.exc_info else None
        line = f"{record.name}: {record.getMessage()}"
        if error is not None:
            steps = traceback.extract_tb(error.__traceback__)[-3:]
            line += f" ({error!r} at {', '.join(f'{Path(one.filename).name}:{one.lineno}' for one in steps)})"
        if line not in self.lines:
            self.lines.append(line)


def _doing(task: asyncio.Task[Any]) -> str:
    """Where a task waits, as far inside as can be seen."""
    places, inner = [], task.get_coro()
    while inner is not None and (frame := getattr(inner, "cr_frame", None)) is not None:
        places.append(f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}")
        inner = getattr(inner, "cr_await", None)
    return " > ".join(places)


async def holding(running: Place, errors: _Errors) -> dict[str, Any]:
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)  # what the allocator keeps for later is no leak
    process = psutil.Process()
    hub = running.address.hub
    sessions = await metric(running, "face_sessions_active")
    await asyncio.sleep(0)
    return {
        "streams": sessions,
        "connections": hub.limits.connections,
        "tasks": len(asyncio.all_tasks()),
        "doing": sorted({_doing(task) for task in asyncio.all_tasks()}),
        "descriptors": process.num_fds(),
        "rss_mb": round(process.memory_info().rss / 2**20, 1),
        "peak_mb": round(peak_mb(), 1),
        "errors": errors.lines[:20],
    }


async def main(folder: Path, settings: dict[str, Any]) -> None:
    errors = _Errors()
    logging.getLogger().addHandler(errors)
    async with place(folder, **settings) as running:
        logging.getLogger("streamer.websockets").setLevel(logging.ERROR)  # its own view of what went wrong
        print(running.address.port, flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(await holding(running, errors)), flush=True)


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(int(sys.argv[3]), most), most))
    for word in sys.argv[4:]:
        module, _, breaks = word.partition(":")
        getattr(importlib.import_module(module), breaks)()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main(Path(sys.argv[1]), json.loads(sys.argv[2])))
