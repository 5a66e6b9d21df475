"""Live Link Face's CSV: the app's columns, timecodes Unreal reads rightly, and a way back into training."""

from __future__ import annotations

import csv
from pathlib import Path

import msgspec
import numpy as np
import pytest

from model.captures import read_curves, timecode_s
from streamer.engine.animation.tables import (
    LIVE_LINK_ROTATIONS,
    LIVE_LINK_SHAPES,
    timecode,
    write_live_link,
)
from streamer.engine.bundle import Bundle
from tests import fakes
from tests.animations import blocks_of, motion_of


@pytest.fixture
def bundle(folder: Path) -> Bundle:
    return Bundle.load(folder)


def rows_of(path: Path) -> list[list[str]]:
    with path.open(newline="") as stream:
        return list(csv.reader(stream))


def test_the_columns_are_the_apps(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "take.csv"
    write_live_link(path, blocks_of(motion_of(3)), bundle)
    header, *rows = rows_of(path)
    assert header[:3] == ["Timecode", "BlendShapeCount", "EyeBlinkLeft"]
    assert header[16:20] == ["JawForward", "JawRight", "JawLeft", "JawOpen"]
    assert header[23:25] == ["MouthRight", "MouthLeft"]
    assert header[53:] == [
        "TongueOut",
        *("HeadYaw", "HeadPitch", "HeadRoll"),
        *("LeftEyeYaw", "LeftEyePitch", "LeftEyeRoll"),
        *("RightEyeYaw", "RightEyePitch", "RightEyeRoll"),
    ]
    assert sorted(name.lower() for name in LIVE_LINK_SHAPES) == sorted(n.lower() for n in fakes.CHANNELS)
    assert [row[:2] for row in rows] == [[f"00:00:00:0{k}.000", "61"] for k in range(3)]
    assert all(len(row) == 2 + 61 for row in rows)


def test_a_take_is_read_back_as_it_was(bundle: Bundle, tmp_path: Path) -> None:
    motion = motion_of(95)
    assert write_live_link(tmp_path / "take.csv", blocks_of(motion), bundle) == 95
    curves = read_curves(tmp_path / "take.csv")
    assert curves.missing == ()
    np.testing.assert_allclose(curves.time_s, np.arange(95) / 30, atol=1e-9)
    np.testing.assert_allclose(curves.values, motion, atol=1e-6)


def test_what_the_bundle_does_not_move_is_0(bundle: Bundle, tmp_path: Path) -> None:
    motion = msgspec.structs.replace(bundle.manifest.motion, channels=["jawOpen", "somethingElse"])
    odd = Bundle(bundle.folder, msgspec.structs.replace(bundle.manifest, motion=motion))
    write_live_link(tmp_path / "take.csv", blocks_of(np.full((2, 2), 0.25, np.float32)), odd)
    header, first, _ = rows_of(tmp_path / "take.csv")
    values = dict(zip(header[2:], first[2:], strict=True))
    assert values.pop("JawOpen") == "0.250000"
    assert set(values.values()) == {"0.000000"}
    assert all(values[name] == "0.000000" for name in LIVE_LINK_ROTATIONS)


@pytest.mark.parametrize("rate_hz", [24, 25, 30, 50, 60])
def test_timecodes_count_at_30_or_60_and_give_every_frame_its_time(rate_hz: int) -> None:
    codes = [timecode(frame, rate_hz) for frame in range(3 * rate_hz)]
    frames = [float(code.split(":")[-1]) for code in codes]
    assert (max(frames) > 30) == (rate_hz != 30)  # by which Unreal tells 60 from 30
    np.testing.assert_allclose(timecode_s(codes), np.arange(len(codes)) / rate_hz, atol=1e-5)


def test_a_timecode_goes_on_for_hours() -> None:
    assert timecode(2 * 3600 * 30 + 61 * 30 + 7, 30) == "02:01:01:07.000"
    assert timecode(25 * 3600 + 1, 25) == "01:00:00:02.400"
