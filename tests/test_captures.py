"""Captured faces: files as phone apps write them, put on the server's frame grid, and learnt from."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import torch
from safetensors.torch import load_file
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

from model.articulation import IDLE_REACH_FRAMES, idle_coefficients
from model.captures import (
    EYES,
    UNKNOWN_PHONE,
    Captures,
    Mixed,
    main,
    read_curves,
    read_take,
    read_takes,
    remarks,
    timecode_s,
)
from model.diffusion import few_steps
from model.fine_tune import load_trained, phone_head, widen
from model.network import DiffSpeaker
from model.options import OptionError
from model.shape import CHANNELS, GRID, STYLES, TOKEN_SAMPLES, EarShape, Shape
from model.speech import PHONES, Batch
from model.train import Options, PhoneEar, motion_loss, phone_loss, train_teacher
from model.train import main as train_main
from model.trainer import write_weights
from streamer.core.crossfader import FrameBlock
from streamer.engine.animation_file import write_csv
from streamer.engine.bundle import Bundle

F32 = npt.NDArray[np.float32]

JAW = CHANNELS.index("jawOpen")
SMALL = Shape(ear=EarShape(width=48, heads=3, feed_forward=64, layers=1), width=32, feed_forward=48, layers=2)
ROTATIONS = [f"{part}{axis}" for part in ("Head", "LeftEye", "RightEye") for axis in ("Yaw", "Pitch", "Roll")]
# The app's own order: the right eye first, right before left.
APP = sorted((n[0].upper() + n[1:] for n in CHANNELS), key=lambda n: (not n.startswith("Eye"), "Left" in n))


# ---- what an app would record ------------------------------------------------------------------------------


def timecode(row: int, fps: int, start_s: int = 14 * 3600 + 3 * 60 + 52) -> str:
    second = (start_s + row // fps) % 86_400
    hours, minutes, seconds = second // 3600, second // 60 % 60, second % 60
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}:{row % fps:02d}.000"


def write_live_link(
    path: Path,
    motion: F32,
    fps: int,
    skip: Sequence[int] = (),
    start_s: int = 0,
    columns: Sequence[str] = APP,
) -> Path:
    """Curves (n, 52) as the Live Link Face app lays them out, without the rows ``skip``."""
    order = [CHANNELS.index(name[0].lower() + name[1:]) for name in columns]
    with path.open("w", newline="") as stream:
        out = csv.writer(stream)
        out.writerow(["Timecode", "BlendShapeCount", *columns, *ROTATIONS])
        for row in sorted(set(range(len(motion))) - set(skip)):
            values = [f"{value:.6f}" for value in motion[row, order]]
            out.writerow([timecode(row, fps, start_s), "61", *values, *["-0.3"] * 9])
    return path


def talk(seconds: float, seed: int = 0) -> tuple[F32, F32]:
    """Sound at 16 kHz whose loudness a jaw follows, and how open that jaw is at 60 fps."""
    random = np.random.default_rng(seed)
    beats = random.standard_normal(int(seconds * 4) + 2).clip(0, 2) / 2

    def opening(rate_hz: int) -> F32:
        place = np.arange(int(seconds * rate_hz)) / rate_hz * 4
        return np.interp(place, np.arange(len(beats)), beats).astype(np.float32)

    noise = random.standard_normal(int(seconds * 16_000)).astype(np.float32)
    return (0.2 * opening(16_000) * noise).clip(-1, 1), opening(60)


def write_talk(folder: Path, seconds: float = 8, name: str = "take", late_s: float = 0.0) -> Path:
    """A take whose jaw follows its loudness, ``late_s`` after it."""
    folder.mkdir(parents=True, exist_ok=True)
    audio, opening = talk(seconds)
    motion = np.zeros((len(opening), len(CHANNELS)), np.float32)
    motion[:, JAW] = np.interp(np.arange(len(opening)) / 60 - late_s, np.arange(len(opening)) / 60, opening)
    soundfile.write(folder / f"{name}.wav", audio, 16_000)
    return write_live_link(folder / f"{name}.csv", motion, 60)


def silence_for(path: Path, seconds: float) -> Path:
    """A sound file beside a CSV, quiet but not silent."""
    hiss = 0.01 * np.random.default_rng(0).standard_normal(int(16_000 * seconds))
    soundfile.write(path.with_suffix(".wav"), hiss, 16_000)
    return path.with_suffix(".wav")


def rising(frames: int, channels: int = len(CHANNELS)) -> F32:
    """Every value of the table another one, in [0, 1]."""
    return (np.arange(frames * channels, dtype=np.float32) / (frames * channels)).reshape(frames, channels)


# ---- files -------------------------------------------------------------------------------------------------


def test_the_apps_columns_land_on_our_channels_and_rotations_nowhere(tmp_path: Path) -> None:
    motion = rising(150)
    curves = read_curves(write_live_link(tmp_path / "take.csv", motion, 60))
    np.testing.assert_allclose(curves.values, motion, atol=1e-6)
    np.testing.assert_allclose(curves.time_s, np.arange(150) / 60, atol=1e-9)
    assert curves.missing == ()


def test_our_own_csv_is_read_back(tmp_path: Path) -> None:
    motion = rising(40)
    path = tmp_path / "take.csv"
    write_csv(
        path, [FrameBlock(0, 0, 0.0, motion[:25]), FrameBlock(0, 25, 25 / 30, motion[25:])], Bundle.load()
    )
    curves = read_curves(path)
    np.testing.assert_allclose(curves.values, motion, atol=1e-6)
    np.testing.assert_allclose(curves.time_s, np.arange(40) / 30, atol=1e-6)


def test_names_match_in_any_case_and_what_is_missing_is_named_and_stays_0(tmp_path: Path) -> None:
    path = tmp_path / "take.csv"
    path.write_text("TIMECODE,jawOPEN, MouthClose\n00:00:00:00.000,0.5,0.25\n00:00:00:01.000,0.6,-0.01\n")
    curves = read_curves(path)
    assert len(curves.missing) == 50 and "jawOpen" not in curves.missing
    assert curves.values[0, JAW] == 0.5
    assert curves.values[1].sum() == np.float32(0.6)  # what calibration takes below 0 is 0


@pytest.mark.parametrize("fps", [24, 25, 30, 50, 60])
def test_the_frame_number_of_a_timecode_counts_at_the_rate_at_which_it_wraps(fps: int) -> None:
    codes = [timecode(row, fps) for row in range(3 * fps)]
    np.testing.assert_allclose(timecode_s(codes), np.arange(3 * fps) / fps, atol=1e-9)


def test_a_timecode_has_thousandths_of_a_frame_and_goes_over_midnight() -> None:
    codes = ["23:59:59:00.000", "23:59:59:59.500", "00:00:00:30.000"]
    np.testing.assert_allclose(timecode_s(codes), [0, 59.5 / 60, 1.5], atol=1e-9)


def test_rows_without_a_face_and_rows_that_go_back_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "take.csv"
    path.write_text(
        "Timecode,BlendShapeCount,JawOpen\n00:00:00:00,61,0.1\n00:00:00:02,0,\n00:00:00:04,0\n"
        "00:00:00:29,61,0.2\n00:00:00:28,61,0.9\n00:00:00:29,61,0.9\n00:00:01:00,61,0.3\n"
    )
    curves = read_curves(path)
    np.testing.assert_allclose(curves.values[:, JAW], [0.1, 0.2, 0.3])
    np.testing.assert_allclose(curves.time_s, [0, 29 / 30, 1])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a,b\n1,2\n", "has no Timecode or time_s, or no ARKit channels"),
        ("Timecode,HeadYaw\n00:00:00:00,1\n", "no ARKit channels"),
        ("", "is not a CSV of curves"),
        ("Timecode,JawOpen\n", "holds no row with values"),
        ("Timecode,JawOpen\n00:00:00:00,wide\n", "line 2: could not convert string to float: 'wide'"),
        ("Timecode,JawOpen\nnoon,0.5\n", "the timecode 'noon' is not HH:MM:SS:FF.mmm"),
        ("time_s,jawOpen\n0,87\n", "values up to 87, where curves run from 0 to 1"),
        ("time_s,jawOpen\n0,nan\n", "values up to nan"),
    ],
)
def test_a_table_that_is_no_capture_is_refused_in_one_sentence(
    tmp_path: Path, text: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "take.csv").write_text(text)
    silence_for(tmp_path / "take.csv", 3)
    assert main([str(tmp_path)]) == 2
    answer = capsys.readouterr().err
    assert sentence in answer and "take.csv" in answer and answer.count("\n") == 1


def test_what_cannot_be_learnt_from_is_refused(tmp_path: Path) -> None:
    table = write_live_link(tmp_path / "take.csv", np.zeros((300, 52), np.float32), 60)
    with pytest.raises(FileNotFoundError, match=r"such as .*take\.wav"):
        read_takes([tmp_path])
    with pytest.raises(ValueError, match="never opens its jaw"):
        read_take(table, silence_for(table, 5))
    with pytest.raises(ValueError, match="too short"):
        read_take(table, silence_for(table, 0.5))
    moving = write_live_link(tmp_path / "take.csv", rising(300), 60)
    soundfile.write(tmp_path / "take.wav", np.zeros(80_000), 16_000)
    with pytest.raises(ValueError, match="is silent"):
        read_take(moving, tmp_path / "take.wav")
    (tmp_path / "take.wav").write_bytes(b"no sound")
    with pytest.raises(ValueError, match="cannot be read as sound"):
        read_take(moving, tmp_path / "take.wav")


def test_a_folders_settings_hold_for_its_takes_and_mistakes_in_them_are_named(tmp_path: Path) -> None:
    write_talk(tmp_path / "glad")
    write_talk(tmp_path / "plain")
    (tmp_path / "glad" / "capture.toml").write_text('style = "cheerful"\noffset_ms = 20')
    glad, plain = read_takes([tmp_path])
    assert (glad.settings.style, glad.settings.offset_ms) == ("cheerful", 20)
    assert (plain.settings.style, plain.settings.offset_ms) == ("neutral", 0)
    (tmp_path / "glad" / "capture.toml").write_text('style = "gleeful"')
    with pytest.raises(OptionError, match=r"capture\.toml must be one of neutral, crisp"):
        read_takes([tmp_path])


# ---- one clock ---------------------------------------------------------------------------------------------


def test_frames_take_the_curves_value_at_their_own_instant(tmp_path: Path) -> None:
    motion = rising(300)
    table = write_live_link(tmp_path / "take.csv", motion, 60)
    take = read_take(table, silence_for(table, 5.2))
    known = int(take.known.sum())
    assert known == 150 and take.known[:150].all()  # the sound goes on for 0.2 s without curves
    np.testing.assert_allclose(take.motion[:150], motion[::2], atol=1e-6)
    table = write_live_link(tmp_path / "take.csv", motion, 25)
    take = read_take(table, silence_for(table, 5))
    np.testing.assert_allclose(take.motion[6], motion[5], atol=1e-6)  # 6/30 s = 5/25 s
    np.testing.assert_allclose(take.motion[3], (motion[2] + motion[3]) / 2, atol=1e-6)


def test_an_offset_moves_the_curves_ahead(tmp_path: Path) -> None:
    motion = rising(300)
    table = write_live_link(tmp_path / "take.csv", motion, 60)
    (tmp_path / "capture.toml").write_text("offset_ms = 100")
    take = read_take(table, silence_for(table, 5))
    np.testing.assert_allclose(take.motion[0], motion[6], atol=1e-6)
    (tmp_path / "capture.toml").write_text("offset_ms = -100")
    take = read_take(table, silence_for(table, 5))
    assert not take.known[:3].any() and take.known[3]
    np.testing.assert_allclose(take.motion[3], motion[0], atol=1e-6)


def test_no_window_holds_a_frame_that_the_app_did_not_see(tmp_path: Path) -> None:
    lost = range(200, 212)  # 0.2 s at 60 fps
    motion = rising(480)
    table = write_live_link(tmp_path / "take.csv", motion, 60, skip=[*lost, 301])
    take = read_take(table, silence_for(table, 8))
    unknown = np.flatnonzero(~take.known[:239])
    assert unknown.tolist() == list(range(100, 107))  # between rows 199 and 212; a single lost row is bridged
    batch = Captures([tmp_path], seed=0).draw(300, augmented=False)
    first, last = motion[:, JAW].searchsorted([batch.motion[:, 0, JAW], batch.motion[:, -1, JAW]])
    assert not ((first < 212) & (last > 199)).any()
    assert (last < 200).any() and (first >= 212).any()


def test_sound_and_curves_of_a_window_are_of_the_same_instants(tmp_path: Path) -> None:
    instants_s = [2.0, 2.9, 3.7, 4.6]  # each on a frame
    motion = np.zeros((360, len(CHANNELS)), np.float32)
    motion[[round(60 * t) for t in instants_s], JAW] = 1
    sound = np.zeros((6 * 48_000, 2))
    sound[[round(48_000 * t) for t in instants_s]] = 0.9  # a click in both channels
    write_live_link(tmp_path / "take.csv", motion, 60)
    soundfile.write(tmp_path / "take.wav", sound, 48_000)
    batch = Captures([tmp_path], seed=1).draw(200, augmented=False)
    seen = 0
    for audio, jaw in zip(batch.audio.numpy(), batch.motion[..., JAW].numpy(), strict=True):
        for frame in np.flatnonzero(jaw > 0.5):
            # The window's end stands tail_samples after its newest frame.
            back = (GRID.segment_frames - 1 - frame) * GRID.sample_rate_hz / GRID.frame_rate_hz
            expected = GRID.window_samples - GRID.tail_samples - back
            near = audio[max(0, round(expected) - 300) : round(expected) + 300]
            assert abs(np.abs(near).argmax() + max(0, round(expected) - 300) - expected) <= 1
            seen += 1
    assert seen > 50


def test_late_lips_are_noticed_and_the_advice_mends_them(tmp_path: Path) -> None:
    write_talk(tmp_path, late_s=0.15)
    (take,) = read_takes([tmp_path])
    said = " ".join(remarks(take))
    assert "behind the sound" in said and "set offset_ms = 1" in said
    advice = said.split("offset_ms = ")[1].split()[0]
    assert float(advice) == pytest.approx(150, abs=15)
    (tmp_path / "capture.toml").write_text(f"offset_ms = {advice}")
    (take,) = read_takes([tmp_path])
    assert len(remarks(take)) == 1


def test_the_sound_of_another_take_is_noticed(tmp_path: Path) -> None:
    write_talk(tmp_path, seconds=60)
    soundfile.write(tmp_path / "take.wav", talk(60, seed=5)[0], 16_000)
    (take,) = read_takes([tmp_path])
    assert "are sound and curves of the same take?" in remarks(take)[1]


# ---- lessons -----------------------------------------------------------------------------------------------


def test_a_batch_of_captures_has_the_corpus_shapes_unknown_phones_and_the_folders_style(
    tmp_path: Path,
) -> None:
    write_talk(tmp_path)
    (tmp_path / "capture.toml").write_text('style = "soft"')
    captures = Captures([tmp_path], seed=3)
    batch = captures.draw(6)
    tokens, segment = GRID.window_samples // TOKEN_SAMPLES, GRID.segment_frames
    shapes = {"audio": (6, 16_000), "motion": (6, segment, 52), "noise": (6, segment, 52), "style": (6, 12)}
    for name, shape in (shapes | {"phones": (6, tokens)}).items():
        assert getattr(batch, name).shape == shape
    assert batch.audio.dtype == batch.motion.dtype == torch.float32 and batch.phones.dtype == torch.int64
    assert (batch.phones == UNKNOWN_PHONE).all()
    assert (batch.style.argmax(1) == STYLES.index("soft")).all() and (batch.style.sum(1) == 1).all()
    captures.seed(3)
    again = captures.draw(6)
    for field in fields(Batch):
        assert torch.equal(getattr(batch, field.name), getattr(again, field.name))


def test_the_eyes_are_the_noises_and_the_rest_is_the_captures(tmp_path: Path) -> None:
    write_live_link(tmp_path / "take.csv", np.full((300, 52), 0.5, np.float32) + rising(300) / 10, 60)
    silence_for(tmp_path / "take.csv", 5)
    batch = Captures([tmp_path], seed=0).draw(32)
    rest = [place for place in range(len(CHANNELS)) if place not in EYES]
    assert len(EYES) == 14 and (batch.motion[..., rest] > 0.49).all()
    # Past the noise's reach, the eyes are what it makes of them.
    reach = torch.cat([torch.zeros(32, IDLE_REACH_FRAMES, 52), batch.noise], dim=1)
    expected = idle_coefficients(reach, batch.style).clamp(0, 1)[:, IDLE_REACH_FRAMES:, EYES]
    torch.testing.assert_close(batch.motion[:, IDLE_REACH_FRAMES:, EYES], expected)
    assert expected.max() > 0.9  # somebody blinks


class Marked:
    """Lessons that can be told by their value, and that remember how they were seeded."""

    def __init__(self, value: float) -> None:
        self.value, self.seeds = value, list[int]()

    def seed(self, seed: int) -> None:
        self.seeds.append(seed)

    def draw(self, count: int) -> Batch:
        shapes = [(count, 8), (count, 2, 52), (count, 2, 52), (count, 12), (count, 4)]
        return Batch(*(torch.full(shape, self.value) for shape in shapes))


@pytest.mark.parametrize(
    ("share", "batch", "mean"), [(0.5, 40, 20), (0.25, 10, 2.5), (0.01, 40, 0.4), (1, 8, 8)]
)
def test_a_mixed_batch_holds_its_share_of_captures_on_average(share: float, batch: int, mean: float) -> None:
    mixed = Mixed(Marked(0), Marked(1), share)
    mixed.seed(7)
    drawn = [mixed.draw(batch) for _ in range(200)]
    assert all(len(getattr(b, field.name)) == batch for b in drawn for field in fields(Batch))
    captured = [float((b.audio[:, 0] == 1).sum()) for b in drawn]
    assert np.mean(captured) == pytest.approx(mean, abs=0.15)
    assert max(captured) - min(captured) <= 1
    assert mixed.windows.seeds == mixed.captures.seeds == [7]  # type: ignore[attr-defined]


# ---- fine-tuning -------------------------------------------------------------------------------------------


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

    return net.denormalise(few_steps(denoise, batch.noise, (999,)))


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
    with pytest.raises(ValueError, match=r"ear\.safetensors is no teacher\.safetensors"):
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
    shares = {"ear_share": 0.4, "student_share": 0.2, "budget_minutes": 10.0}
    taught = options(tmp_path, corpus=Path("corpus"), **shares)
    tuned = options(tmp_path, corpus=Path("corpus"), init=Path("teacher.safetensors"), **shares)
    assert taught.teaches_ear and not tuned.teaches_ear and not options(tmp_path).teaches_ear
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
    assert train_main([*words, "2"]) == 0
    second = load_file(out / "student.safetensors")
    assert any(not torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(first["std"], second["std"])  # widened once, not again
