"""From a Lightning checkpoint to vertices on a socket: the paper's network, imported, exported and served."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import pickle
import urllib.error
import urllib.request
from dataclasses import asdict

import msgspec
import numpy as np
import pytest
import soundfile
import torch
from diffspeaker_client import AudioFormat, OutputFormat, connect

from model.diffusion import ddim_legacy, published_steps
from model.import_checkpoint import (
    detect_shape,
    main,
    network_of,
    read_lightning,
    read_template,
    style_names,
)
from model.paper.folded import noise_root
from model.paper.network import PaperDiffSpeaker, moving_average
from model.paper.shape import BIWI, VOCASET
from streamer.cli.main import main as diffspeaker
from streamer.contract.errors import FaceError
from streamer.contract.manifest import write_manifest
from streamer.core.options import SessionOptions
from streamer.core.session import Session
from streamer.engine import offline
from streamer.engine.backend import OnnxBackend
from streamer.engine.bundle import Bundle
from streamer.engine.inference_thread import InferenceThread
from streamer.server.app import serving
from streamer.server.loop import loop_factory
from streamer.server.settings import Settings
from tests import fakes
from tests.serving import everything, motion
from tests.test_paper_network import TINY, TINY_ENCODER, randomised

STEPS = 2
TEMPLATE = np.linspace(-0.1, 0.1, TINY.channels, dtype=np.float32).reshape(-1, 3)


def tiny_network():
    net = randomised(PaperDiffSpeaker(TINY, TINY_ENCODER), seed=5)
    with torch.no_grad():  # offsets of centimetres, as a face has
        net.denoiser.motion_decoder.weight.mul_(0.01)
        net.denoiser.motion_decoder.bias.mul_(0.01)
    return net


def lightning(net, **others):
    """What Lightning saves: the weights under their published names, amid other things."""
    weights = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): value
        for name, value in net.state_dict().items()
    }
    weights["denoiser.PPE.pe"] = torch.zeros(1, 40, TINY.width)
    weights["losses.total"] = torch.zeros(())
    return {"state_dict": weights, "epoch": 7, "pytorch-lightning_version": "1.9.0", **others}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The bundle that the command makes of a checkpoint."""
    root = tmp_path_factory.mktemp("paper")
    torch.save(lightning(tiny_network(), hyper_parameters=argparse.Namespace(lr=1e-4)), root / "tiny.ckpt")
    (root / "tiny.json").write_text(json.dumps(asdict(TINY)))
    TINY_ENCODER.save_pretrained(root / "encoder")
    np.save(root / "template.npy", TEMPLATE)
    arguments = [root / "tiny.ckpt", "--out", root / "bundle", "--config", root / "tiny.json"]
    arguments += ["--audio-encoder", root / "encoder", "--template", root / "template.npy"]
    arguments += ["--steps", STEPS, "--styles", "anna,berta,carla", "--licence", "made for this test"]
    assert main([str(argument) for argument in arguments]) == 0
    return root / "bundle"


@pytest.fixture(scope="module")
def bundle(folder):
    return Bundle.load(folder)


@pytest.fixture(scope="module")
def backend(bundle):
    return OnnxBackend(bundle, threads=1)


# ---- reading checkpoints ---------------------------------------------------------------------------------


def test_a_lightning_checkpoint_gives_back_the_network_whatever_else_it_holds(tmp_path):
    net = tiny_network()
    path = tmp_path / "a.ckpt"
    torch.save(lightning(net, hyper_parameters=argparse.Namespace(width=16)), path)
    weights = read_lightning(path)
    assert not {"denoiser.PPE.pe", "losses.total"} & weights.keys()
    loaded = network_of(weights, TINY, TINY_ENCODER)
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, net.state_dict()[name]), name


def test_a_prefix_before_the_names_is_cut_off_and_bare_weights_are_taken_too(tmp_path):
    net = tiny_network()
    torch.save({f"model.{name}": value for name, value in net.state_dict().items()}, tmp_path / "a.pt")
    assert read_lightning(tmp_path / "a.pt").keys() == net.state_dict().keys()


class Trap:
    """Calls a function when it is unpickled by ``pickle.load``."""

    def __init__(self, function, argument):
        self.call = function, (argument,)

    def __reduce__(self):
        return self.call


def leave_a_mark(path):
    open(path, "w").close()


def test_nothing_in_a_checkpoint_is_ever_run(tmp_path):
    path, marker = tmp_path / "a.ckpt", tmp_path / "ran"
    torch.save(lightning(tiny_network(), callbacks=Trap(leave_a_mark, str(marker))), path)
    assert read_lightning(path)
    torch.save(lightning(tiny_network(), callbacks=Trap(os.system, f"touch {marker}")), path)
    with pytest.raises(ValueError, match=r"asks for .*\.system to be run"):
        read_lightning(path)
    assert not marker.exists()


@pytest.mark.parametrize("content", [b"", b"no checkpoint", pickle.dumps({"state_dict": {}})])
def test_a_file_that_is_no_checkpoint_is_refused_by_name(tmp_path, content):
    (tmp_path / "a.ckpt").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.ckpt"):
        read_lightning(tmp_path / "a.ckpt")


def test_weights_of_another_kind_are_refused(tmp_path):
    torch.save({"state_dict": {"encoder.weight": torch.zeros(2)}}, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match="no DiffSpeaker"):
        read_lightning(tmp_path / "a.ckpt")


def test_missing_unknown_and_misshapen_weights_are_named():
    weights = tiny_network().state_dict()
    del weights["denoiser.motion_decoder.bias"]
    weights["denoiser.surprise"] = torch.zeros(1)
    weights["denoiser.obj_vector.weight"] = torch.zeros(9, 32)
    with pytest.raises(ValueError) as caught:
        network_of(weights, TINY, TINY_ENCODER)
    assert "missing: denoiser.motion_decoder.bias" in str(caught.value)
    assert "unknown: denoiser.surprise" in str(caught.value)
    assert "denoiser.obj_vector.weight is [9, 32] where [3, 32] is needed" in str(caught.value)


def test_many_missing_weights_are_counted_rather_than_listed():
    weights = {
        name: value for name, value in tiny_network().state_dict().items() if name.startswith("denoiser.")
    }
    with pytest.raises(ValueError, match=r"missing: audio_encoder\..* and \d+ more"):
        network_of(weights, TINY, TINY_ENCODER)


def test_the_configuration_is_seen_from_the_weights():
    for shape in (VOCASET, BIWI):
        weight = torch.empty(shape.width, shape.channels, device="meta")
        assert detect_shape({"denoiser.vertice_map.weight": weight}) is shape
    with pytest.raises(ValueError, match="--config"):
        detect_shape({"denoiser.vertice_map.weight": torch.empty(4, 12)})


def test_a_template_is_an_array_or_one_subjects_of_the_published_file(tmp_path):
    np.save(tmp_path / "flat.npy", TEMPLATE.ravel())
    np.testing.assert_array_equal(read_template(tmp_path / "flat.npy", None), TEMPLATE)
    templates = tmp_path / "templates.pkl"
    templates.write_bytes(pickle.dumps({"F2": TEMPLATE.astype(np.float64), "M3": 2 * TEMPLATE}, protocol=2))
    np.testing.assert_array_equal(read_template(templates, "M3"), 2 * TEMPLATE)
    with pytest.raises(ValueError, match="--subject: F2, M3"):
        read_template(templates, None)
    with pytest.raises(ValueError, match="there is no M9"):
        read_template(templates, "M9")


def test_styles_are_named_after_the_training_subjects_unless_names_are_given():
    assert style_names(BIWI, None) == ["F2", "F3", "F4", "M3", "M4", "M5"]
    assert len(set(style_names(VOCASET, None))) == 8
    assert style_names(TINY, "a, b, c") == ["a", "b", "c"]
    with pytest.raises(ValueError, match="3 different names"):
        style_names(TINY, "a,b,b")


def test_the_command_says_in_one_sentence_what_is_wrong(tmp_path, capsys):
    torch.save(lightning(tiny_network()), tmp_path / "a.ckpt")
    for arguments, words in [
        ([tmp_path / "none.ckpt"], "There is no file"),
        ([tmp_path / "a.ckpt"], "--config"),
        ([tmp_path / "a.ckpt", "--config", "vocaset"], "are not those of vocaset"),
        ([tmp_path / "a.ckpt", "--steps", "0"], "--steps must lie between"),
    ]:
        assert main([str(argument) for argument in [*arguments, "--out", tmp_path / "bundle"]]) == 2
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1
    assert not (tmp_path / "bundle").exists()


# ---- the bundle ------------------------------------------------------------------------------------------


def test_the_bundle_moves_vertices_without_names_prefix_or_avatar(bundle):
    manifest = bundle.manifest
    assert (manifest.motion.kind, manifest.motion.channels, manifest.motion.unit) == ("vertices", [], "metre")
    assert (manifest.frame_width, manifest.noise_width) == (TINY.channels, TINY.width)
    assert manifest.timing.prefix_frames == 0 and manifest.timing.segment_frames == 60
    assert manifest.rig.avatar is None and bundle.avatar_file is None
    assert manifest.styles == ["anna", "berta", "carla"] and manifest.licence == "made for this test"
    assert set(manifest.files) == {"model.onnx", "rig.npz"}


def test_the_served_graph_computes_what_the_network_and_the_published_sampler_do_vertex_by_vertex(
    bundle, backend
):
    net = tiny_network()
    options = SessionOptions.choose(bundle.manifest, style={"berta": 1.0}, seed=3)
    session = Session(bundle.manifest, options)
    session.feed(fakes.speech(3))
    while (request := session.next_request()) is not None:
        got = backend.infer([request])[0]
        session.complete(request, got)
        with torch.no_grad():
            image = torch.from_numpy(request.noise)[None] @ noise_root(net.denoiser)
            # Noise per vertex that has this image, out of the many that have.
            noise = image @ torch.linalg.pinv(net.denoiser.vertice_map.weight).T
            features = net.encode(torch.from_numpy(request.audio)[None])
            clean = ddim_legacy(
                lambda x, step, heard=features: net.denoiser(x, heard, torch.tensor([1]), step),
                noise,
                published_steps(STEPS),
            )
        wanted = moving_average(clean)[0].numpy()
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())
    assert session.emitted_frames > 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"motion": {"channels": ["x"]}}, "no channel names"),
        ({"model": {"noise_width": -1}}, "must be positive"),
        ({"rig": {"vertices": 0}}, "must be positive"),
        ({"rig": {"avatar": "avatar.glb"}}, "avatar.glb is not in its list of files"),
        ({"motion": {"kind": "coefficients"}}, "channel names are empty"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(bundle, change, words, tmp_path):
    ((part, fields),) = change.items()
    changed = msgspec.structs.replace(getattr(bundle.manifest, part), **fields)
    with pytest.raises(FaceError, match=words):
        write_manifest(msgspec.structs.replace(bundle.manifest, **{part: changed}), tmp_path)


@pytest.mark.parametrize("name", ["noise_width", "prefix_frames"])
def test_a_graph_that_takes_something_else_than_the_manifest_says_is_refused(bundle, name):
    manifest = bundle.manifest
    part = "model" if name == "noise_width" else "timing"
    changed = msgspec.structs.replace(getattr(manifest, part), **{name: 4})
    with pytest.raises(FaceError, match="graph"):
        OnnxBackend(Bundle(bundle.folder, msgspec.structs.replace(manifest, **{part: changed})))


# ---- serving it ------------------------------------------------------------------------------------------


def animated(bundle, backend, audio, chunk, **choices):
    """Offsets of a recording that comes in chunks, float32 (n, V·3)."""
    options = SessionOptions.choose(bundle.manifest, **choices)
    chunks = [audio[start : start + chunk] for start in range(0, len(audio), chunk)]
    blocks = list(offline.animate(chunks, bundle.manifest, backend, options))
    return np.concatenate([block.values for block in blocks])


def test_frames_depend_on_the_audio_not_on_its_chunks(bundle, backend):
    audio = fakes.speech(2.5)
    whole = animated(bundle, backend, audio, len(audio))
    assert whole.shape == (75, TINY.channels) and np.ptp(whole, axis=0).min() > 0
    for chunk in (160, 1_000, 4_321):
        np.testing.assert_array_equal(animated(bundle, backend, audio, chunk), whole)


def test_styles_and_seeds_change_the_face(bundle, backend):
    audio = fakes.speech(1)
    usual = animated(bundle, backend, audio, 1_600)
    assert not np.array_equal(animated(bundle, backend, audio, 1_600, style={"carla": 1.0}), usual)
    assert not np.array_equal(animated(bundle, backend, audio, 1_600, seed=1), usual)


def test_a_socket_delivers_the_template_moved_and_refuses_coefficients(bundle, backend):
    audio = fakes.speech(2)
    mono = AudioFormat("f32", 16_000, 1)

    async def scenario():
        with InferenceThread(backend, max_batch=1) as thread:
            async with (
                asyncio.timeout(120),
                serving(Settings(port=0), bundle, thread) as address,
                connect(
                    address.stream("anna"), "converse", audio=mono, output=OutputFormat("vertices", "f32")
                ) as face,
            ):
                welcome = face.welcome
                with pytest.raises(FaceError, match="moves vertices"):
                    async with connect(address.stream("berta"), "converse", audio=mono):
                        pass
                site = f"http://127.0.0.1:{address.port}"
                avatar = await asyncio.to_thread(status, f"{site}/avatar.glb")
                facts = await asyncio.to_thread(status, f"{site}/bundle.json")
                for start in range(0, len(audio), 777):
                    await face.send_audio(audio[start : start + 777])
                await face.end()
                return welcome, avatar, facts, motion(await everything(face))

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        welcome, avatar, facts, frames = runner.run(scenario())
    assert (welcome.kind, welcome.width, welcome.channels) == ("vertices", TINY.channels, [])
    assert (welcome.unit, welcome.frame_rate_hz) == ("metre", 30)
    assert (avatar, facts) == (404, 200)
    offsets = animated(bundle, backend, audio, 1_600)
    assert np.abs(offsets).max() > 1e-3
    np.testing.assert_array_equal(frames, TEMPLATE.ravel() + offsets)


def status(url):
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_animate_writes_vertices_and_says_why_it_writes_no_csv(
    folder, bundle, backend, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    audio = fakes.speech(1.5)
    soundfile.write("a.wav", audio, 16_000, subtype="FLOAT")
    assert diffspeaker(["animate", "a.wav", "--bundle", str(folder), "-o", "faces/"]) == 0
    with np.load("faces/a.npz", allow_pickle=False) as arrays:
        assert set(arrays) == {"vertices", "time_s", "faces", "metadata"}
        vertices = arrays["vertices"]
    wanted = TEMPLATE + animated(bundle, backend, audio, 1_600).reshape(-1, TINY.vertices, 3)
    np.testing.assert_allclose(vertices, wanted, rtol=0, atol=1e-6)
    capsys.readouterr()
    assert diffspeaker(["animate", "a.wav", "--bundle", str(folder), "-o", "a.csv"]) != 0
    assert "moves vertices" in capsys.readouterr().err
    assert diffspeaker(["info", "--bundle", str(folder)]) == 0
    assert "vertices" in capsys.readouterr().out
