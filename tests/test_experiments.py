"""The three experiments run end to end in the small, and what they compare is what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save_file

from benchmarks.experiments import attention, liveliness, page, parallel
from benchmarks.experiments.ledger import Ledger
from benchmarks.experiments.small import LONG, SMALL, Lessons, default_face, draw, draw_styles, read_lessons
from model.network import DenoiserLayer, DiffSpeaker, self_attention_bias
from model.shape import CHANNELS, GRID, EarShape, Shape
from model.whisper import PACKAGE
from tests.test_training import ctranslate2_file


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half a minute of hums with phone times, of a voice to learn from and of one that is held out."""
    folder = tmp_path_factory.mktemp("corpus")
    random = np.random.default_rng(0)
    lines = []
    for index in range(8):
        names = ["SIL", *(str(n) for n in random.choice(["P", "AA", "S", "M", "IY", "UW", "T"], 40)), "SIL"]
        phones = [[name, k / 10, (k + 1) / 10] for k, name in enumerate(names)]
        hum = 0.1 * np.sin(2 * np.pi * 150 * np.arange(1600 * len(names)) / 16_000)
        soundfile.write(folder / f"{index}.ogg", hum, 16_000)
        voice = "rms" if index % 2 else "slt"
        line = {"audio": f"{index}.ogg", "voice": voice, "phones": phones, "duration_s": len(hum) / 16_000}
        lines.append(json.dumps(line))
    (folder / "a.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to import from, whose package carries an encoder of Whisper's shape with random weights."""
    shape, random = EarShape(), np.random.default_rng(0)
    width, inner = shape.width, shape.feed_forward
    sizes = {"conv1": (width, shape.mel_bins, 3), "conv2": (width, width, 3)}
    for layer in range(shape.layers):
        for name, size in (("linear_0", (3 * width, width)), ("linear_1", (width, width))):
            sizes[f"layer_{layer}/self_attention/{name}"] = size
        for name, size in (("linear_0", (inner, width)), ("linear_1", (width, inner))):
            sizes[f"layer_{layer}/ffn/{name}"] = size
    arrays = {}
    for name, size in sizes.items():
        arrays[f"encoder/{name}/weight"] = (0.03 * random.standard_normal(size)).astype(np.float16)
        arrays[f"encoder/{name}/bias"] = np.zeros(size[0], np.float16)
    for layer in range(shape.layers):
        for part in ("self_attention", "ffn"):
            norm = f"encoder/layer_{layer}/{part}/layer_norm"
            arrays[f"{norm}/gamma"], arrays[f"{norm}/beta"] = (
                np.ones(width, np.float16),
                np.zeros(width, np.float16),
            )
    folder = tmp_path_factory.mktemp("packages")
    file = folder / PACKAGE / "model" / "model.bin"
    file.parent.mkdir(parents=True)
    (folder / PACKAGE / "__init__.py").touch()
    file.write_bytes(ctranslate2_file(arrays))
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def lessons(corpus: Path, cache: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> Lessons:
    monkeypatch.syspath_prepend(str(weights))
    return read_lessons(corpus, cache, held_out=True)


def read(path: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(path.read_text())
    return result


# ---- the lessons -----------------------------------------------------------------------------------------


def test_windows_tile_the_speech_and_can_be_cut_shorter_without_moving_a_phone(lessons: Lessons) -> None:
    assert np.array_equal(np.diff(lessons.first), np.full(len(lessons.first) - 1, LONG.segment_frames))
    short = lessons.cut(GRID.segment_frames)
    assert np.array_equal(short.heard.reshape(lessons.heard.shape), lessons.heard)

    def places(windows: Lessons) -> set[tuple[str, float]]:
        return {
            (name, round(start + int(first) / 30, 6))
            for window, first in enumerate(windows.first)
            for name, start, _ in windows.phones_of(window)
        }

    assert places(short) < places(lessons) < {(name, round(start, 6)) for name, start, _ in lessons.phones}


def test_a_closure_is_closed_where_the_lesson_says_it_is_spoken(lessons: Lessons) -> None:
    press = CHANNELS.index("mouthPressLeft")
    everything = np.arange(len(lessons.first))
    neutral = torch.eye(SMALL.styles)[:1].expand(len(everything), -1)
    motion = draw(lessons, everything, neutral, torch.Generator().manual_seed(0)).motion.numpy()
    at_middle: dict[bool, list[float]] = {True: [], False: []}
    for window in everything:
        for name, start, end in lessons.phones_of(window):
            at_middle[name in {"P", "M"}].append(motion[window, round(15 * (start + end)), press])
    assert len(at_middle[True]) > 10
    assert np.mean(at_middle[True]) > 3 * np.mean(at_middle[False])


def test_uncoupled_lessons_differ_from_coupled_ones_in_their_idle_motion_alone(lessons: Lessons) -> None:
    everything = np.arange(len(lessons.first))
    style = draw_styles(len(everything), torch.Generator().manual_seed(0))
    one, other = (
        draw(lessons, everything, style, torch.Generator().manual_seed(1), coupled)
        for coupled in (True, False)
    )
    assert torch.equal(one.noise, other.noise)
    differs = (one.motion != other.motion).any(dim=(0, 1)).nonzero().flatten().tolist()
    names = {CHANNELS[channel] for channel in differs}
    assert any(name.startswith("eyeLook") for name in names)
    assert not any(name.startswith(("jaw", "mouthClose", "mouthPress", "mouthFunnel")) for name in names)


# ---- attention -------------------------------------------------------------------------------------------


def test_both_kinds_of_attention_have_the_same_parameters_and_begin_with_the_same_values() -> None:
    biased, plain = (attention.build(kind, 40, seed=3) for kind in ("biased", "plain"))
    assert attention.parameters(biased) == attention.parameters(plain)
    for (name, one), (same, other) in zip(biased.named_parameters(), plain.named_parameters(), strict=True):
        assert name == same
        assert torch.equal(one, other)


def test_open_attention_under_the_papers_mask_is_the_papers_attention() -> None:
    torch.manual_seed(0)
    frames = 70
    papers, opened = DenoiserLayer(SMALL), attention.OpenLayer(SMALL, frames)
    opened.load_state_dict(papers.state_dict())
    x, audio, tokens = torch.randn(2, frames, 128), torch.randn(2, frames, 128), torch.randn(2, 2, 128)
    bias = self_attention_bias(frames, SMALL.heads, 30)
    seen_by_all = opened(x, tokens, audio, bias)
    opened.positions.zero_()
    opened.mask = attention.own_audio_mask(frames)
    torch.testing.assert_close(
        opened(x, tokens, audio, bias), papers(x, tokens, audio, bias), atol=1e-5, rtol=0
    )
    assert (seen_by_all - papers(x, tokens, audio, bias)).abs().max() > 0.01


def test_in_a_served_segment_the_bias_is_zero_and_in_a_sentence_it_is_not() -> None:
    assert not attention.build("biased", GRID.segment_frames, 0).denoiser.bias.any()
    assert attention.build("biased", LONG.segment_frames, 0).denoiser.bias.min() == -0.25 * 3
    assert not attention.build("plain", LONG.segment_frames, 0).denoiser.bias.any()


def test_a_smaller_share_of_the_speech_lies_within_the_larger_one() -> None:
    whole, some, few = (set(attention.subset(400, share, seed=1)) for share in attention.SHARES)
    assert few < some < whole
    assert len(few) == 20


def test_the_attention_experiment_runs_goes_on_where_it_stopped_and_draws_its_plot(
    corpus: Path, cache: Path, lessons: Lessons, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "attention.json"
    command = [
        str(corpus),
        "--cache",
        str(cache),
        "--json",
        str(path),
        "--steps",
        "2",
        "--batch-frames",
        "120",
    ]
    attention.main([*command, "--seeds", "1"])
    result = read(path)
    assert len(result["runs"]) == 7 * len(attention.SHARES)
    assert result["machine"]["processor"]
    del result["runs"][-1]
    path.write_text(json.dumps(result))
    attention.main([*command, "--seeds", "1"])
    again = read(path)
    assert again["runs"][:-1] == result["runs"]
    again["runs"][-1].pop("training_cpu_s")
    attention.plot(again).savefig(tmp_path / "plot.png")
    assert "| 120 | mask only | 5 %" in capsys.readouterr().out
    with pytest.raises(ValueError, match="other settings \\(batch_frames\\)"):
        attention.main([*command[:-1], "240"])


# ---- parallel --------------------------------------------------------------------------------------------


def test_frames_decoded_with_a_cache_are_those_decoded_without() -> None:
    decoder = parallel.Decoder(parallel.make_denoiser(45, Shape(width=32, feed_forward=48, layers=2)))
    audio = torch.randn(1, 45, 32, generator=torch.Generator().manual_seed(0))
    kept, again = decoder.cached(audio, 45), decoder.uncached(audio, 45)
    torch.testing.assert_close(kept, again, atol=1e-5, rtol=0)
    assert (kept[0, 10] - kept[0, 40]).abs().max() > 1e-3
    later = torch.cat([audio[:, :20], audio[:, 20:] + 1], dim=1)
    assert torch.equal(decoder.cached(later, 45)[:, :20], kept[:, :20])


def test_streaming_makes_every_frame_from_the_windows_noise_and_its_own_past() -> None:
    shape = Shape(width=32, feed_forward=48, layers=2)
    net = parallel.make_denoiser(GRID.segment_frames, shape)
    audio, noise = torch.randn(1, 20, 32), torch.randn(1, 20, len(CHANNELS))
    out = parallel.stream(net, audio, noise, hops=10)
    assert out.shape == noise.shape
    assert torch.equal(parallel.stream(net, audio, noise, hops=4), out[:, :8])


def test_the_parallel_experiment_measures_every_method_at_every_length_and_draws_its_plot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "parallel.json"
    parallel.main(["--json", str(path), "--repeats", "1", "--seconds", "0.2", "5", "--width", "16"])
    result = read(path)
    assert {(run["method"], run["seconds"]) for run in result["runs"]} == {
        (method, seconds) for method in parallel.METHODS for seconds in (0.2, 5)
    }
    assert all(run["cpu_s"] > 0 and run["wall_s"] > 0 for run in result["runs"])
    assert [r.get("sampled_frames") for r in result["runs"] if r["method"] == "frame by frame"] == [None, 24]
    parallel.plot(result).savefig(tmp_path / "plot.png")
    assert "| streaming, 2 steps |" in capsys.readouterr().out


# ---- liveliness ------------------------------------------------------------------------------------------


def test_a_frozen_face_is_stiff_never_blinks_and_is_always_the_same(lessons: Lessons) -> None:
    face = default_face()
    draws = liveliness.make_draws(lessons, 3, coupled=True)
    alive = liveliness.figures([d.motion.numpy() for d in draws], draws, lessons, face)
    assert alive["lve_mm2"] == alive["fdd_mm"] == 0
    assert alive["upper_diversity_mm"] > 0
    assert alive["lip_diversity_mm"] < alive["upper_diversity_mm"]
    frozen = liveliness.figures([0 * d.motion.numpy() for d in draws], draws, lessons, face)
    assert frozen["fdd_mm"] > 0
    assert frozen["blinks_per_minute"] == frozen["upper_diversity_mm"] == 0


def test_the_liveliness_experiment_sweeps_both_networks_and_a_checkpoint_and_draws_its_plot(
    corpus: Path,
    cache: Path,
    lessons: Lessons,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sweeps = {"steps": (1, 2), "guidance": (0, 2), "noise_scale": (0, 1.5)}
    monkeypatch.setattr(liveliness, "SWEEPS", sweeps)
    path, checkpoint = tmp_path / "liveliness.json", tmp_path / "teacher.safetensors"
    save_file(DiffSpeaker().state_dict(), checkpoint)
    command = [str(corpus), "--cache", str(cache), "--json", str(path), "--steps", "2", "--held-out", "2"]
    liveliness.main([*command, "--draws", "2", "--checkpoint", str(checkpoint)])
    result = read(path)
    models = [run["model"] for run in result["runs"]]
    assert {m: models.count(m) for m in models} == {
        "lesson": 1,
        "coupled": 6,
        "uncoupled": 6,
        "lesson, 24 frames": 1,
        "default": 4,
    }
    still = liveliness.find(result, model="coupled", noise_scale=0)
    assert still["upper_diversity_mm"] == still["lip_diversity_mm"] == 0
    liveliness.main([*command, "--draws", "2"])
    assert read(path) == result, "a finished experiment measures nothing again"
    assert "coupled: guidance w 2" in capsys.readouterr().out
    liveliness.plot(result).savefig(tmp_path / "plot.png")


# ---- the ledger and the page -----------------------------------------------------------------------------


def test_a_ledger_keeps_what_was_finished(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "results" / "a.json", {"steps": (1, 2)})
    ledger.record({"seed": 0}, {"lve_mm2": 1.5})
    again = Ledger(ledger.path, {"steps": (1, 2)})
    assert again.find(seed=0) == {"seed": 0, "lve_mm2": 1.5}
    assert again.find(seed=1) is None


def test_a_page_without_a_place_for_a_block_is_refused() -> None:
    with pytest.raises(ValueError, match="no block for attention"):
        page.rewritten("# Nothing here\n")


def test_the_pages_tables_are_the_committed_runs() -> None:
    text = page.PAGE.read_text()
    assert page.rewritten(text) == text


def test_the_pages_answers_hold_in_the_committed_runs() -> None:
    found = page.load("attention")

    def error(kind: str, share: float) -> tuple[float, float, float]:
        return attention.over_seeds(found, "lve_mm2", frames=LONG.segment_frames, attention=kind, share=share)

    assert error("biased", 0.05)[2] < error("plain", 1.0)[1], "every seed of a twentieth beats all of it"
    times = {(r["method"], r["seconds"]): r for r in page.load("parallel")["runs"]}
    for seconds in parallel.LENGTHS_S:
        cached = times["frame by frame, cached", seconds]["cpu_s"]
        assert 3.5 < cached / times["parallel, 2 steps", seconds]["cpu_s"] < 12.5
        assert 2 < times["parallel, 50 steps", seconds]["cpu_s"] / cached < 7.5
    assert times["frame by frame", 60]["cpu_s"] > 60 > times["streaming, 2 steps", 60]["cpu_s"]
    runs = page.load("liveliness")
    centre = {"guidance": 1.0, "noise_scale": 1.0}
    one, many = (liveliness.find(runs, model="coupled", steps=n, **centre) for n in (1, 50))
    assert one["lve_mm2"] < many["lve_mm2"] and one["blinks_per_minute"] < many["blinks_per_minute"]
    assert liveliness.find(runs, model="uncoupled", steps=1, **centre)["blinks_per_minute"] == 0
