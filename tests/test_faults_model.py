"""A model that fails while others speak, with a real process and a real runtime that fails.

The rule of all of these: a client that does nothing wrong gets every frame once and in order, and each is
what the same audio gives without the fault.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from diffspeaker_client import FaceError, connect

from streamer.engine.bundle import Bundle
from streamer.engine.inference_thread import InferenceThread
from streamer.server.app import serve_until
from streamer.server.settings import Settings
from tests import fakes, faulty_bundles
from tests.processes import expected, get, metric, spoken, started, stopped, url_of
from tests.serving import GUARD_S, MONO, GatedBackend, everything

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals, as other systems know them")


async def refusal(url: str) -> str:
    """What a speaker is told whose sound breaks the model."""
    async with connect(url, "converse", audio=MONO) as face:
        await face.send_audio(faulty_bundles.with_fault(fakes.speech(1), 3_000))
        with pytest.raises(FaceError) as told:
            await everything(face)
    return told.value.code


@pytest.mark.parametrize("fault", ["raises", "not a number"])
def test_a_window_that_breaks_the_model_ends_its_own_stream_only(
    tmp_path: Path, fault: faulty_bundles.Fault
) -> None:
    folder = faulty_bundles.write(tmp_path / "bundle", fault)
    speeches = [fakes.speech(2, seed=seed) for seed in range(4)]

    async def scenario(page: str) -> None:
        async with asyncio.timeout(GUARD_S), asyncio.TaskGroup() as tasks:
            healthy = [
                tasks.create_task(spoken(url_of(page, f"healthy-{number}"), audio))
                for number, audio in enumerate(speeches)
            ]
            for number in range(5):
                assert await refusal(url_of(page, f"poison-{number}")) == "inference_failed"
        for task, audio in zip(healthy, speeches, strict=True):
            np.testing.assert_array_equal(task.result(), expected(folder, audio))

    with started(folder, "--late-windows", "each", "--max-sessions", "9") as (_, page):
        asyncio.run(scenario(page))
        assert metric(page, "face_sessions_active") == 0


@pytest.mark.slow
def test_a_window_that_hangs_the_model_ends_its_own_stream_only(tmp_path: Path) -> None:
    folder = faulty_bundles.write(tmp_path / "bundle", "hangs")
    speeches = [fakes.speech(7, seed=seed) for seed in range(2)]
    options = ("--late-windows", "each", "--max-sessions", "9", "--workers", "2")

    async def scenario(page: str) -> None:
        async with asyncio.timeout(GUARD_S), asyncio.TaskGroup() as tasks:
            healthy = [
                tasks.create_task(spoken(url_of(page, f"healthy-{number}"), audio))
                for number, audio in enumerate(speeches)
            ]
            assert await refusal(url_of(page, "poison")) == "inference_failed"
        for task, audio in zip(healthy, speeches, strict=True):
            np.testing.assert_array_equal(task.result(), expected(folder, audio))

    with started(folder, *options) as (process, page):
        asyncio.run(scenario(page))
        assert metric(page, "face_inference_hung_workers") == 1
        assert get(page, "readyz")[0] == 200, "one worker is left"
        process.send_signal(signal.SIGTERM)
        code, _, err = stopped(process)
        assert code == 0 and "does not come back" in err, "a thread that hangs keeps no process alive"


def test_a_provider_that_dies_while_it_serves_costs_nobody_a_frame(tmp_path: Path) -> None:
    folder = faulty_bundles.write(tmp_path / "bundle", "raises", only="int8")
    deadly = faulty_bundles.with_fault(fakes.speech(2), 8_000)
    speeches = [fakes.speech(2, seed=1), fakes.speech(2, seed=2), deadly]

    async def scenario(page: str) -> list[fakes.F32]:
        async with asyncio.timeout(GUARD_S):
            return await asyncio.gather(
                *(spoken(url_of(page, f"{number}"), audio) for number, audio in enumerate(speeches))
            )

    with started(folder, "--late-windows", "each", "--max-sessions", "9", "--workers", "1") as (_, page):
        assert 'variant="int8"' in get(page, "metrics")[1]
        for frames, audio in zip(asyncio.run(scenario(page)), speeches, strict=True):
            plain = fakes.write_bundle(tmp_path / "plain") if not (tmp_path / "plain").exists() else None
            np.testing.assert_allclose(frames, expected(plain or tmp_path / "plain", audio), atol=1e-6)
        assert 'variant="fp32"' in get(page, "metrics")[1]
        assert metric(page, "face_backend_fallback_total") == 1


def test_a_server_none_of_whose_workers_answers_tells_everybody_and_ends(folder: Path) -> None:
    async def scenario() -> None:
        bundle = Bundle.load(folder)
        backend, stop, ready = (
            GatedBackend(bundle),
            asyncio.Event(),
            asyncio.get_running_loop().create_future(),
        )
        settings = Settings(port=0, look_interval_s=0.01)
        with InferenceThread(backend) as thread:
            serving = asyncio.create_task(
                serve_until(stop, settings, bundle, thread, on_ready=ready.set_result)
            )
            address = await ready
            async with connect(address.stream("me"), "converse", audio=MONO) as face:
                backend.gate.clear()
                await face.send_audio(fakes.speech(1))
                with pytest.raises(FaceError) as told:
                    await everything(face)
                assert told.value.code == "inference_failed"
                assert (await asyncio.to_thread(get, address.page, "readyz"))[0] == 503
            async with connect(address.stream("me"), "converse", audio=MONO) as face:
                await face.send_audio(fakes.speech(1))
                with pytest.raises(FaceError, match="does not answer"):
                    await everything(face)
            with pytest.raises(FaceError, match="Start it again") as ended:
                await serving
            assert ended.value.exit_code == 6
            backend.gate.set()

    async def guarded() -> None:
        async with asyncio.timeout(GUARD_S):
            await scenario()

    asyncio.run(guarded())
