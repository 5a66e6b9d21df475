"""A pool in a real Ray cluster of two nodes, and servers that ask it: what is refused, and what may die.

The rule is that of the faults: who speaks to a gateway that lives gets every frame once and in order, and
each is what the same audio gives on one machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests import fakes, faulty_bundles
from tests.balancer import first_is_killed, nginx
from tests.processes import ROOT, SERVE, expected, get, metric, spoken, started, stopped, url_of
from tests.ray_cluster import RayCluster, ray_cluster

try:
    import ray  # noqa: F401
except ImportError:
    assert not os.environ.get("CI"), "Ray is missing"
    pytest.skip("needs the extra 'cluster'", allow_module_level=True)

pytestmark = pytest.mark.slow
POOL = ["-m", "streamer.cli.main", "pool"]
LONG_S = 120.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with ray_cluster() as running:
        yield running


def ran(cluster: RayCluster, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Python with these words, to its end."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env={**cluster.environment, **environment},
        capture_output=True,
        text=True,
        timeout=LONG_S,
        check=False,
    )


def pool(cluster: RayCluster, *options: str) -> subprocess.CompletedProcess[str]:
    return ran(cluster, *POOL, *options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, cluster: RayCluster) -> Path:
    """The bundle of two replicas, one on each node."""
    made = faulty_bundles.write(tmp_path_factory.mktemp("bundle"), "raises")
    done = pool(cluster, "--bundle", str(made), "--replicas", "2", "--cpus", "3")
    assert done.returncode == 0 and done.stdout.startswith("The pool answers: 2 replicas of fake 0"), done
    return made


def gateway(
    cluster: RayCluster, folder: Path, *options: str
) -> contextlib.AbstractContextManager[tuple[subprocess.Popen[str], str]]:
    """A server that asks the pool."""
    usual = ("--engine", "ray://auto", "--late-windows", "each", "--max-sessions", "16")
    return started(folder, *usual, *options, environment=cluster.environment)


async def speaking(page: str, seconds: float, while_they_speak: Callable[[], None]) -> list[fakes.F32]:
    """Six speakers in real time, and something that happens in the middle; each one's frames."""
    async with asyncio.timeout(LONG_S), asyncio.TaskGroup() as tasks:
        speakers = [
            tasks.create_task(spoken(url_of(page, f"s{seed}"), fakes.speech(seconds, seed=seed)))
            for seed in range(6)
        ]
        await asyncio.sleep(seconds / 3)
        await asyncio.to_thread(while_they_speak)
    return [task.result() for task in speakers]


def unharmed(folder: Path, frames: list[fakes.F32], seconds: float) -> None:
    for seed, motion in enumerate(frames):
        np.testing.assert_array_equal(motion, expected(folder, fakes.speech(seconds, seed=seed)))


def test_frames_are_those_of_one_machine_bit_for_bit_and_windows_share_calls(
    cluster: RayCluster, folder: Path
) -> None:
    with gateway(cluster, folder) as (_, page):
        unharmed(folder, asyncio.run(speaking(page, 3, lambda: None)), 3)
        assert metric(page, "face_batch_size_sum") > metric(page, "face_batch_size_count"), (
            "windows shared calls"
        )
        assert metric(page, "face_windows_given_back_total") == 0


def test_the_pool_keeps_the_contract_of_every_engine(cluster: RayCluster, folder: Path) -> None:
    words = ("-m", "pytest", "-q", "-W", "ignore", "tests/test_backend_contract.py")
    done = ran(cluster, *words, CONTRACT_ENGINE="ray://auto", CONTRACT_BUNDLE=str(folder))
    assert done.returncode == 0 and "8 passed" in done.stdout, done.stdout


def test_a_window_that_breaks_the_model_in_the_pool_ends_its_own_stream_only(
    cluster: RayCluster, folder: Path
) -> None:
    from diffspeaker_client import FaceError, connect

    from tests.serving import MONO, everything

    async def poison(page: str) -> str:
        async with connect(url_of(page, "poison"), "converse", audio=MONO) as face:
            await face.send_audio(faulty_bundles.with_fault(fakes.speech(1), 3_000))
            with pytest.raises(FaceError) as told:
                await everything(face)
        return told.value.code

    with gateway(cluster, folder) as (_, page):
        codes: list[str] = []
        frames = asyncio.run(speaking(page, 3, lambda: codes.append(asyncio.run(poison(page)))))
        unharmed(folder, frames, 3)
        assert codes == ["inference_failed"]


def test_a_replica_that_is_killed_costs_no_frame(cluster: RayCluster, folder: Path) -> None:
    with gateway(cluster, folder) as (_, page):
        unharmed(folder, asyncio.run(speaking(page, 6, lambda: _killed(cluster))), 6)
    assert int(cluster.order("replicas")) == 2, "Ray has started another"


def _killed(cluster: RayCluster) -> None:
    assert int(cluster.order("kill replica")) > 1


def test_a_pool_grows_and_shrinks_under_load_and_nobody_notices(cluster: RayCluster, folder: Path) -> None:
    def change() -> None:
        for replicas in ("4", "1"):
            done = pool(cluster, "--bundle", str(folder), "--replicas", replicas, "--cpus", "1")
            assert done.returncode == 0, done

    with gateway(cluster, folder) as (_, page):
        unharmed(folder, asyncio.run(speaking(page, 12, change)), 12)
    done = pool(cluster, "--bundle", str(folder), "--replicas", "2", "--cpus", "3")
    assert done.returncode == 0


def test_a_gateway_that_is_killed_behind_a_balancer_moves_its_streams_and_touches_no_other(
    cluster: RayCluster, folder: Path, tmp_path: Path
) -> None:
    with (
        gateway(cluster, folder) as (process, one),
        gateway(cluster, folder) as (_, two),
        nginx(tmp_path, [one, two]) as front,
    ):
        asyncio.run(first_is_killed(folder, front, [one, two], process.pid))


def test_a_node_that_is_lost_costs_no_frame(cluster: RayCluster, folder: Path) -> None:
    with gateway(cluster, folder) as (_, page):
        frames = asyncio.run(speaking(page, 12, lambda: assert_answer(cluster.order("kill node"), "killed")))
        unharmed(folder, frames, 12)
    assert cluster.order("add node") == "added"


def assert_answer(answer: str, wanted: str) -> None:
    assert answer == wanted


def refused_with(cluster: RayCluster, folder: Path, *options: str) -> tuple[int, str]:
    done = ran(cluster, *SERVE[1:], "--port", "0", "--bundle", str(folder), *options)
    return done.returncode, done.stderr


def test_a_pool_with_another_bundle_is_refused_by_its_fingerprint(
    cluster: RayCluster, folder: Path, tmp_path: Path
) -> None:
    other = fakes.write_bundle(tmp_path / "other")
    code, said = refused_with(cluster, other, "--engine", "ray://auto")
    assert code == 4 and "holds the bundle fake 0" in said and "Give both the same bundle" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("ray://127.0.0.1:1", "No Ray cluster answers at ray://127.0.0.1:1"),
        ("http://127.0.0.1:8000", "is no address of an engine"),
    ],
)
def test_an_engine_that_nobody_answers_for_is_one_sentence(
    cluster: RayCluster, folder: Path, address: str, words: str
) -> None:
    code, said = refused_with(cluster, folder, "--engine", address)
    assert code == 2 and words in said.splitlines()[-1] and "Traceback" not in said


def test_a_gateway_of_another_release_is_refused_by_its_version(cluster: RayCluster, folder: Path) -> None:
    newer = "import streamer.engine.pool.packing as packing; packing.VERSION = 2; "
    serve = "from streamer.cli.main import main; import sys; sys.exit(main(sys.argv[1:]))"
    words = ("serve", "--engine", "ray://auto", "--bundle", str(folder))
    done = ran(cluster, "-c", newer + serve, *words)
    assert done.returncode == 2 and "speaks version 1, this gateway 2" in done.stderr
    assert "Deploy the same release to both." in done.stderr and "Traceback" not in done.stderr


def test_a_pool_that_is_given_another_bundle_while_a_gateway_runs_says_so_and_may_be_put_right(
    cluster: RayCluster, folder: Path, tmp_path: Path
) -> None:
    from diffspeaker_client import FaceError, connect

    from tests.serving import MONO, everything

    audio = fakes.speech(2)
    other = fakes.write_bundle(tmp_path / "other")

    def deploy(bundle: Path) -> None:
        done = pool(cluster, "--bundle", str(bundle), "--replicas", "2", "--cpus", "3")
        assert done.returncode == 0, done

    async def refusal(url: str) -> None:
        async with connect(url, "converse", audio=MONO) as face:
            await face.send_audio(audio)
            await everything(face)

    with gateway(cluster, folder) as (_, page):
        deploy(other)
        with pytest.raises(FaceError) as told:
            asyncio.run(refusal(url_of(page, "me")))
        assert told.value.code == "engine_away" and "a replica holds the bundle fake 0" in told.value.message
        deploy(folder)
        np.testing.assert_array_equal(asyncio.run(spoken(url_of(page, "me"), audio)), expected(folder, audio))


def test_a_gateway_finds_a_pool_that_was_taken_down_and_deployed_again(
    cluster: RayCluster, folder: Path
) -> None:
    from diffspeaker_client import FaceError, connect

    from tests.serving import MONO, everything

    audio = fakes.speech(2)
    take_down = "import ray; ray.init('auto'); from ray import serve; serve.shutdown()"

    async def heard(url: str) -> None:
        async with connect(url, "converse", audio=MONO) as face:
            await face.send_audio(audio)
            await everything(face)

    with gateway(cluster, folder) as (process, page):
        assert get(page, "readyz") == (200, "ready\n")
        assert ran(cluster, "-c", take_down).returncode == 0
        with pytest.raises(FaceError) as told:
            asyncio.run(heard(url_of(page, "me")))
        assert told.value.code == "engine_away" and get(page, "readyz")[0] == 503
        done = pool(cluster, "--bundle", str(folder), "--replicas", "2", "--cpus", "3")
        assert done.returncode == 0, done
        for _ in range(round(LONG_S / 0.2)):
            if get(page, "readyz")[0] == 200:
                break
            time.sleep(0.2)
        np.testing.assert_array_equal(asyncio.run(spoken(url_of(page, "me"), audio)), expected(folder, audio))
        process.send_signal(signal.SIGTERM)
        code, _, said = stopped(process)
        assert code == 0 and "the pool is lost, and looked for" in said and "found again" in said, said


def test_a_replica_that_finds_no_machine_is_said_and_waited_for(cluster: RayCluster, folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, *POOL, "--bundle", str(folder), "--cpus", "64"],
        cwd=ROOT,
        env=cluster.environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as waiting:
        assert waiting.stderr is not None
        guard = threading.Timer(LONG_S, waiting.kill)
        guard.start()
        try:
            said = iter(waiting.stderr.readline, "")
            sentence = "needs, 64 processors and 0 GPUs; the largest has 4 and 0"
            assert any(sentence in line for line in said)  # Ray may have said something before
            waiting.send_signal(signal.SIGINT)
            assert waiting.wait(LONG_S) == 130
        finally:
            guard.cancel()
            waiting.kill()


def test_a_cluster_without_a_pool_says_how_to_start_one(cluster: RayCluster, folder: Path) -> None:
    assert pool(cluster, "--stop").stdout == "The pool is stopped.\n"
    code, said = refused_with(cluster, folder, "--engine", "ray://auto")
    assert code == 2 and "diffspeaker pool" in said.splitlines()[-1]
