"""Two servers behind a real nginx, as it is configured here: a stream's clients meet, and one may die."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.balancer import first_is_killed, meets, nginx
from tests.processes import get, metric, started
from tests.serving import GUARD_S


def test_a_streams_speaker_and_watchers_meet_and_streams_are_spread_over_the_servers(
    folder: Path, tmp_path: Path
) -> None:
    async def scenario(front: str) -> None:
        async with asyncio.timeout(GUARD_S):
            await asyncio.gather(*(meets(f"{front}stream-{number}") for number in range(16)))

    with (
        started(folder, "--max-sessions", "16") as (_, one),
        started(folder, "--max-sessions", "16") as (_, two),
    ):
        with nginx(tmp_path, [one, two]) as front:
            asyncio.run(scenario(front))
            page = front.replace("ws:", "http:").removesuffix("v1/streams/")
            assert get(page, "readyz")[0] == 200
        frames = [metric(page, "face_frames_total") for page in (one, two)]
        assert sum(frames) == 16 * 30 and min(frames) >= 3 * 30


def test_a_server_that_is_killed_moves_its_streams_and_touches_no_other(folder: Path, tmp_path: Path) -> None:
    with (
        started(folder, "--max-sessions", "16") as (process, one),
        started(folder, "--max-sessions", "16") as (_, two),
        nginx(tmp_path, [one, two]) as front,
    ):
        asyncio.run(first_is_killed(folder, front, [one, two], process.pid))
