"""What holds of every format: whole or not there, a full disk is a sentence, and length costs no memory."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamer.contract.errors import FaceError
from streamer.core.crossfader import FrameBlock
from streamer.engine import animation_file
from streamer.engine.animation.look import Look
from streamer.engine.bundle import Bundle
from streamer.engine.recording import Recording
from tests.animations import DRAWN, KINDS, blocks_of, endless, motion_of, name_of, write_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.load(write_bundle(tmp_path_factory.mktemp("whole") / "bundle"))


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """Six seconds of noise."""
    path = tmp_path_factory.mktemp("sound") / "a.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(6 * 16_000), 16_000)
    return Recording.open(path)


def write(kind: str, path: Path, blocks: Iterator[FrameBlock], bundle: Bundle, recording: Recording) -> int:
    return animation_file.write(kind, path, blocks, bundle, recording, {"seed": 0}, Look((64, 64)))


def interrupted(error: BaseException, after: int = 3) -> Iterator[FrameBlock]:
    """A few blocks, then Ctrl-C, or whatever else ends an animation."""
    yield from blocks_of(motion_of(2 * after))
    raise error


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_tells_how_many_frames_it_wrote(
    bundle: Bundle, recording: Recording, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / name_of(kind)
    assert write(kind, path, blocks_of(motion_of(7)), bundle, recording) == 7
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    if path.is_file():
        assert path.stat().st_size > 100


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "error",
    [KeyboardInterrupt(), FaceError("bad_audio_values", "The audio holds NaN.")],
    ids=["Ctrl-C", "NaN"],
)
def test_what_is_interrupted_leaves_nothing_new_and_what_was_there_as_it_was(
    bundle: Bundle, recording: Recording, tmp_path: Path, kind: str, error: BaseException
) -> None:
    path = tmp_path / name_of(kind)
    if kind != "png":
        path.write_text("what was there before")
    with pytest.raises(type(error)):
        write(kind, path, interrupted(error), bundle, recording)
    assert [entry.name for entry in tmp_path.iterdir()] == ([] if kind == "png" else [path.name])
    if kind != "png":
        assert path.read_text() == "what was there before"


@contextlib.contextmanager
def no_room_after(size: int) -> Iterator[None]:
    """No file may grow beyond ``size`` bytes: to a program that is a disk that is full."""
    import resource

    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


@pytest.mark.skipif(sys.platform != "linux", reason="limits on files are set in another way elsewhere")
@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    bundle: Bundle, recording: Recording, tmp_path: Path, kind: str
) -> None:
    path, frames = tmp_path / name_of(kind), 12 if kind in DRAWN else 200
    with (
        no_room_after(2_000),
        pytest.raises(FaceError, match=r"cannot be written: .*\. Make room, or write to another disk\."),
    ):
        try:
            write(kind, path, blocks_of(motion_of(frames)), bundle, recording)
        except FaceError as error:
            assert str(path) in error.message
            raise FaceError(error.code, str(error), "") from None
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_that_is_not_there_is_named(
    bundle: Bundle, recording: Recording, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "nowhere" / name_of(kind)
    with pytest.raises(FaceError, match="nowhere.* cannot be written"):
        write(kind, path, blocks_of(motion_of(7)), bundle, recording)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_animation_takes_no_more_memory_than_a_short_one(
    bundle: Bundle, recording: Recording, tmp_path: Path, kind: str
) -> None:
    short, long = (12, 72) if kind in DRAWN else (600, 6_000)
    # A sheet holds its two dozen pictures; all others have room for a few frames only.
    room = 24 * 240 * 240 * 3 if kind == "sheet" else 200_000

    def peak(frames: int) -> int:
        path = tmp_path / str(frames) / name_of(kind)
        path.parent.mkdir(exist_ok=True)
        tracemalloc.reset_peak()
        assert write(kind, path, endless(frames), bundle, recording) == frames
        return tracemalloc.get_traced_memory()[1]

    tracemalloc.start()
    try:
        write(kind, tmp_path / f"warm-{name_of(kind)}", endless(4), bundle, recording)  # imports, caches
        assert peak(long) < peak(short) + room
    finally:
        tracemalloc.stop()
