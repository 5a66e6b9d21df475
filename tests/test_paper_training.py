"""Training the paper's system end to end on small sets in the published layouts, and each of its measures."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.utils.tensorboard import SummaryWriter
from transformers import Wav2Vec2Config, Wav2Vec2Model

from model import train as command
from model.options import read
from model.paper.checkpoint import read_checkpoint
from model.paper.losses import denoising_loss, motion_loss
from model.paper.metrics import (
    PUBLISHED,
    VertexSets,
    clip_measures,
    lip_gap,
    lip_vertex_error,
    mean_measures,
    read_indices,
    read_vertex_sets,
    upper_face_dynamics,
)
from model.paper.network import PaperDiffSpeaker
from model.paper.recordings import EDITIONS, Clip, open_recordings
from model.paper.shape import BIWI, VOCASET
from model.paper.train import Options, Run, build, learn_until_over, place, run
from tests.paper_sets import VERTICES, write_faceformer, write_indices, write_official

ROOT = Path(__file__).resolve().parents[1]
ENCODER = Wav2Vec2Config(
    hidden_size=32,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=48,
    conv_dim=(16,) * 7,
    num_conv_pos_embeddings=16,
    num_conv_pos_embedding_groups=4,
)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("encoder") / "wav2vec2"
    torch.manual_seed(0)
    Wav2Vec2Model(ENCODER).save_pretrained(folder)
    return folder


def small(root: Path, encoder: Path, out: str = "run", recordings: str = "vocaset") -> Options:
    """A run that takes seconds: one sentence per speaker and split, a network of a few thousand weights."""
    folder = root / recordings
    if not folder.exists():
        write = write_official if recordings == "vocaset" else write_faceformer
        write(EDITIONS[recordings], folder, sentences_per_split=1)
    return Options(
        recordings=recordings,
        folder=folder,
        audio_encoder=encoder,
        out=root / out,
        **write_indices(root),
        epochs=2,
        validate_every=100,
        learning_rate=2e-3,
        sampler_steps=4,
        vertices=VERTICES,
        width=32,
        feed_forward=48,
        heads=4,
        device="cpu",
    )


def mean_loss(net: PaperDiffSpeaker, options: Options) -> float:
    """The training loss without dropout, of every training clip under the same noise and steps."""
    clips = open_recordings(EDITIONS[options.recordings], options.folder, "train", VERTICES)
    torch.manual_seed(7)
    net.eval()
    with torch.no_grad():
        losses = [
            denoising_loss(
                net,
                torch.from_numpy(clip.audio)[None],
                torch.from_numpy(clip.vertices - clip.template)[None],
                torch.tensor([clip.style]),
            ).item()
            for clip in (clips[index] for index in range(len(clips)))
        ]
    return float(np.mean(losses))


@pytest.mark.parametrize("recordings", ["vocaset", "biwi"])
def test_a_run_learns_goes_on_where_it_ended_and_writes_its_figures(tmp_path, encoder, recordings):
    options = small(tmp_path, encoder, recordings=recordings)
    before = mean_loss(build(options), options)
    first = run(replace(options, epochs=6))
    middle = mean_loss(read_checkpoint(options.out / "last.safetensors"), options)
    second = run(replace(options, epochs=15))
    after = mean_loss(read_checkpoint(options.out / "last.safetensors"), options)
    assert after < middle < before and after < 0.5 * before
    assert (first["step"], second["step"]) == (6 * options.shape.styles, 15 * options.shape.styles)
    assert second["validation_lve"] <= first["validation_lve"]

    written = json.loads((options.out / "metrics.json").read_text())
    assert written["test"]["lve"] == second["test"]["lve"] > 0
    assert set(written["test"]) == {"lve", "fdd", "mtm_ms"}
    assert written["published"] == PUBLISHED[recordings]
    expected = {"vocaset": (8, 2, 2), "biwi": (6, 6, 6)}[recordings]
    assert tuple(written["clips"].values()) == expected and len(written["test_clips"]) == expected[2]
    assert list((options.out / "log").iterdir())


def test_the_checkpoint_loads_into_the_papers_network(tmp_path, encoder):
    options = replace(small(tmp_path, encoder), epochs=1)
    run(options)
    net = read_checkpoint(options.out / "best.safetensors")
    assert net.shape == options.shape == replace(VOCASET, vertices=VERTICES, width=32, feed_forward=48)
    assert not net.training
    fresh = PaperDiffSpeaker(options.shape, ENCODER)
    fresh.load_state_dict(load_file(options.out / "best.safetensors"))
    audio = torch.randn(1, 16_000)
    torch.testing.assert_close(fresh.eval().encode(audio), net.encode(audio))


class Interrupted:
    """Clips, until Ctrl-C is pressed in the middle of reading one."""

    def __init__(self, clips, after: int) -> None:
        self.clips, self.left = clips, after

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Clip:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return self.clips[index]


def test_a_run_that_was_interrupted_ends_with_the_weights_of_one_that_was_not(tmp_path, encoder):
    whole, stopped = small(tmp_path, encoder, "whole"), small(tmp_path, encoder, "stopped")
    run(whole)
    stopped.out.mkdir()
    edition, cpu = EDITIONS["vocaset"], torch.device("cpu")
    train, validation = (
        open_recordings(edition, stopped.folder, s, VERTICES) for s in ("train", "validation")
    )
    sets = read_vertex_sets(stopped.lip_vertices, None, None, VERTICES)
    interrupted = Interrupted(train, after=5)
    with SummaryWriter(str(stopped.out / "log")) as log, pytest.raises(KeyboardInterrupt):
        learn_until_over(Run(stopped, build(stopped), cpu), interrupted, validation, sets, log)
    state = Run(stopped, build(stopped), cpu)
    state.resume()
    assert state.progress.step == 5
    run(stopped)
    one, other = (load_file(options.out / "last.safetensors") for options in (whole, stopped))
    for name, weight in one.items():
        torch.testing.assert_close(weight, other[name], rtol=0, atol=0, msg=name)


def test_the_convolutions_stay_as_pretrained_and_the_rest_learns(tmp_path, encoder):
    options = replace(small(tmp_path, encoder), epochs=1)
    before = build(options).state_dict()
    run(options)
    after = load_file(options.out / "last.safetensors")
    moved = {name for name, weight in after.items() if not torch.equal(weight, before[name])}
    assert not any("feature_extractor" in name for name in moved)
    assert any("audio_encoder.encoder" in name for name in moved)
    assert {"denoiser.vertice_map.weight", "denoiser.motion_decoder.weight"} <= moved


def test_a_budget_that_is_spent_ends_training_and_still_tests(tmp_path, encoder):
    options = replace(small(tmp_path, encoder), budget_minutes=0.0)
    result = run(options)
    assert result["step"] == 0 and result["test"]["lve"] > 0
    # An untrained decoder predicts no motion, so that the upper face of the truth varies more.
    assert result["test"]["fdd"] > 0


def test_averaged_weights_lag_behind_the_newest(tmp_path, encoder):
    options = replace(small(tmp_path, encoder), average=0.5)
    state = Run(options, build(options), torch.device("cpu"))
    clips = open_recordings(EDITIONS["vocaset"], options.folder, "train", VERTICES)
    start = state.net.denoiser.motion_decoder.bias.detach().clone()
    state.learn(clips[0])
    newest = state.net.denoiser.motion_decoder.bias
    torch.testing.assert_close(state.result.denoiser.motion_decoder.bias, (start + newest) / 2)


def test_every_epoch_has_each_clip_once_in_an_order_of_its_own():
    first, second = ([place(0, step, 8) for step in range(start, start + 8)] for start in (0, 8))
    assert sorted(first) == sorted(second) == list(range(8)) and first != second
    assert [place(1, step, 8) for step in range(8)] != first


def test_a_run_of_another_shape_is_not_gone_on_with(tmp_path, encoder):
    options = replace(small(tmp_path, encoder), epochs=0)
    run(options)
    with pytest.raises(ValueError, match="another shape: give another folder with --out"):
        run(replace(options, width=48))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"audio_encoder": Path("nowhere")}, "nowhere holds no audio encoder"),
        ({"lip_vertices": Path("nowhere.txt")}, "nowhere.txt is missing"),
        ({"folder": Path("nowhere")}, "VOCASET needs a licence"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_trained(tmp_path, encoder, change, says):
    options = replace(small(tmp_path, encoder), **change)
    with pytest.raises(FileNotFoundError, match=says):
        run(options)
    assert not options.out.exists()


def test_an_encoder_is_fetched_only_where_it_was_asked_for(tmp_path, encoder):
    options = replace(small(tmp_path, encoder), audio_encoder=tmp_path / "fetched")
    with pytest.raises(FileNotFoundError, match="--download"):
        build(options)
    asked = replace(options, download=str(encoder))  # a folder stands in for a name on the hub
    expected = Wav2Vec2Model.from_pretrained(encoder).state_dict()
    for name, weight in build(asked).audio_encoder.state_dict().items():
        torch.testing.assert_close(weight, expected[name], msg=name)
    assert (tmp_path / "fetched" / "config.json").is_file()


def test_the_command_trains_from_a_toml_file(tmp_path, encoder, capsys, monkeypatch):
    options = small(tmp_path, encoder)
    monkeypatch.chdir(tmp_path)
    lines = [
        'system = "paper"',
        'recordings = "vocaset"',
        'folder = "vocaset"',
        'out = "run"',
        "vertices = 6",
    ]
    lines += [
        f'audio_encoder = "{encoder.as_posix()}"',
        'lip_vertices = "lip_vertices.txt"',
        'device = "cpu"',
    ]
    lines += ["width = 32", "feed_forward = 48", "sampler_steps = 2"]
    (tmp_path / "small.toml").write_text("\n".join(lines))
    assert command.main(["small.toml", "--epochs", "1"]) == 0
    printed = capsys.readouterr().out
    assert "DiffSpeaker" in printed and "this run" in printed and "3.148e-05" in printed
    assert json.loads((options.out / "metrics.json").read_text())["options"]["epochs"] == 1
    assert command.main(["small.toml", "--folder", "nowhere"]) == 2
    assert "https://voca.is.tue.mpg.de" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "shape"), [("vocaset", VOCASET), ("biwi", BIWI)])
def test_the_configurations_describe_the_papers_runs(name, shape):
    options = read(Options, ROOT / "configs" / f"{name}.toml")
    assert options.shape == shape
    assert (options.learning_rate, options.sampler, options.sampler_steps) == (1e-4, "ddim_legacy", 50)
    assert options.average == options.gradient_clip == 0 and options.download is None


# ---- losses ------------------------------------------------------------------------------------------------


def test_the_loss_is_the_error_of_places_plus_the_error_of_steps():
    clean = torch.zeros(1, 3, 2)
    predicted = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [3.0, 0.0]]])
    # Places: (1 + 1 + 9) / 6. Steps: (0 + 4) / 4.
    assert motion_loss(predicted, clean).item() == pytest.approx(11 / 6 + 1)


def test_the_loss_takes_as_many_frames_as_both_sound_and_motion_have(encoder, tmp_path):
    net = build(small(tmp_path, encoder)).eval()
    style = torch.tensor([0])
    audio = torch.randn(1, 16_000)  # 49 states, 29 frames
    for frames in (10, 29, 80):
        loss = denoising_loss(net, audio, torch.full((1, frames, 18), 0.5), style)
        assert loss.item() == pytest.approx(0.25)  # an untrained decoder predicts no motion
    assert torch.isfinite(denoising_loss(net, audio, torch.zeros(1, 20, 18), style, half_precision=True))


# ---- measures ----------------------------------------------------------------------------------------------


def test_lve_is_the_worst_lip_vertex_of_each_frame():
    truth = np.zeros((2, 3, 3))
    predicted = truth.copy()
    predicted[0, 0] = (3, 4, 0)  # squared 25
    predicted[0, 1] = (1, 0, 0)
    predicted[1, 1] = (0, 2, 1)  # squared 5
    predicted[:, 2] = 100  # no lip
    assert lip_vertex_error(truth, predicted, np.array([0, 1])) == pytest.approx((25 + 5) / 2)


def test_fdd_compares_how_much_the_upper_face_varies_and_keeps_the_sign():
    template = np.ones((2, 3))
    truth, predicted = np.ones((2, 2, 3)), np.ones((2, 2, 3))
    truth[1, 0, 0] += 2  # squared distances 0 and 4: standard deviation 2
    predicted[1, 0, 1] += 1  # 0 and 1: 0.5
    predicted[1, 1, 1] += 9  # not of the set
    upper = np.array([0])
    assert upper_face_dynamics(truth, predicted, template, upper) == pytest.approx(1.5)
    assert upper_face_dynamics(predicted, truth, template, upper) == pytest.approx(-1.5)


def test_the_lip_gap_is_the_mean_distance_of_the_pairs():
    face = np.zeros((1, 4, 3))
    face[0, 1], face[0, 3] = (0, 3, 4), (0, 0, 1)
    assert lip_gap(face, np.array([0, 1, 2, 3])).tolist() == [3.0]


def test_an_unseen_speakers_clip_is_the_mean_over_styles_and_a_set_the_mean_over_clips():
    truth, template = np.zeros((4, 2, 3)), np.zeros((2, 3))
    near, far = truth + np.array([1.0, 0, 0]), truth + np.array([3.0, 0, 0])
    clip = clip_measures(truth, [near, far], template, VertexSets(np.array([0])), 30)
    assert clip == {"lve": pytest.approx((1 + 9) / 2)}
    assert mean_measures([clip, {"lve": 1.0}, {"lve": float("nan")}]) == {"lve": pytest.approx(3.0)}


def test_a_clips_misalignment_is_that_of_its_lip_gaps():
    template = np.zeros((2, 3))
    truth, late = np.zeros((60, 2, 3)), np.zeros((60, 2, 3))
    truth[:, 1, 1] = np.exp(-0.5 * ((np.arange(60) - 25) / 3) ** 2)
    late[:, 1, 1] = np.exp(-0.5 * ((np.arange(60) - 28) / 3) ** 2)
    sets = VertexSets(np.array([0, 1]), lip_gap=np.array([0, 1]))
    assert clip_measures(truth, [late], template, sets, 30)["mtm_ms"] == pytest.approx(100)


def test_vertex_sets_are_read_from_text_arrays_and_masks(tmp_path):
    (tmp_path / "a.txt").write_text("1, 2\n3 4")
    np.save(tmp_path / "b.npy", np.array([[4, 3]], dtype=np.int32))
    (tmp_path / "c.pkl").write_bytes(pickle.dumps({"lips": np.array([5, 0])}, protocol=2))
    assert read_indices(tmp_path / "a.txt", 6).tolist() == [1, 2, 3, 4]
    assert read_indices(tmp_path / "b.npy", 6).tolist() == [4, 3]
    assert read_indices(tmp_path / "c.pkl#lips", 6).tolist() == [5, 0]
    for name, says in (("a.txt", "from 0 to 3"), ("c.pkl#nose", "no entry 'nose'"), ("c.pkl", "no entry ''")):
        with pytest.raises(ValueError, match=says):
            read_indices(tmp_path / name, 4)
    (tmp_path / "d.txt").write_text("one two")
    with pytest.raises(ValueError, match="holds no vertex numbers"):
        read_indices(tmp_path / "d.txt", 6)
    (tmp_path / "e.txt").write_text("1 2 3")
    with pytest.raises(ValueError, match="pairs of vertices"):
        read_vertex_sets(tmp_path / "a.txt", None, tmp_path / "e.txt", 6)
