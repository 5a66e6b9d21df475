"""Fine-tuning on captured faces: from trained weights, with room for a real face, nearer to it afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

from export.__main__ import english, training_facts
from model.captures import UNKNOWN_PHONE, Captures
from model.diffusion import few_steps
from model.fine_tune import load_trained, phone_head, widen
from model.likeness import likeness
from model.likeness import main as likeness_main
from model.network import DiffSpeaker
from model.shape import CHANNELS, EarShape, Shape
from model.speech import PHONES, Batch
from model.train import Options, PhoneEar, motion_loss, phone_loss, train_teacher
from model.train import main as train_main
from model.trainer import write_weights
from tests.takes import JAW, rising, silence_for, write_live_link, write_talk

SMALL = Shape(ear=EarShape(width=48, heads=3, feed_forward=64, layers=1), width=32, feed_forward=48, layers=2)


def test_phones_that_nobody_knows_are_no_lesson_and_no_nan() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 5, len(PHONES), requires_grad=True)
    unknown = torch.full((2, 5), UNKNOWN_PHONE)
    loss = phone_loss(logits, unknown)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0 and logits.grad is not None and (logits.grad == 0).all()
    known = torch.randint(len(PHONES), (2, 5))
    half = torch.where(torch.arange(5) < 2, known, unknown)
    expected = F.cross_entropy(logits[:, :2].flatten(0, 1), known[:, :2].flatten(), label_smoothing=0.05)
    torch.testing.assert_close(phone_loss(logits, half), expected)


def small_net() -> DiffSpeaker:
    torch.manual_seed(0)
    net = DiffSpeaker(SMALL)
    torch.nn.init.normal_(net.denoiser.motion_decoder.weight, std=0.1)
    return net


def one_step(net: DiffSpeaker, batch: Batch) -> torch.Tensor:
    """The network's answer from pure noise, with the last frames given before the newest."""
    mask = torch.zeros(batch.motion.shape[:2])
    mask[:, 16:20] = 1
    prefix = net.normalise(batch.motion) * mask[..., None]
    heard = net.listen(batch.audio)

    def denoise(x: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = net.denoiser(x, heard, batch.style, step, prefix, mask)
        return answer

    return net.denormalise(few_steps(denoise, net.quieted(batch.noise), (999,)))


def test_widening_brings_a_real_face_near_and_changes_no_answer(tmp_path: Path) -> None:
    motion = np.zeros((300, 52), np.float32)
    motion[:, CHANNELS.index("mouthFrownLeft")] = 0.4  # what the rules never move, so that its std is tiny
    motion[:, JAW] = 0.02 * rising(300, 1)[:, 0]
    write_live_link(tmp_path / "take.csv", motion, 60)
    silence_for(tmp_path / "take.csv", 5)
    batch = Captures([tmp_path], seed=0).draw(16)
    net = small_net()
    net.std.fill_(0.02)
    net.std[JAW] = 0.2
    with torch.no_grad():
        before = one_step(net, batch)
        assert net.normalise(batch.motion).abs().max() > 15
        widen(net, batch.motion)
        after = one_step(net, batch)
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-3)
    assert net.normalise(batch.motion).square().mean((0, 1)).max() <= 1.001
    assert net.std[JAW] == 0.2  # never narrower


def test_trained_weights_and_the_head_beside_them_are_found_again(tmp_path: Path) -> None:
    net, other = small_net(), DiffSpeaker(SMALL)
    ear = PhoneEar(net.ear)
    write_weights(net, tmp_path / "teacher.safetensors")
    assert phone_head(tmp_path / "teacher.safetensors", torch.device("cpu")) is None
    write_weights(ear, tmp_path / "ear.safetensors")
    load_trained(other, tmp_path / "teacher.safetensors")
    assert all(torch.equal(one, two) for one, two in zip(net.parameters(), other.parameters(), strict=True))
    head = phone_head(tmp_path / "teacher.safetensors", torch.device("cpu"))
    assert head is not None and torch.equal(head.weight, ear.head.weight)
    with pytest.raises(ValueError, match=r"ear\.safetensors is no checkpoint"):
        load_trained(other, tmp_path / "ear.safetensors")


def options(out: Path, **given: object) -> Options:
    usual: dict[str, object] = {"captures": Path("captures"), "out": out, "budget_minutes": 1e6, "batch": 8}
    return Options(**(usual | {"threads": 1, "max_steps": 60, "teacher_rate": 3e-3} | given))  # type: ignore[arg-type]


def test_a_few_steps_of_fine_tuning_come_nearer_to_a_captured_jaw(tmp_path: Path) -> None:
    write_talk(tmp_path / "takes", seconds=20)
    captures = Captures([tmp_path / "takes"], seed=0)
    probe = captures.draw(48, augmented=False)
    net = small_net()
    net.std.fill_(0.2)

    def far(net: DiffSpeaker) -> float:
        with torch.no_grad():
            return float(motion_loss(net, net.normalise(one_step(net, probe)), net.normalise(probe.motion)))

    widen(net, probe.motion)
    before = far(net)
    with SummaryWriter(str(tmp_path)) as log:
        tuned = train_teacher(net, None, captures, options(tmp_path), log)
    assert far(tuned) < 0.6 * before
    with torch.no_grad():
        answer = one_step(tuned, probe)[..., JAW].mean(1)
    assert torch.corrcoef(torch.stack([answer, probe.motion[..., JAW].mean(1)]))[0, 1] > 0.7


def test_the_ears_part_of_the_budget_is_the_teachers_where_the_ear_is_not_taught(tmp_path: Path) -> None:
    shares = {"ear_share": 0.3, "contacts_share": 0.1, "student_share": 0.2, "budget_minutes": 10.0}
    taught = options(tmp_path, corpus=Path("corpus"), **shares)
    untaught = {"ear_share": 0.0, "contacts_share": 0.0}
    tuned = options(tmp_path, corpus=Path("corpus"), **(shares | untaught))
    assert taught.teaches_ear and not tuned.teaches_ear and not options(tmp_path).teaches_ear
    assert taught.teaches_contacts and not tuned.teaches_contacts and not options(tmp_path).teaches_contacts
    assert taught.stage("teacher").minutes == pytest.approx(4)
    assert tuned.stage("teacher").minutes == pytest.approx(8)
    assert tuned.stage("student").minutes == taught.stage("student").minutes == pytest.approx(2)


def test_a_run_without_lessons_or_over_its_own_beginning_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = "configs/fine-tune.toml"
    assert train_main([config, "--out", str(tmp_path)]) == 2
    assert "Give --corpus, a folder of speech, or --captures" in capsys.readouterr().err
    init = ["--init", str(tmp_path / "teacher.safetensors")]
    assert train_main([config, "--out", str(tmp_path), "--captures", str(tmp_path), *init]) == 2
    assert "Give another --out" in capsys.readouterr().err
    assert train_main([config, "--out", str(tmp_path / "out"), "--captures", str(tmp_path), *init]) == 2
    assert "No capture in" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_fine_tunes_writes_what_it_did_and_goes_on_where_it_was(tmp_path: Path) -> None:
    write_talk(tmp_path / "takes")
    torch.manual_seed(0)
    write_weights(DiffSpeaker(), tmp_path / "teacher.safetensors")
    (tmp_path / "run.json").write_text('{"hours": 2.5}')
    out = tmp_path / "out"
    words = ["configs/fine-tune.toml", "--captures", str(tmp_path / "takes"), "--out", str(out)]
    words += [
        "--init",
        str(tmp_path / "teacher.safetensors"),
        "--batch",
        "2",
        "--threads",
        "1",
        "--max-steps",
    ]
    assert train_main([*words, "1"]) == 0
    first = load_file(out / "student.safetensors")
    assert not (out / "ear.safetensors").exists()
    run = json.loads((out / "run.json").read_text())
    assert run["capture_minutes"] == pytest.approx(8 / 60, abs=0.01) and "speech_hours" not in run
    assert run["corpus"] is None and run["init"].endswith("teacher.safetensors") and run["hardware"]
    assert 2.5 < run["hours"] < 3.5, "and the hours that the weights had been trained before"
    facts = training_facts(out / "student.safetensors", hardware=None)
    assert "0.13 minutes of captured faces" in facts.speech and facts.hardware == run["hardware"]
    assert train_main([*words, "2"]) == 0
    second = load_file(out / "student.safetensors")
    assert any(not torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(first["std"], second["std"])  # widened once, not again


# ---- how near it came --------------------------------------------------------------------------------------


def test_likeness_is_perfect_with_oneself_and_tells_lips_from_brows() -> None:
    captured = torch.rand(4, 24, len(CHANNELS), generator=torch.Generator().manual_seed(0))
    assert likeness(captured, captured) == pytest.approx((0, 0, 1))
    frowning = captured.clone()
    frowning[..., CHANNELS.index("browDownLeft")] += 0.5
    lips, brows, opening = likeness(frowning, captured)
    assert lips == 0 and brows > 0.1 and opening == pytest.approx(1)
    blinking = captured.clone()
    blinking[..., CHANNELS.index("eyeBlinkLeft")] = 1
    assert likeness(blinking, captured) == pytest.approx((0, 0, 1))
    shut = captured.clone()
    shut[..., CHANNELS.index("mouthClose")] = shut[..., JAW]
    shut[:, 0, CHANNELS.index("mouthClose")] += 0.1
    assert likeness(shut, captured)[2] < 0.3


@pytest.mark.slow
def test_likeness_is_printed_for_every_checkpoint_and_mistakes_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_talk(tmp_path / "kept")
    write_weights(DiffSpeaker(), tmp_path / "student.safetensors")
    assert likeness_main([str(tmp_path / "kept"), str(tmp_path / "student.safetensors")]) == 0
    *_, head, still, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["lips", "brows", "opening", "r"] and still.startswith("the mean face, still")
    assert row.startswith(str(tmp_path / "student.safetensors")) and len(row.split()) == 4
    assert likeness_main([str(tmp_path / "kept"), str(tmp_path / "nothing.safetensors")]) == 2
    assert "nothing.safetensors" in capsys.readouterr().err


def test_whoever_spoke_is_named_in_the_bundle() -> None:
    assert english(["flite", "kokoro"]) == "synthetic English (flite, Kokoro-82M), curves from aligned phones"
    assert "(hibari) and actors in free games, curves" in english(["hibari", "people"])
