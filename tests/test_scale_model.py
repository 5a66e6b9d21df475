"""The model of large scale: what is simulated, what is learnt, the arithmetic, and the command."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import scale_model, scale_runs, scale_tables
from benchmarks.cluster_model import Fleet, any_phases, chunks_of, drawn_phases, simulate
from benchmarks.scale_charts import check as check_chart
from benchmarks.service_times import HOP_S, WAKES, Costs, batches, calibrated
from benchmarks.sizing import Holds, Prices, Traffic, broadcast, network_limits, sized, traffic
from streamer.contract.grid import Grid
from streamer.core.windower import Windower

COSTS = Costs(
    batch_s=((1, 0.005), (2, 0.007), (4, 0.011)), wake_s=2e-4, call_s=1e-3, way_s=1e-3, replica_s=1e-3
)
HOLDS = Holds(
    server=20,
    gateway=10,
    replica=25,
    gpu_replica=50,
    gpu=1000,
    server_cores=2,
    gateway_cores=1.0,
    replica_cores=1.5,
    gpu_replica_cores=0.5,
    watcher_cores=1e-3,
    relay=100,
)
WIRES = Traffic(audio=3e5, frames=1e5, there=8e6, back=1e6)


def p99_s(fleet: Fleet, costs: Costs = COSTS) -> float:
    return float(np.percentile(simulate(fleet, costs, 6, seed=1).latency_s, 99))


# ---- the simulation ----


def test_windows_are_due_at_the_chunk_at_which_the_windower_cuts_them() -> None:
    windower = Windower(Grid(16000, 30, 16000, 214, 24), 2, 2)
    cut = [chunk for chunk in range(1, 200) for _ in windower.push(np.zeros(320, np.float32))]
    assert [chunks_of(number) for number in range(len(cut))] == cut


def test_a_lone_speaker_waits_for_nothing_but_the_work() -> None:
    costs = replace(COSTS, wake_s=0.0, call_s=0.0, way_s=0.004, replica_s=0.0)
    found = simulate(Fleet((0.0,), 1, 1), costs, 6)
    assert found.queue_s == pytest.approx([0.003] * len(found.queue_s))  # gathering
    assert found.call_s == pytest.approx(
        [0.004 + 0.001 + 0.005] * len(found.call_s)
    )  # way, batch wait, batch
    # The newest frame of a hop waits 0, 6.7 or 13.3 ms for its chunk, the older one a frame more.
    waits = sorted({round(1000 * late - 13, 1) for late in found.latency_s})
    assert waits == [0.0, 6.7, 13.3, 33.3, 40.0, 46.7]


def test_every_frame_comes_once_joined_or_not() -> None:
    for joins in (False, True):
        busy = Fleet(any_phases(12, 1), 1, 1, is_local=True, cores=0.6, joins=joins)
        frames = len(simulate(busy, COSTS, 6).latency_s)
        assert frames == len(simulate(replace(busy, cores=None), COSTS, 6).latency_s)
        assert frames >= 12 * 30 * 6 - 12 * 6


def test_equal_seeds_give_equal_results() -> None:
    costs, fleet = replace(COSTS, spread=0.3), Fleet(any_phases(8, 1), 2, 3)
    first, same, other = (simulate(fleet, costs, 3, seed).latency_s for seed in (1, 1, 2))
    assert first == same != other


def test_more_speakers_are_later_and_more_replicas_are_not() -> None:
    late = [p99_s(Fleet(any_phases(number, 1), 4, 2)) for number in (2, 10, 20, 40, 60)]
    assert all(b > a - 1e-3 for a, b in itertools.pairwise(late)) and late[-1] > 2 * late[0]
    pools = [p99_s(Fleet(any_phases(40, 1), 4, replicas)) for replicas in (1, 2, 4)]
    assert pools[0] > pools[1] > pools[2]


def test_late_windows_that_are_joined_end_a_backlog() -> None:
    full = Fleet(any_phases(30, 1), 1, 1, is_local=True)
    slow = replace(COSTS, batch_s=((1, 0.004),))
    assert p99_s(replace(full, joins=True), slow) < 0.5 < p99_s(full, slow)


def test_cores_that_are_shared_are_slower_than_ones_own_and_all_work_is_counted() -> None:
    alone, shared = (simulate(Fleet(any_phases(10, 1), 1, 2, cores=cores), COSTS, 6) for cores in (None, 1.5))
    assert np.mean(shared.latency_s) > np.mean(alone.latency_s)
    windows = 10 / HOP_S
    wakes = alone.stations["gateway"].cores - COSTS.call_s * windows / float(np.mean(alone.batch))
    assert wakes == pytest.approx(windows * WAKES * COSTS.wake_s, rel=0.1)
    assert sum(one.cores for one in shared.stations.values()) < 1.5


def test_the_phases_are_those_of_the_load_generator() -> None:
    assert drawn_phases(2) == pytest.approx((0.06374, 0.00377), abs=1e-5)
    assert all(0 <= phase < 0.2 for phase in any_phases(50, 3))


def test_a_fleet_without_anybody_is_refused() -> None:
    with pytest.raises(ValueError, match="speakers"):
        simulate(Fleet(()), COSTS, 1)


# ---- what is learnt ----


def results(server: float = 0.002, replica: float = 0.003) -> dict[str, dict[str, Any]]:
    """Made up: a gateway takes 2 ms a window and 1 ms a call, a replica 3 ms a call beside its engine."""

    def row(streams: int, batch: float, pool: bool) -> dict[str, Any]:
        windows = streams * 15 * 13 / (14 + 0.01 * streams)
        calls = windows * (1 - (batch - 1) / 2)
        engine = calls * 0.005 + (windows - calls) * 0.002
        gateway = 0.02 + server * windows + 0.001 * calls
        return {
            "streams": streams,
            **{f"{q}_ms": 60.0 for q in ("p50", "p95", "p99")},
            "server_cores": gateway if pool else 0.02 + server * windows + engine,
            "replica_cores": 0.03 + replica * calls + engine if pool else 0.0,
            "ray_cores": 0.08 + 0.0005 * windows if pool else 0.0,
            "generator_cores": 0.01 + 0.0004 * windows,
            "mean_batch": batch,
            "mean_queue_ms": 3.0,
            "mean_call_ms": 11.0 + 2.5 * (batch - 1) if pool else 5.0,
        }

    levels = [(1, 1.0), (2, 1.6), (4, 1.1), (6, 1.3)]
    config = {
        "seconds": 10,
        "settle_s": 3.0,
        "replicas": 2,
        "deadline_ms": 116.7,
        "window_bytes": 74128,
        "motion_bytes": 4992,
    }
    common = {
        "machine": {"processor": "Paper", "cores": 2, "system": "none"},
        "commit": "0123456",
        "measured": "2026-01-01T00:00Z",
    }
    rows = [
        {
            "provider": "cpu",
            "variant": "int8",
            "batch": batch,
            "batch_p50_ms": 3.0 + 2.0 * batch,
            "batch_p99_ms": 3.0 + 2.0 * batch,
        }
        for batch in (1, 2, 4, 8)
    ]
    tree = [
        {
            "shape": "side by side",
            "relays": 3,
            "watchers": watchers,
            "relay_cores": [watchers * 5e-5] * 3,
            "added_p95_ms": [added, 1.0, 1.0],
        }
        for watchers, added in ((300, 3.0), (3000, 15.0), (9999, 300.0))
    ]
    return {
        "cluster": {
            "local": [row(*level, pool=False) for level in levels],
            "pool": [row(*level, pool=True) for level in levels],
            "config": config,
            **common,
        },
        "engine": {"rows": rows, "peak_gops_per_s": {}, **common},
        "tree": {"rows": tree, **common},
    }


def test_service_times_come_out_of_measurements_that_were_made_from_them() -> None:
    made = results()
    costs = calibrated(made["cluster"], made["engine"], "pool")
    assert costs.wake_s * WAKES + costs.call_window_s == pytest.approx(0.002, rel=1e-3)
    assert costs.call_s == pytest.approx(0.001, rel=1e-2)
    assert costs.replica_s == pytest.approx(0.003, rel=1e-2)
    assert costs.aside_s == pytest.approx(0.0005, rel=1e-3)
    assert costs.idle_cores == pytest.approx(0.13, rel=1e-2)
    # A call of two takes 2.5 ms longer than one of one: 2 ms of the engine, so half a one of packing.
    assert costs.call_window_s == pytest.approx(0.0005, rel=1e-2)
    assert costs.way_s == pytest.approx(0.011 - 0.001 - 0.0005 - 0.003 - 0.001 - 0.005, rel=1e-2)


def test_only_the_levels_of_few_speakers_are_learnt_from() -> None:
    made = results()
    before = calibrated(made["cluster"], made["engine"], "pool")
    made["cluster"]["pool"][-1].update(server_cores=9.0, replica_cores=9.0, mean_call_ms=900.0)
    assert calibrated(made["cluster"], made["engine"], "pool") == before
    with pytest.raises(ValueError, match="Three levels"):
        calibrated(made["cluster"], made["engine"], "pool", low=2)


def test_a_batch_between_two_that_were_measured_lies_on_a_line() -> None:
    curve, spread = batches(results()["engine"])
    costs = Costs(curve)
    assert [costs.of_batch(size) for size in (1, 3, 8, 16)] == pytest.approx([0.005, 0.009, 0.019, 0.035])
    assert spread == 0
    assert Costs(((1, 0.002),)).of_batch(5) == pytest.approx(0.01)
    with pytest.raises(ValueError, match="cuda fp16"):
        batches(results()["engine"], "cuda", "fp16")


# ---- arithmetic ----


def test_sizes_are_what_they_hold_divided_by_what_is_planned() -> None:
    prices = Prices(vcpu_hour=1.0, gpu_hour=10.0, egress_gb=0.0, inner_gb=0.0)
    row = sized("pool of GPUs", 1000, 0, HOLDS, WIRES, prices, fill=0.5)
    assert (row["gateways"], row["replicas"], row["gpus"]) == (200, 40, 2)
    assert row["vcpus"] == 200 + 40 * 0.5
    assert row["month"] == 730 * (220 + 2 * 10)
    assert row["inner_gbit"] == 9.0 and row["egress_gbit"] == 0.1
    row = sized("servers", 1000, 0, HOLDS, WIRES, prices, fill=0.5)
    assert (row["servers"], row["vcpus"], row["inner_gbit"], row["gpus"]) == (100, 200, 0, 0)


def test_watchers_cost_processors_and_bandwidth() -> None:
    prices = Prices(vcpu_hour=0.0, egress_gb=1.0)
    row = sized("servers", 1000, 10, HOLDS, WIRES, prices, fill=1.0)
    assert row["servers"] == 50 + 5  # 100 cores to denoise, and 10 for 10,000 watchers
    assert row["egress_gbit"] == 1.1
    assert row["month"] == pytest.approx(1.1 / 8 * 3600 * 730, abs=1)


def test_relays_stack_until_one_serves_them_all() -> None:
    row = broadcast(10_000, HOLDS, WIRES, Prices(), fill=0.5)
    assert (row["layers"], row["relays"]) == (2, 200 + 4)
    assert broadcast(50, HOLDS, WIRES, Prices(), fill=0.5)["relays"] == 0


def test_a_network_card_is_full_of_windows() -> None:
    row = network_limits(WIRES, 1, 10, HOLDS)
    assert row["gateway_streams"] == int(10e9 / 8.2e6)
    assert row["gpu_streams"] == 1250 and row["gpu_gbit"] == 8.0


def test_a_streams_bandwidth_is_that_of_its_messages() -> None:
    wires = traffic(window_bytes=1000, motion_bytes=100)
    assert wires.there == pytest.approx(8 * 1000 * 15)
    assert wires.audio == pytest.approx(8 * 50 * (640 + 8 + 60))
    assert wires.frames == pytest.approx(8 * 15 * (40 + 2 * 52 * 4 + 60))


def test_the_most_that_holds_is_found() -> None:
    for top, found in ((0, 0), (1, 1), (13, 13), (63, 63), (64, 64), (99, 64)):
        assert scale_runs.most(top.__ge__) == found


def test_a_relay_serves_as_many_as_it_was_in_time_with() -> None:
    tree = results()["tree"]
    cores, watchers = scale_runs.watching(tree, 20.0)
    assert cores == pytest.approx(1.5e-4) and watchers == 1000
    assert scale_runs.watching(tree, 5.0)[1] == 100
    with pytest.raises(SystemExit, match="--hop-adds-ms"):
        scale_runs.watching(tree, 1.0)


# ---- the command ----


def command(folder: Path, made: dict[str, dict[str, Any]], *words: str) -> list[str]:
    """The words of the command, with the results in a folder."""
    for name, result in made.items():
        (folder / f"{name}.json").write_text(json.dumps(result))
    files = [word for name in made for word in (f"--{name}", str(folder / f"{name}.json"))]
    return [*files, "--seconds", "1", "--again", *words]


def test_the_command_answers_everything_and_calls_gpus_assumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scale_runs, "REPLICAS", (1, 2))
    monkeypatch.setattr(scale_runs, "LOADS", (0.3, 0.9))
    monkeypatch.setattr(scale_runs, "MOST_STREAMS", 8)
    out, picture = tmp_path / "scale.json", tmp_path / "scale.png"
    made = results()
    words = command(
        tmp_path, made, str(tmp_path / "cluster.json"), "--json", str(out), "--chart", str(picture)
    )
    assert scale_model.main(words) == 0
    result = json.loads(out.read_text())
    assert picture.stat().st_size > 10_000 and (tmp_path / "scale-check.png").stat().st_size > 10_000
    assert [row["streams"] for row in result["check"]] == [1, 2, 4, 6] * 2
    assert [row["learnt_from"] for row in result["check"]] == [True, True, True, False] * 2
    assert all(row["again_p99_ms"] == row["measured_p99_ms"] for row in result["check"])
    assert len(result["sizes"]) == 3 * 3 * 2
    assert "pool of GPUs (assumed)" in capsys.readouterr().out
    table = scale_tables.scale("paper", result)
    lines = [line for line in table.splitlines() if line.startswith("|") and "GPUs" in line]
    assert len(lines) == 4 and all("(assumed)" in line for line in lines[1:])
    assert "Nothing was learnt from 2 levels." in scale_tables.check("paper", result)
    result["check"][3]["again_p99_ms"] = None
    assert check_chart(result).axes


def test_what_is_missing_or_of_another_kind_is_named_with_what_to_do(tmp_path: Path) -> None:
    words = command(tmp_path, results())
    (tmp_path / "tree.json").unlink()
    with pytest.raises(SystemExit, match=r"tree.json is not there. Make it with `python -m benchmarks.tree"):
        scale_model.main(words)
    (tmp_path / "tree.json").write_text("{}")
    with pytest.raises(SystemExit, match="is no result of benchmarks.tree"):
        scale_model.main(words)
    (tmp_path / "tree.json").write_text("{")
    with pytest.raises(SystemExit, match="cannot be read"):
        scale_model.main(words)


def test_results_that_do_not_belong_together_or_say_too_little_are_refused(tmp_path: Path) -> None:
    made = results()
    made["tree"]["machine"] = {"processor": "Another", "cores": 64, "system": "none"}
    with pytest.raises(SystemExit, match="different machines"):
        scale_model.main(command(tmp_path, made))
    made = results()
    made["cluster"]["pool"] = made["cluster"]["pool"][2:]
    with pytest.raises(SystemExit, match="Three levels"):
        scale_model.main(command(tmp_path, made))
    with pytest.raises(SystemExit, match="--fill"):
        scale_model.main(["--fill", "0"])
