"""The arithmetic of the benchmarks of more than one machine, and the tree of relays from end to end."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import numpy as np
import pytest
from websockets.frames import Frame, Opcode

from benchmarks import cluster, cluster_tables, outages, tree
from benchmarks.outages import Block, Speaker
from streamer.contract import wire
from tests import fakes


def spoken(*blocks: tuple[float, str, int], lost: float | None = None) -> Speaker:
    """A speaker whose blocks of two frames came at instants, of sessions, from frames on."""
    seen = [Block(came, session, first, 2) for came, session, first in blocks]
    return Speaker("ws://nowhere", seen, [] if lost is None else [lost])


def test_a_silence_is_counted_from_and_to_the_borders_of_the_time_that_is_looked_at() -> None:
    speaker = spoken((1.0, "a", 0), (1.1, "a", 2), (1.6, "a", 4))
    assert outages.silence_ms(speaker, 1.0, 1.6) == pytest.approx(500)
    assert outages.silence_ms(speaker, 0.0, 1.6) == pytest.approx(1000)
    assert outages.silence_ms(speaker, 1.0, 3.0) == pytest.approx(1400)


@pytest.mark.parametrize(("third", "wrong"), [(4, 0), (6, 2), (2, 2)])
def test_frames_that_are_lost_or_come_twice_are_wrong_within_a_session_only(third: int, wrong: int) -> None:
    speaker = spoken((1.0, "a", 0), (1.1, "a", 2), (1.2, "a", third), (1.3, "b", 0), (1.4, "b", 2))
    assert outages.wrong_frames(speaker, 0, 2) == wrong


def test_who_lost_its_server_is_back_with_the_first_block_of_another_session() -> None:
    stayed = spoken((9.9, "a", 0), (10.0, "a", 2), (10.1, "a", 4), (11.0, "a", 6))
    moved = spoken((9.9, "b", 0), (10.0, "b", 2), (10.3, "c", 0), (11.0, "c", 2), lost=10.02)
    row = outages.row("killed", [stayed, moved], 10.0, 1.0)
    assert (row["stayed"], row["moved"], row["wrong_frames"]) == (1, 1, 0)
    assert row["silence_ms"] == pytest.approx(900) and row["back_s"]["most"] == pytest.approx(0.3)
    assert outages.row("nothing", [stayed], 10.0, 1.0)["back_s"] is None
    table = cluster_tables.outages(
        "here",
        {
            "rows": [row],
            "config": {"streams": 2, "replicas": 2},
            "machine": {"processor": "P", "cores": 2, "system": "L"},
            "commit": "0",
        },
    )
    assert "| killed | 1 | 0 |" in table and "1: 0.3 s, 0.3 s at most" in table


def test_the_cost_is_told_where_both_are_in_time() -> None:
    def level(streams: int, p99_ms: float, server: float, replicas: float = 0.0) -> dict[str, float]:
        cores = {"server_cores": server, "replica_cores": replicas, "ray_cores": 0.1}
        return {"streams": streams, "p50_ms": p99_ms / 2, "p95_ms": p99_ms - 1, "p99_ms": p99_ms, **cores}

    local = [level(1, 50, 0.2), level(2, 60, 0.4), level(4, 200, 0.8)]
    pool = [level(1, 60, 0.1, 0.2), level(2, 130, 0.2, 0.4), level(4, 90, 0.3, 0.8)]
    (row,) = cluster.cost(local, pool, 117)
    assert row["streams"] == 1 and row["added_p99_ms"] == 10
    assert row["cpu_ratio"] == 1.5 and row["cpu_ratio_with_ray"] == 2.0


def test_a_histograms_mean_is_that_of_what_came_between_two_readings() -> None:
    names = ("face_batch_size", "face_queue_wait_seconds", "face_frame_latency_seconds")
    before, after = {}, {}
    for name, labels in zip(names, ("", "", '{stage="compute"}'), strict=True):
        before |= {f"{name}_sum{labels}": 10.0, f"{name}_count{labels}": 4.0}
        after |= {f"{name}_sum{labels}": 16.0, f"{name}_count{labels}": 7.0}
    assert cluster.means(before, after) == {"batch": 2.0, "queue": 2.0, "call": 2.0}
    assert cluster.means(after, after)["call"] == 0.0


def test_blocks_are_read_out_of_bytes_that_came_in_any_pieces() -> None:
    def block(number: int, width: int) -> bytes:
        frames = wire.Frames(
            values=np.zeros((2, width), np.float32),
            kind="coefficients",
            dtype="f32",
            flags=0,
            epoch=0,
            seq=number,
            first_frame=2 * number,
            pts_s=0.0,
            emit_time_s=1.0,
        )
        return Frame(Opcode.BINARY, wire.encode_frames(frames)).serialize(mask=False)

    whole = Frame(Opcode.TEXT, b'{"type":"stats"}').serialize(mask=False)
    whole += block(0, 4) + block(1, 52) + block(2, 10_000) + block(3, 52)[:-1]
    for size in (1, 7, 300, len(whole)):
        with socket.socket() as link:
            watcher = tree.Watcher(link)
            for place in range(0, len(whole), size):
                watcher.data_received(whole[place : place + size])
        assert [block.seq for _, block in tree.blocks(watcher)] == [0, 1, 2], "the last one is not whole"
        assert watcher.bytes == len(whole)
    assert all(came <= time.monotonic() for came, _ in tree.blocks(watcher))


@pytest.mark.slow
def test_a_tree_of_relays_serves_every_watcher_every_frame(tmp_path: Path) -> None:
    folder, path = fakes.write_bundle(tmp_path / "bundle"), tmp_path / "tree.json"
    words = ["--watchers", "30", "--chain", "6", "--relays", "2", "--sampled", "3", "--seconds", "5"]
    assert tree.main([*words, "--bundle", str(folder), "--json", str(path)]) == 0
    found = json.loads(path.read_text())
    assert [(row["shape"], row["watchers"]) for row in found["rows"]] == [("chain", 6), ("side by side", 30)]
    for row in found["rows"]:
        assert row["dropped_frames"] == row["hungry_sinks"] == 0
        assert len(row["relay_lag_ms"]) == len(row["added_p95_ms"]) == 2
    told = cluster_tables.tree("here", found)
    assert "| 2 side by side | 30 |" in told and "A bare write to a socket" in told
