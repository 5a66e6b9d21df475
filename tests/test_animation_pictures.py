"""Films, numbered pictures and contact sheets of an animation: what is in them, and what their sound is."""

from __future__ import annotations

from pathlib import Path

import av
import msgspec
import numpy as np
import pytest
import soundfile
from PIL import Image

from streamer.contract.errors import FaceError
from streamer.engine.animation.look import Look, parse_size
from streamer.engine.animation.pictures import write_film, write_frames, write_sheet
from streamer.engine.bundle import Bundle
from streamer.engine.recording import Recording
from tests import fakes
from tests.animations import F32, blocks_of, write_bundle

SMALL = Look((64, 96))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.load(write_bundle(tmp_path_factory.mktemp("pictures") / "bundle"))


def recording_of(path: Path, seconds: float, rate_hz: int = 16_000, channels: int = 1) -> Recording:
    """A tone of 440 Hz."""
    tone = 0.4 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate_hz)) / rate_hz)
    soundfile.write(path, np.repeat(tone[:, None], channels, 1), rate_hz)
    return Recording.open(path)


def opening(frames: int) -> F32:
    """A jaw that opens, frame by frame."""
    motion = np.zeros((frames, len(fakes.CHANNELS)), np.float32)
    motion[:, fakes.JAW] = np.linspace(0, 1, frames)
    return motion


@pytest.mark.parametrize(
    ("rate_hz", "channels", "film_rate_hz"),
    [(16_000, 1, 16_000), (44_100, 2, 44_100), (8_000, 1, 8_000), (37_800, 1, 48_000), (192_000, 6, 48_000)],
)
def test_a_film_shows_every_frame_and_plays_the_recording(
    bundle: Bundle, tmp_path: Path, rate_hz: int, channels: int, film_rate_hz: int
) -> None:
    recording = recording_of(tmp_path / "a.wav", 1.2, rate_hz, channels)
    assert write_film(tmp_path / "a.mp4", blocks_of(opening(36)), bundle, recording, SMALL) == 36
    with av.open(str(tmp_path / "a.mp4")) as film:
        pictures = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
        assert film.streams.video[0].average_rate == 30
        film.seek(0)
        heard = np.concatenate([frame.to_ndarray()[0] for frame in film.decode(audio=0)])
        assert film.streams.audio[0].rate == film_rate_hz
    assert len(pictures) == 36 and pictures[0].shape == (64, 96, 3)
    assert np.abs(pictures[0].astype(int) - pictures[-1]).max() > 40
    assert len(heard) / film_rate_hz == pytest.approx(1.2, abs=0.15)  # AAC comes in frames of 1,024
    spectrum = np.abs(np.fft.rfft(heard[: film_rate_hz // 2] * np.hanning(film_rate_hz // 2)))
    assert spectrum.argmax() * 2 == pytest.approx(440, abs=4)


def test_frames_are_numbered_from_0_and_are_the_faces_one_by_one(bundle: Bundle, tmp_path: Path) -> None:
    assert write_frames(tmp_path / "frames", blocks_of(opening(5)), bundle, SMALL) == 5
    names = sorted(path.name for path in (tmp_path / "frames").iterdir())
    assert names == [f"00000{k}.png" for k in range(5)]
    first, last = (np.asarray(Image.open(tmp_path / "frames" / name), int) for name in (names[0], names[-1]))
    assert first.shape == (64, 96, 3)
    assert np.abs(first - last).max() > 40


def test_an_empty_folder_takes_frames_and_one_with_anything_in_it_keeps_what_it_has(
    bundle: Bundle, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    assert write_frames(tmp_path / "empty", blocks_of(opening(2)), bundle, SMALL) == 2
    with pytest.raises(FaceError, match="is not empty"):
        write_frames(tmp_path / "empty", blocks_of(opening(2)), bundle, SMALL)
    assert len(list((tmp_path / "empty").iterdir())) == 2
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FaceError, match="is a file"):
        write_frames(tmp_path / "file", blocks_of(opening(2)), bundle, SMALL)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(("seconds", "tiles"), [(3.0, (6, 4)), (0.3, (6, 2)), (0.1, (3, 1))])
def test_a_sheet_has_a_tile_for_two_dozen_frames_or_for_each_of_a_few(
    bundle: Bundle, tmp_path: Path, seconds: float, tiles: tuple[int, int]
) -> None:
    recording = recording_of(tmp_path / "a.wav", seconds)
    frames = round(seconds * 30)
    assert write_sheet(tmp_path / "a.png", blocks_of(opening(frames)), bundle, recording, Look()) == frames
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (8 + tiles[0] * 248, 8 + tiles[1] * 276)


def test_channels_are_drawn_by_name(bundle: Bundle, tmp_path: Path) -> None:
    turned = list(reversed(fakes.CHANNELS))
    motion = msgspec.structs.replace(bundle.manifest.motion, channels=turned)
    odd = Bundle(bundle.folder, msgspec.structs.replace(bundle.manifest, motion=motion))
    write_frames(tmp_path / "one", blocks_of(opening(3)), bundle, SMALL)
    write_frames(tmp_path / "two", blocks_of(np.ascontiguousarray(opening(3)[:, ::-1])), odd, SMALL)
    for name in ("000000.png", "000002.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_the_head_is_in_the_middle_from_every_side(bundle: Bundle, tmp_path: Path) -> None:
    for turn in (-60.0, 0.0, 60.0):
        look = Look((96, 96), turn)
        write_frames(tmp_path / str(turn), blocks_of(opening(1)), bundle, look)
        picture = np.asarray(Image.open(tmp_path / str(turn) / "000000.png"), int)[20:60]
        head = np.flatnonzero((np.ptp(picture, axis=2) > 40).any(0))  # a wall has no colour
        assert abs((head.min() + head.max()) / 2 - 48) < 9


@pytest.mark.parametrize(
    ("text", "size"),
    [("720", (720, 720)), ("1280x720", (720, 1280)), (" 720X1280 ", (1280, 720)), ("64×64", (64, 64))],
)
def test_a_size_is_width_by_height_or_a_square(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "big", "1280x", "721", "62", "5000", "640x481", "-64", "64x64x64"])
def test_what_is_no_size_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(FaceError, match="is no size of a picture"):
        parse_size(text)
