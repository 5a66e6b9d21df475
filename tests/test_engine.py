"""The engine: what is refused at the door, what the graph computes, the thread that survives everything."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from streamer.contract.errors import FaceError
from streamer.core.options import SessionOptions
from streamer.core.session import Session
from streamer.engine import backend as backend_module
from streamer.engine import offline
from streamer.engine.backend import OnnxBackend
from streamer.engine.binding import fixed_size
from streamer.engine.bundle import Bundle
from streamer.engine.inference_thread import InferenceThread
from streamer.engine.providers import (
    CPU,
    CUDA,
    TENSORRT,
    Rung,
    ladder,
    named_providers,
    preferred_providers,
    provider_options,
)
from tests import fakes


@pytest.fixture
def bundle(tmp_path):
    return Bundle.load(fakes.write_bundle(tmp_path / "bundle"))


def request_of(manifest, seed=0, **choices):
    """A session's first request."""
    session = Session(manifest, SessionOptions.choose(manifest, seed=seed, **choices))
    session.feed(fakes.speech(1, seed=seed))
    return session.next_request()


# ---- the bundle ----


def test_a_bundle_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(FaceError) as caught:
        Bundle.load(tmp_path / "nowhere")
    assert caught.value.code == "bad_bundle" and caught.value.exit_code == 4


def test_vertices_are_the_template_moved_along_the_basis(bundle):
    coefficients = np.random.default_rng(0).random((5, 52), np.float32)
    expected = bundle.rig.template + np.einsum("nc,cvx->nvx", coefficients, bundle.rig.basis)
    moved = bundle.vertices(coefficients)
    assert moved.shape == (5, fakes.VERTICES, 3) and moved.dtype == np.float32
    np.testing.assert_allclose(moved, expected, atol=1e-6)
    np.testing.assert_array_equal(bundle.vertices(np.zeros((1, 52), np.float32))[0], bundle.rig.template)


def test_a_rig_that_is_no_rig_is_refused(bundle):
    (bundle.folder / "rig.npz").write_bytes(b"no rig")
    with pytest.raises(FaceError, match="rig.npz is not a rig"):
        _ = bundle.rig


def test_a_rig_with_other_channels_is_refused(bundle):
    arrays = dict(np.load(bundle.folder / "rig.npz"))
    arrays["names"] = arrays["names"][::-1]
    np.savez(bundle.folder / "rig.npz", **arrays)
    with pytest.raises(FaceError, match="other channels"):
        _ = bundle.rig


def test_a_rig_that_holds_a_pickle_is_never_unpickled(bundle):
    arrays = dict(np.load(bundle.folder / "rig.npz"))
    arrays["names"] = np.array([{"a": 1}], dtype=object)
    np.savez(bundle.folder / "rig.npz", **arrays)
    with pytest.raises(FaceError, match="rig.npz is not a rig"):
        _ = bundle.rig


# ---- the graph ----


def test_the_graph_sees_every_input(bundle):
    onnx = OnnxBackend(bundle, providers=[CPU])
    request = request_of(bundle.manifest, style={"tense": 1})
    motion = onnx.infer([request])
    level = np.abs(request.audio).mean() + 1 + fakes.STYLES.index("tense")
    known = request.prefix * request.prefix_mask[:, None]
    np.testing.assert_allclose(motion[0], 0.1 * request.noise + known + level, atol=1e-5)
    assert onnx.provider == CPU


def test_a_batch_gives_each_request_its_own_answer(bundle):
    onnx = OnnxBackend(bundle)
    onnx.warm_up(4)
    requests = [request_of(bundle.manifest, seed) for seed in range(3)]
    together = onnx.infer(requests)
    assert together.shape == (3, bundle.manifest.timing.segment_frames, 52)
    for row, request in enumerate(requests):
        np.testing.assert_allclose(together[row], onnx.infer([request])[0], atol=1e-6)


def test_an_answer_is_not_overwritten_by_the_next(bundle):
    onnx = OnnxBackend(bundle)
    first = onnx.infer([request_of(bundle.manifest, 0)])
    kept = first.copy()
    onnx.infer([request_of(bundle.manifest, 1)])
    np.testing.assert_array_equal(first, kept)


def test_a_graph_with_other_names_is_refused(tmp_path):
    bundle = Bundle.load(fakes.write_bundle(tmp_path / "bundle", motion_name="movement"))
    with pytest.raises(FaceError, match="movement") as caught:
        OnnxBackend(bundle)
    assert caught.value.code == "bad_bundle"


def test_a_graph_with_other_shapes_is_refused(bundle):
    fakes.write_graph(bundle.model_file, fakes.manifest(window_samples=9_999))
    with pytest.raises(FaceError, match=r"audio has the shape .*9999.* where \(batch, 9280\)"):
        OnnxBackend(bundle)


def test_a_file_that_is_no_graph_is_refused(bundle):
    bundle.model_file.write_bytes(b"no graph")
    with pytest.raises(FaceError, match="cannot be loaded"):
        OnnxBackend(bundle)


def test_a_provider_that_is_not_there_is_named(bundle):
    with pytest.raises(FaceError, match="NoSuchProvider") as caught:
        OnnxBackend(bundle, providers=["NoSuchProvider"])
    assert caught.value.code == "bad_config"


def test_gpus_are_preferred_and_the_cpu_always_follows():
    assert preferred_providers([CPU, CUDA, TENSORRT]) == [TENSORRT, CUDA, CPU]
    assert preferred_providers(["AzureExecutionProvider", CPU]) == [CPU]


def test_providers_are_named_as_people_write_them():
    assert named_providers("cuda, cpu") == [CUDA, CPU]
    with pytest.raises(FaceError, match="no provider 'cudnn': choose among tensorrt, cuda") as caught:
        named_providers("cudnn")
    assert caught.value.code == "bad_config"


def test_each_provider_computes_with_its_best_variant_and_the_cpu_can_fall_back_to_float32(bundle):
    everything = dict.fromkeys(("fp32", "fp16", "int8"), bundle.model_file)
    assert [str(rung) for rung in ladder([CUDA, CPU], everything)] == [
        "cuda fp16 captured",
        "cuda fp16",
        "cpu int8",
        "cpu fp32",
    ]
    assert [str(rung) for rung in ladder([CUDA, CPU], bundle.variants)][1:] == ["cuda fp32", "cpu fp32"]
    assert [str(r) for r in ladder([CUDA, CPU], everything, "fp32")][1:] == ["cuda fp32", "cpu fp32"]
    assert [str(r) for r in ladder(named_providers("coreml,directml"), everything)] == [
        "coreml fp32",
        "directml fp16",
    ]
    with pytest.raises(FaceError, match="no variant 'int4', only fp32, fp16, int8"):
        ladder([CPU], everything, "int4")


def test_a_listed_cuda_that_does_not_work_gives_way_to_the_cpu_with_a_reason(bundle, monkeypatch, caplog):
    if CUDA in backend_module.available_providers():
        pytest.skip("this machine's CUDA may work")
    # The runtime here knows no CUDA and refuses it, as a broken installation does.
    monkeypatch.setattr(backend_module, "available_providers", lambda: [CUDA, CPU])
    with caplog.at_level("WARNING"), pytest.warns(UserWarning, match="CUDA"):
        onnx = OnnxBackend(bundle)
    assert onnx.provider == CPU and onnx.fallbacks == 2
    assert "cuda fp32 captured cannot be used, so cuda fp32 computes instead" in caplog.text
    assert "cuda fp32 cannot be used, so cpu fp32 computes instead" in caplog.text
    assert [tried.reason is None for tried in onnx.tried] == [False, False, True]


def test_a_providers_options_say_what_it_cannot_guess():
    shapes = {"audio": (16_000,), "style": (12,)}
    (provider, options), *rest = provider_options(Rung(TENSORRT, "fp16"), shapes)
    assert provider == TENSORRT and [name for name, _ in rest] == [CUDA, CPU]
    assert options["trt_profile_max_shapes"] == "audio:256x16000,style:256x12"
    assert options["trt_fp16_enable"] == "1"
    for captured in (True, False):
        (_, options), *_ = provider_options(Rung(CUDA, "fp16", captured), shapes)
        assert options["enable_cuda_graph"] == str(int(captured))
    assert provider_options(Rung(CPU, "int8"), shapes) == [(CPU, {})]


def test_a_gpu_whose_first_batch_fails_is_left_before_the_door_opens(bundle, monkeypatch, caplog):
    class Broken(backend_module.Binding):
        def run(self, count):
            if self.broken:
                raise RuntimeError("capture is not permitted")
            return super().run(count)

        def __init__(self, runtime, session, shapes, output, batch, device):
            self.broken = device == "cuda"
            super().__init__(runtime, session, shapes, output, batch, "cpu")

    real = OnnxBackend._open
    monkeypatch.setattr(backend_module, "available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(backend_module, "Binding", Broken)
    monkeypatch.setattr(OnnxBackend, "_open", lambda self, rung: real(self, Rung(CPU, rung.variant)))
    onnx = OnnxBackend(bundle)
    assert (onnx.provider, onnx.fallbacks) == (CPU, 2)
    assert onnx.tried[0].reason == "Its first batch failed: capture is not permitted."


@pytest.fixture
def two_variants(tmp_path):
    """A bundle whose int8 graph computes just what its float32 one does."""
    return Bundle.load(fakes.write_bundle(tmp_path / "two", variants=("int8",)))


def test_a_variant_that_fails_while_serving_gives_way_to_the_next_with_the_same_answer(
    two_variants, monkeypatch, caplog
):
    onnx = OnnxBackend(two_variants)
    assert onnx.variant == "int8" and onnx.fallbacks == 0
    request = request_of(two_variants.manifest)
    before = onnx.infer([request])

    def fails(count):
        raise RuntimeError("the device is gone.")

    monkeypatch.setattr(onnx._binding(1), "run", fails)
    with caplog.at_level("WARNING"):
        after = onnx.infer([request])
    np.testing.assert_array_equal(after, before)
    assert (onnx.provider, onnx.variant, onnx.fallbacks) == (CPU, "fp32", 1)
    assert "cpu int8 cannot be used, so cpu fp32 computes instead: it failed while computing" in caplog.text
    assert onnx.tried[0].reason == "it failed while computing: the device is gone"


def test_the_last_rungs_failure_fails_the_batch_and_not_the_next_one(bundle, monkeypatch):
    onnx = OnnxBackend(bundle)
    request = request_of(bundle.manifest)

    def fails(count):
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(onnx._binding(1), "run", fails)
        with pytest.raises(FaceError, match="out of memory") as caught:
            onnx.infer([request])
    assert caught.value.code == "inference_failed"
    assert np.isfinite(onnx.infer([request])).all()


def test_8_bit_products_that_overflow_are_found_out_before_the_door_opens(tmp_path, caplog):
    folder = fakes.write_bundle(tmp_path / "wrong", variants=("int8",), variant_noise=0.8)
    with caplog.at_level("WARNING"):
        onnx = OnnxBackend(Bundle.load(folder))
    assert onnx.variant == "fp32"
    assert "8-bit products are wrong" in onnx.tried[0].reason


def test_a_batch_that_is_filled_up_to_a_fixed_size_gives_the_same_rows(bundle):
    onnx = OnnxBackend(bundle)
    requests = [request_of(bundle.manifest, seed) for seed in range(3)]
    expected = onnx.infer(requests)
    assert [fixed_size(batch) for batch in (1, 2, 3, 5, 8)] == [1, 2, 4, 8, 8]
    filled = onnx._binding(fixed_size(3))
    for row, request in enumerate(requests):
        for name, array in filled.inputs.items():
            array[row] = getattr(request, name)
    np.testing.assert_allclose(filled.run(3), expected, atol=1e-6)


def test_the_bundle_that_ships_animates_speech():
    bundle = Bundle.load()
    onnx = OnnxBackend(bundle)
    onnx.warm_up()
    blocks = list(
        offline.animate([fakes.speech(0.5)], bundle.manifest, onnx, SessionOptions.choose(bundle.manifest))
    )
    values = np.concatenate([block.values for block in blocks])
    assert values.shape == (15, 52)
    assert values.min() >= 0 and values.max() <= 1
    assert bundle.vertices(values).shape == (15, bundle.manifest.rig.vertices, 3)


# ---- the thread ----


class Results:
    """Gathers outcomes and lets a test wait for a number of them."""

    def __init__(self):
        self.outcomes = []
        self._arrived = threading.Semaphore(0)

    def __call__(self, outcome):
        self.outcomes.append(outcome)
        self._arrived.release()

    def wait(self, count):
        for _ in range(count):
            assert self._arrived.acquire(timeout=30)
        return self.outcomes


class GatedBackend(fakes.FakeBackend):
    """A fake that computes only when the test opens the gate."""

    def __init__(self, manifest):
        super().__init__(manifest)
        self.entered = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)

    def infer(self, requests):
        self.entered.release()
        assert self.gate.acquire(timeout=30)
        return super().infer(requests)


MANIFEST = fakes.manifest()


def test_each_request_is_answered_with_its_motion_and_its_times():
    ticks = iter(range(1000))
    results, fake = Results(), fakes.FakeBackend(MANIFEST)
    request = request_of(MANIFEST)
    with InferenceThread(fake, clock=lambda: float(next(ticks))) as thread:
        thread.submit("a", request, deadline=1e9, on_done=results)
        (outcome,) = results.wait(1)
    assert outcome.request is request and outcome.error is None
    np.testing.assert_array_equal(outcome.motion, fakes.FakeBackend(MANIFEST).infer([request])[0])
    assert outcome.queue_s > 0 and outcome.compute_s > 0
    assert outcome.batch == 1 and not outcome.late


def test_what_waits_together_is_denoised_together_earliest_deadline_first():
    results, gated = Results(), GatedBackend(MANIFEST)
    with InferenceThread(gated, max_batch=2, clock=lambda: 0.0) as thread:
        thread.submit("first", request_of(MANIFEST), 1.0, results)
        assert gated.entered.acquire(timeout=30)
        requests = {name: request_of(MANIFEST, seed) for seed, name in enumerate(("late", "soon", "middle"))}
        for name, deadline in (("late", 9.0), ("soon", 1.0), ("middle", 2.0)):
            thread.submit(name, requests[name], deadline, results)
        gated.gate.release(3)
        outcomes = results.wait(4)
    order = [outcome.request for outcome in outcomes[1:]]
    assert order == [requests["soon"], requests["middle"], requests["late"]]
    assert gated.batches == [1, 2, 1]


def test_two_backends_compute_side_by_side_and_share_what_waits():
    results, gated = Results(), [GatedBackend(MANIFEST), GatedBackend(MANIFEST)]
    with InferenceThread(gated, max_batch=8, clock=lambda: 0.0) as thread:
        for name in "ab":
            thread.submit(name, request_of(MANIFEST), 1.0, results)
        for backend in gated:
            assert backend.entered.acquire(timeout=30), "each has a window of its own"
        for number in range(5):
            thread.submit(f"later {number}", request_of(MANIFEST, number), 2.0, results)
        for backend in gated:
            backend.gate.release(9)
        outcomes = results.wait(7)
    assert all(outcome.error is None for outcome in outcomes)
    assert gated[0].batches[0] == gated[1].batches[0] == 1
    assert sum(sum(backend.batches) for backend in gated) == 7
    assert thread.backend is gated[0]


def test_a_session_can_submit_its_next_window_from_the_callback():
    results, fake = Results(), fakes.FakeBackend(MANIFEST)
    with InferenceThread(fake) as thread:

        def again(outcome):
            results(outcome)
            if len(results.outcomes) < 3:
                thread.submit("a", request_of(MANIFEST), 0.0, again)

        thread.submit("a", request_of(MANIFEST), 0.0, again)
        results.wait(3)
        assert thread.late == 3  # a deadline of 0 s is long past


@pytest.mark.parametrize("error", [ValueError("boom"), FaceError("inference_failed", "boom.")])
def test_a_failing_batch_is_reported_to_its_sessions_and_the_thread_lives_on(error, caplog):
    results, fake = Results(), fakes.FakeBackend(MANIFEST)
    with InferenceThread(fake) as thread:
        fake.fails_with = error
        thread.submit("a", request_of(MANIFEST), 0.0, results)
        (failed,) = results.wait(1)
        fake.fails_with = None
        thread.submit("a", request_of(MANIFEST), 0.0, results)
        results.wait(1)
    assert failed.motion is None and failed.error.code == "inference_failed"
    assert "boom" in failed.error.message
    assert results.outcomes[1].error is None


class PoisonedBackend(fakes.FakeBackend):
    """A fake that one window breaks: the one whose first sample is 1."""

    def __init__(self, manifest, poison):
        super().__init__(manifest)
        self.poison = poison
        self.entered = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)

    def infer(self, requests):
        self.entered.release()
        assert self.gate.acquire(timeout=30)
        motion = super().infer(requests)
        rows = [row for row, request in enumerate(requests) if request.audio[0] == 1]
        if rows and self.poison == "raises":
            raise ValueError("boom")
        motion[rows] = np.nan
        return motion


@pytest.mark.parametrize("poison", ["raises", "not a number"])
def test_who_shares_a_batch_with_a_window_that_breaks_the_model_loses_nothing(poison):
    results, broken, backend = Results(), Results(), PoisonedBackend(MANIFEST, poison)
    requests = [request_of(MANIFEST, seed) for seed in range(4)]
    requests[2].audio[0] = 1
    with InferenceThread(backend, clock=lambda: 0.0) as thread:
        thread.submit("first", request_of(MANIFEST), 0.0, results)
        assert backend.entered.acquire(timeout=30)
        for number, request in enumerate(requests):
            thread.submit(f"{number}", request, 1.0, broken if number == 2 else results)
        backend.gate.release(99)
        healthy, (failed,) = results.wait(4)[1:], broken.wait(1)
    expected = fakes.FakeBackend(MANIFEST).infer(requests)
    for outcome in healthy:
        number = next(n for n, request in enumerate(requests) if request is outcome.request)
        np.testing.assert_array_equal(outcome.motion, expected[number])
    if poison == "raises":
        assert backend.batches == [1, 4, 1, 1, 1, 1]
        assert failed.error.code == "inference_failed"
    else:
        assert backend.batches == [1, 4, 1]
        assert np.isnan(failed.motion).all(), "the session refuses it"


def test_windows_of_a_thread_that_hangs_are_denoised_by_another_and_it_may_come_back(caplog):
    results, gated = Results(), [GatedBackend(MANIFEST), GatedBackend(MANIFEST)]
    requests = {name: request_of(MANIFEST, seed) for seed, name in enumerate("abc")}
    with InferenceThread(gated, clock=lambda: 0.0, hang_looks=3) as thread:
        for name in "xy":
            thread.submit(name, request_of(MANIFEST), 0.0, results)
        for backend in gated:
            assert backend.entered.acquire(timeout=30)
        for name, request in requests.items():
            thread.submit(name, request, 1.0, results)
        gated[0].gate.release()  # it takes two or three of the three with it
        assert gated[0].entered.acquire(timeout=30)
        gated[1].gate.release(99)  # the other one has the rest, and works
        rest = results.wait(2)
        for _ in range(3):
            assert thread.look() == 0
        assert thread.look() == 1 and thread.look() == 1
        outcomes = results.wait(3)
        assert "does not come back" in caplog.text and not thread.all_hang
        gated[0].gate.release(99)
        thread.submit("later", request_of(MANIFEST), 0.0, results)
        results.wait(1)
        while thread.look():
            time.sleep(0.01)  # until it has answered what nobody wants any more
    assert len(rest) >= 2 and len(outcomes) == 6
    for outcome in outcomes[2:5]:
        expected = fakes.FakeBackend(MANIFEST).infer([outcome.request])[0]
        np.testing.assert_array_equal(outcome.motion, expected)


class AwayBackend(fakes.FakeBackend):
    """A fake that asks others, who are away for some calls."""

    def __init__(self, manifest, calls):
        super().__init__(manifest)
        self.away = calls

    def infer(self, requests):
        self.away -= 1
        if self.away >= 0:
            self.batches.append(len(requests))
            raise FaceError("engine_away", "Nobody answers.")
        return super().infer(requests)


def test_who_asks_an_engine_that_is_away_asks_again_until_the_deadline_and_the_batch_stays_together():
    results, backend = Results(), AwayBackend(MANIFEST, 3)
    now_s = iter([0.0] * 2 + [10.0] * 1000)
    thread = InferenceThread(backend, clock=lambda: 0.0, spreads=False)
    for name in "ab":
        thread.submit(name, request_of(MANIFEST), 1.0, results)
    with thread:
        assert all(outcome.error is None for outcome in results.wait(2))
        assert thread.retries == 2 * 3 and backend.batches == [2] * 4
    results, backend = Results(), AwayBackend(MANIFEST, 9)
    with InferenceThread(backend, clock=lambda: next(now_s)) as thread:
        thread.submit("late", request_of(MANIFEST), 1.0, results)
        (outcome,) = results.wait(1)
        assert outcome.error.code == "engine_away" and thread.retries == 0


def test_where_all_threads_hang_everybody_is_told_and_nothing_new_is_taken():
    results, gated = Results(), GatedBackend(MANIFEST)
    with InferenceThread(gated, clock=lambda: 0.0, hang_looks=0) as thread:
        thread.submit("hangs", request_of(MANIFEST), 0.0, results)
        assert gated.entered.acquire(timeout=30)
        thread.submit("waits", request_of(MANIFEST), 0.0, results)
        assert thread.look() == 1 and thread.all_hang
        assert [outcome.error.code for outcome in results.wait(2)] == ["inference_failed"] * 2
        with pytest.raises(FaceError, match="does not answer"):
            thread.submit("new", request_of(MANIFEST), 0.0, results)
        thread.stop()  # does not wait for it
        gated.gate.release()


def test_a_failing_callback_does_not_end_the_thread(caplog):
    results = Results()

    def fails(outcome):
        raise RuntimeError("a bug")

    with InferenceThread(fakes.FakeBackend(MANIFEST)) as thread:
        thread.submit("a", request_of(MANIFEST), 0.0, fails)
        thread.submit("b", request_of(MANIFEST), 1.0, results)
        results.wait(1)
    assert "a callback failed" in caplog.text


def test_a_cancelled_request_is_never_answered():
    results, gated = Results(), GatedBackend(MANIFEST)
    with InferenceThread(gated) as thread:
        thread.submit("in flight", request_of(MANIFEST), 0.0, results)
        assert gated.entered.acquire(timeout=30)
        thread.submit("waiting", request_of(MANIFEST), 0.0, results)
        thread.submit("kept", request_of(MANIFEST), 1.0, results)
        thread.cancel("in flight")
        thread.cancel("waiting")
        gated.gate.release(2)
        results.wait(1)
    assert len(results.outcomes) == 1 and gated.batches == [1, 1]


def test_stopping_answers_what_waits_and_takes_nothing_new():
    results, gated = Results(), GatedBackend(MANIFEST)
    thread = InferenceThread(gated)
    thread.start()
    thread.submit("in flight", request_of(MANIFEST), 0.0, results)
    assert gated.entered.acquire(timeout=30)
    thread.submit("waiting", request_of(MANIFEST), 0.0, results)
    stopper = threading.Thread(target=thread.stop)
    stopper.start()
    gated.gate.release()
    stopper.join(30)
    first, second = results.outcomes
    assert first.error is None and second.error.code == "shutting_down"
    with pytest.raises(FaceError) as caught:
        thread.submit("late", request_of(MANIFEST), 0.0, results)
    assert caught.value.code == "shutting_down"


def test_a_thread_that_was_never_started_can_be_stopped():
    InferenceThread(fakes.FakeBackend(MANIFEST)).stop()
