"""Captured faces: files as phone apps write them, put on the server's frame grid, and drawn from."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

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
from model.options import OptionError
from model.shape import CHANNELS, GRID, STYLES, TOKEN_SAMPLES
from model.speech import Batch
from streamer.core.crossfader import FrameBlock
from streamer.engine.animation_file import write_csv
from streamer.engine.bundle import Bundle
from tests.takes import JAW, rising, silence_for, talk, timecode, write_live_link, write_talk

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
        shapes = [(count, 8), (count, 2, 52), (count, 2, 52), (count, 12), (count, 4), (count, 2, 2)]
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
