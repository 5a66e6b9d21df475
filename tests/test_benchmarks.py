"""The measures measure what they say."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.latency import Sent
from benchmarks.lips import Face, auc, measure
from benchmarks.provenance import percentiles, provenance
from model.shape import CHANNELS
from streamer.engine.bundle import Bundle


def test_auc_is_the_chance_that_a_positive_scores_above_a_negative() -> None:
    random = np.random.default_rng(0)
    positive, negative = list(random.normal(1, 1, 40)), list(random.normal(0, 1, 60))
    expected = np.mean([p > n for p in positive for n in negative])
    assert auc(positive, negative) == pytest.approx(expected, abs=1e-4)
    assert auc([2.0, 3.0], [0.0, 1.0]) == 1


def test_percentiles_are_named() -> None:
    assert percentiles(np.arange(101)) == {"p50": 50, "p95": 95, "p99": 99}


def test_a_result_names_its_machine_and_commit() -> None:
    facts = provenance()
    assert facts["machine"]["cores"] >= 1
    assert facts["machine"]["processor"]
    assert facts["versions"]["onnxruntime"]


def test_a_sample_leaves_with_the_chunk_that_holds_it() -> None:
    sent = Sent(start=100.0, chunk_s=0.01, left=[100.011, 100.021, 100.031])
    assert sent.left_after(100.01) == 100.011  # the first chunk's own end
    assert sent.left_after(100.0101) == 100.021
    assert sent.left_after(100.5) is None


def test_a_late_face_has_a_positive_lag_and_a_perfect_one_perfect_figures() -> None:
    random = np.random.default_rng(0)
    taught = np.zeros((90, 52), np.float32)
    taught[:, CHANNELS.index("jawOpen")] = np.convolve(random.random(90), np.ones(5) / 5, "same") * 0.5
    phones = [
        ["SIL", 0.0, 0.4],
        ["P", 0.4, 0.6],
        ["AA", 0.6, 1.0],
        ["F", 1.0, 1.2],
        ["UW", 1.2, 1.6],
        ["IY", 1.6, 3.0],
    ]
    taught[12:18] = 0
    taught[30:36, CHANNELS.index("mouthRollLower")] = 0.6
    taught[36:48, CHANNELS.index("mouthPucker")] = 0.7
    face = Face(Bundle.load())
    utterances = [{"phones": phones}]
    perfect = measure([taught], [taught], utterances, face, 30)
    assert perfect["lve_mm2"] == 0
    assert perfect["opening_r"] == 1
    assert perfect["lag_ms"] == pytest.approx(0, abs=1)
    assert perfect["closure_recall"] == perfect["labiodental_auc"] == perfect["rounding_auc"] == 1
    late = measure([np.roll(taught, 2, axis=0)], [taught], utterances, face, 30)
    assert late["lag_ms"] == pytest.approx(2000 / 30, abs=5)
    assert late["lve_mm2"] > 0
