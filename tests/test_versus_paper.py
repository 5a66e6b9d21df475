"""The comparison with the paper's pipeline: both sides do what they claim, and a ratio is a ratio."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2Config

from benchmarks import versus_paper
from benchmarks.versus_paper import as_published, clip_of, compare, folded, measure
from model.diffusion import published_steps
from model.paper.network import PaperDiffSpeaker
from model.paper.shape import VOCASET
from streamer.engine.backend import OnnxBackend
from streamer.engine.bundle import Bundle


def tiny() -> PaperDiffSpeaker:
    """The paper's pipeline with few weights of the same kinds."""
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
    )
    shape = replace(VOCASET, vertices=10, width=16, feed_forward=32)
    return PaperDiffSpeaker(shape, config).eval()


def test_both_forms_of_the_papers_pipeline_give_a_frame_for_every_thirtieth_of_a_second() -> None:
    net, audio = tiny(), torch.from_numpy(clip_of(2.0))[None]
    with torch.inference_mode():
        for pipeline in (as_published, folded):
            assert pipeline(net, audio, published_steps()).shape == (1, 59, 30)


def test_jobs_take_turns_and_the_first_turn_is_not_counted() -> None:
    order: list[str] = []
    times = measure({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2, "test")
    assert order == ["a", "b"] * 3
    assert set(times) == {"a", "b"} and all(took >= 0 for took in times.values())


def test_the_ratios_are_the_papers_time_over_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    sides = {"ours": 2.0, "ours_batched": 80.0, "paper": 300.0, "paper_folded": 30.0}
    monkeypatch.setattr(versus_paper, "measure", lambda jobs, rounds, label: {k: sides[k] for k in jobs})
    bundle = Bundle.load()
    found = compare(bundle, OnnxBackend(bundle), tiny(), published_steps(), 1.0, 1)
    assert (found["ratio"], found["ratio_folded"]) == (300 / (2 / 20), 30 / (2 / 20))
    assert (found["ratio_offline"], found["ratio_offline_folded"]) == (150, 15)
    assert found["streaming_ms_per_s"]["ours"] == pytest.approx(1000 * (2 / 20) * 15, rel=1e-3)


def test_the_command_writes_both_ratios(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versus_paper, "PaperDiffSpeaker", lambda shape: tiny())
    threads = torch.get_num_threads()
    path = tmp_path / "versus.json"
    try:
        assert versus_paper.main(["--seconds", "1.5", "--rounds", "1", "--json", str(path)]) == 0
    finally:
        torch.set_num_threads(threads)
    result = json.loads(path.read_text())
    assert result["ratio"] > 0 and result["ratio_offline"] > 0
    assert result["config"]["variant"] == "int8" and result["config"]["steps"] == 50


def test_the_clip_is_the_sample_again_and_again() -> None:
    clip = clip_of(12.0)
    assert len(clip) == 12 * 16_000 and np.abs(clip).max() > 0.1
