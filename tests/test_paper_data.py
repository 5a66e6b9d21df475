"""The paper's recordings: both layouts give the same clips, the paper's splits, and pickles run nothing."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
import soundfile

from model.paper.recordings import EDITIONS, mono_16k, open_recordings
from model.paper.shape import BIWI as BIWI_SHAPE
from model.paper.shape import VOCASET as VOCASET_SHAPE
from model.paper.unpickle import read_pickle
from tests.paper_sets import VERTICES, recording, template_of, write_faceformer, write_official

VOCASET, BIWI = EDITIONS["vocaset"], EDITIONS["biwi"]


@pytest.mark.parametrize("write", [write_official, write_faceformer])
def test_a_vocaset_clip_is_every_second_frame_and_16_khz_sound(tmp_path, write):
    clips = open_recordings(VOCASET, write(VOCASET, tmp_path / "set"), "train", VERTICES)
    clip = clips[3]
    samples, vertices = recording("FaceTalk_170904_00128_TA", "sentence02", 60)
    assert clip.name == "FaceTalk_170904_00128_TA_sentence02"
    np.testing.assert_allclose(clip.vertices, vertices[::2].reshape(-1, 3 * VERTICES), rtol=1e-6)
    np.testing.assert_allclose(clip.template, template_of(clip.subject).reshape(-1), rtol=1e-6)
    assert clip.vertices.dtype == clip.audio.dtype == clip.template.dtype == np.float32
    assert len(clip.audio) == pytest.approx(0.7 * 16_000, abs=1)
    rms = np.sqrt(np.mean(np.square(samples / 32768)))
    assert np.sqrt(np.mean(np.square(clip.audio))) == pytest.approx(rms, rel=0.2)


def test_both_layouts_of_vocaset_hold_the_same(tmp_path):
    official = write_official(VOCASET, tmp_path / "a")
    faceformer = write_faceformer(VOCASET, tmp_path / "b")
    for split in ("train", "validation", "test"):
        ours = open_recordings(VOCASET, official, split, VERTICES)
        theirs = open_recordings(VOCASET, faceformer, split, VERTICES)
        assert ours.names == theirs.names
        for index in range(len(ours)):
            one, other = ours[index], theirs[index]
            assert (one.name, one.style) == (other.name, other.style)
            np.testing.assert_array_equal(one.vertices, other.vertices)
            np.testing.assert_array_equal(one.audio, other.audio)


def test_vocasets_split_is_eight_two_and_two_speakers_who_do_not_meet(tmp_path):
    root = write_faceformer(VOCASET, tmp_path / "set", sentences_per_split=40)
    clips = {split: open_recordings(VOCASET, root, split, VERTICES) for split in VOCASET.subjects}
    assert {split: len(part) for split, part in clips.items()} == {"train": 320, "validation": 40, "test": 40}
    assert sorted({clips["train"][i].style for i in range(320)}) == list(range(VOCASET_SHAPE.styles))
    assert clips["train"][0].subject == "FaceTalk_170728_03272_TA" and clips["train"][0].style == 0
    assert clips["train"][319].subject == "FaceTalk_170912_03278_TA" and clips["train"][319].style == 7
    for split in ("validation", "test"):
        assert {clips[split][i].style for i in range(40)} == {None}
        assert {sentence for _, sentence in clips[split].names} == {f"sentence{n}" for n in range(21, 41)}
    assert len({subject for part in clips.values() for subject, _ in part.names}) == 12


def test_biwi_keeps_its_rate_and_splits_by_sentence_with_the_same_speakers(tmp_path):
    root = write_faceformer(BIWI, tmp_path / "set", sentences_per_split=40)
    clips = {split: open_recordings(BIWI, root, split, VERTICES) for split in BIWI.subjects}
    assert {split: len(part) for split, part in clips.items()} == {"train": 192, "validation": 24, "test": 24}
    first = clips["test"][0]
    assert (first.name, first.style) == ("F2_e37", 0)
    assert [clips["validation"][4 * i].style for i in range(BIWI_SHAPE.styles)] == list(range(6))
    _, vertices = recording("F2", "e37", 25)
    np.testing.assert_allclose(first.vertices, vertices.reshape(-1, 3 * VERTICES), rtol=1e-6)


def test_the_editions_agree_with_the_networks_shapes():
    for edition, shape in ((VOCASET, VOCASET_SHAPE), (BIWI, BIWI_SHAPE)):
        assert edition.frame_rate_hz == shape.frame_rate_hz
        assert len(edition.subjects["train"]) == shape.styles


def test_a_clip_that_the_set_lacks_is_left_out(tmp_path):
    root = write_faceformer(BIWI, tmp_path / "set")
    (root / "wav" / "F2_e01.wav").unlink()
    clips = open_recordings(BIWI, root, "train", VERTICES)
    assert ("F2", "e01") not in clips.names and len(clips) == 11 and clips.wanted == 192
    root = write_official(VOCASET, tmp_path / "official")
    sound = read_pickle(root / "raw_audio_fixed.pkl")
    del sound["FaceTalk_170728_03272_TA"]["sentence01"]
    (root / "raw_audio_fixed.pkl").write_bytes(pickle.dumps(sound))
    assert len(open_recordings(VOCASET, root, "train", VERTICES)) == 15


def test_motion_stays_on_disk_until_a_clip_is_asked_for(tmp_path):
    root = write_official(VOCASET, tmp_path / "set")
    clips = open_recordings(VOCASET, root, "train", VERTICES)
    assert isinstance(clips.folder._vertices, np.memmap)
    clip = clips[0]
    assert not isinstance(clip.vertices, np.memmap)


@pytest.mark.parametrize(
    ("edition", "says"), [(VOCASET, "https://voca.is.tue.mpg.de"), (BIWI, "https://data.vision.ee.ethz.ch")]
)
def test_a_missing_set_says_where_to_ask_and_what_to_put_where(tmp_path, edition, says):
    with pytest.raises(FileNotFoundError) as caught:
        open_recordings(edition, tmp_path / "nowhere", "train", VERTICES)
    sentence = str(caught.value)
    assert says in sentence and "templates.pkl" in sentence and "nowhere" in sentence and "\n" not in sentence


def test_a_set_that_is_not_complete_names_what_is_missing(tmp_path):
    official = write_official(VOCASET, tmp_path / "a")
    (official / "raw_audio_fixed.pkl").unlink()
    with pytest.raises(FileNotFoundError, match=r"a lacks raw_audio_fixed.pkl. VOCASET needs a licence"):
        open_recordings(VOCASET, official, "train", VERTICES)
    faceformer = write_faceformer(BIWI, tmp_path / "b")
    (faceformer / "templates.pkl").unlink()
    with pytest.raises(FileNotFoundError, match=r"b lacks templates.pkl"):
        open_recordings(BIWI, faceformer, "train", VERTICES)


def test_a_split_without_a_single_clip_names_one_that_it_wants(tmp_path):
    root = write_faceformer(BIWI, tmp_path / "set")
    for path in (root / "wav").glob("*_e3[3-6].wav"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match="validation split, such as F2_e33"):
        open_recordings(BIWI, root, "validation", VERTICES)


def test_a_face_of_another_size_is_refused(tmp_path):
    root = write_faceformer(BIWI, tmp_path / "set")
    with pytest.raises(ValueError, match="18 values where 3 × 23370 are due"):
        open_recordings(BIWI, root, "train", BIWI_SHAPE.vertices)[0]


def test_damaged_files_are_named(tmp_path):
    root = write_faceformer(BIWI, tmp_path / "set")
    clips = open_recordings(BIWI, root, "train", VERTICES)
    (root / "wav" / "F2_e01.wav").write_bytes(b"no sound")
    with pytest.raises(ValueError, match=r"F2_e01\.wav cannot be read"):
        clips[0]
    (root / "vertices_npy" / "F2_e02.npy").write_bytes(b"no numbers")
    with pytest.raises(ValueError, match=r"F2_e02\.npy is no array"):
        clips[1]
    (root / "templates.pkl").write_bytes(b"no pickle")
    with pytest.raises(ValueError, match=r"templates\.pkl is damaged"):
        open_recordings(BIWI, root, "train", VERTICES)


def test_stereo_at_any_rate_becomes_mono_at_16_khz(tmp_path):
    time = np.arange(48_000) / 48_000
    tone = 0.5 * np.sin(2 * np.pi * 440 * time)
    soundfile.write(tmp_path / "stereo.wav", np.stack([tone, 0 * tone], axis=1), 48_000)
    samples, rate_hz = soundfile.read(tmp_path / "stereo.wav", dtype="float32")
    mono = mono_16k(samples, rate_hz)
    expected = 0.25 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    assert mono.shape == (16_000,) and mono.dtype == np.float32
    np.testing.assert_allclose(mono[1000:-1000], expected[1000:-1000], atol=2e-4)


class Command:
    def __reduce__(self):
        return os.system, ("false",)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_pickle_that_calls_a_function_is_not_run(tmp_path, protocol):
    path = tmp_path / "templates.pkl"
    path.write_bytes(pickle.dumps({"F2": Command()}, protocol=protocol))
    with pytest.raises(ValueError, match=r"holds more than numbers \((posix|nt)\.system\)"):
        read_pickle(path)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_arrays_and_numbers_of_every_pickle_protocol_are_read(tmp_path, protocol):
    told = {
        "a": np.arange(6.0).reshape(2, 3),
        "b": [np.float64(1.5), 2, "three"],
        "c": {1: np.int16([-1, 2])},
    }
    (tmp_path / "numbers.pkl").write_bytes(pickle.dumps(told, protocol=protocol))
    read = read_pickle(tmp_path / "numbers.pkl")
    np.testing.assert_array_equal(read["a"], told["a"])
    np.testing.assert_array_equal(read["c"][1], told["c"][1])
    assert read["b"] == told["b"] and read["c"][1].dtype == np.int16


def test_a_pickle_of_python_2_is_read(tmp_path):
    # What Python 2 wrote for {"F2": numpy.array([1.0, 2.0])}: its texts are byte strings (opcode U).
    values = np.array([1.0, 2.0], dtype="<f8").tobytes()
    written = (
        b"\x80\x02}q\x01U\x02F2q\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85q\x05"
        b"U\x01bq\x06\x87q\x07Rq\x08(K\x01K\x02\x85q\tcnumpy\ndtype\nq\nU\x02f8q\x0bK\x00K\x01\x87q\x0cRq\r(K\x03U"
        b"\x01<q\x0eNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x0fb\x89U\x10" + values + b"q\x10tq\x11bs."
    )
    (tmp_path / "old.pkl").write_bytes(written)
    np.testing.assert_array_equal(read_pickle(tmp_path / "old.pkl")["F2"], [1.0, 2.0])
