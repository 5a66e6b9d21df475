"""The measures measure what they say."""

from __future__ import annotations

import numpy as np

from benchmarks.latency import Sent
from benchmarks.provenance import percentiles, provenance


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
