"""What every engine must do: the same tests for each, here and in a pool of machines.

Everything above ``Backend`` trusts this much of it. By itself the file asks ONNX Runtime in this process;
``tests/test_cluster.py`` runs it again in a process that has joined a Ray cluster, where ``ENGINE`` is the
cluster's address and ``BUNDLE`` the folder that the pool holds. The graph is a known one, which stops at a
loud sample.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from streamer.contract.errors import FaceError
from streamer.engine.backend import Backend, OnnxBackend
from streamer.engine.bundle import Bundle
from tests import fakes, faulty_bundles
from tests.fakes import request_of

ENGINE, BUNDLE = (os.environ.get(f"CONTRACT_{name}") for name in ("ENGINE", "BUNDLE"))


@dataclass(frozen=True)
class Engine:
    backend: Backend
    bundle: Bundle


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    if ENGINE and BUNDLE:
        from streamer.engine.pool.gateway import PoolBackend

        bundle = Bundle.load(Path(BUNDLE))
        return Engine(PoolBackend(ENGINE, bundle), bundle)
    bundle = Bundle.load(faulty_bundles.write(tmp_path_factory.mktemp("bundle"), "raises"))
    return Engine(OnnxBackend(bundle), bundle)


def test_every_input_reaches_the_graph(engine: Engine) -> None:
    request = request_of(engine.bundle.manifest, style={"tense": 1})
    motion = engine.backend.infer([request])
    level = np.abs(request.audio).mean() + 1 + fakes.STYLES.index("tense")
    known = request.prefix * request.prefix_mask[:, None]
    np.testing.assert_allclose(motion[0], 0.1 * request.noise + known + level, atol=1e-5)


@pytest.mark.parametrize("count", [1, 3, 32])
def test_each_request_of_a_batch_has_its_own_answer_as_if_alone(engine: Engine, count: int) -> None:
    requests = [request_of(engine.bundle.manifest, seed) for seed in range(count)]
    together = engine.backend.infer(requests)
    assert together.shape == (count, engine.bundle.manifest.timing.segment_frames, 52)
    assert together.dtype == np.float32
    for row, request in zip(together, requests, strict=True):
        np.testing.assert_allclose(row, engine.backend.infer([request])[0], atol=1e-6)


def test_a_window_that_is_asked_again_has_the_same_answer_bit_for_bit(engine: Engine) -> None:
    requests = [request_of(engine.bundle.manifest, seed) for seed in range(4)]
    first = engine.backend.infer(requests)
    for _ in range(8):  # whichever replica answers
        np.testing.assert_array_equal(engine.backend.infer(requests), first)


def test_an_answer_is_not_overwritten_by_the_next_and_a_question_is_not_changed(engine: Engine) -> None:
    question = request_of(engine.bundle.manifest, 0)
    asked = [np.copy(getattr(question, name)) for name in ("audio", "noise", "prefix", "style")]
    first = engine.backend.infer([question])
    kept = first.copy()
    engine.backend.infer([request_of(engine.bundle.manifest, 1)])
    np.testing.assert_array_equal(first, kept)
    for name, before in zip(("audio", "noise", "prefix", "style"), asked, strict=True):
        np.testing.assert_array_equal(getattr(question, name), before)


def test_a_window_that_breaks_the_graph_fails_by_name_and_the_next_one_is_answered(engine: Engine) -> None:
    loud = faulty_bundles.with_fault(fakes.speech(1), 500)
    poison = request_of(engine.bundle.manifest, audio=loud)
    healthy = request_of(engine.bundle.manifest)
    before = engine.backend.infer([healthy])
    for _ in range(2):
        with pytest.raises(FaceError) as told:
            engine.backend.infer([poison])
        assert told.value.code == "inference_failed"
    np.testing.assert_array_equal(engine.backend.infer([healthy]), before)


def test_it_says_what_computes_and_can_be_warmed(engine: Engine) -> None:
    engine.backend.warm_up(4)
    assert engine.backend.name and engine.backend.variant == "fp32"
    assert engine.backend.provider == "CPUExecutionProvider" and engine.backend.fallbacks == 0
