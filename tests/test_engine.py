"""The engine: what is refused at the door, what the graph computes, and where."""

from __future__ import annotations

import numpy as np
import pytest

from streamer.contract.errors import FaceError
from streamer.core.options import SessionOptions
from streamer.engine import backend as backend_module
from streamer.engine import offline
from streamer.engine.backend import OnnxBackend
from streamer.engine.binding import fixed_size
from streamer.engine.bundle import Bundle
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
from tests.fakes import request_of


@pytest.fixture
def bundle(tmp_path):
    return Bundle.load(fakes.write_bundle(tmp_path / "bundle"))


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
