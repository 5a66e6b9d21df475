"""`diffspeaker animate` and `info`: files in, files out, and a sentence for everything that can be wrong."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import msgspec
import numpy as np
import pytest
import soundfile

from model.captures import read_curves
from streamer.cli.main import main
from streamer.contract.errors import FaceError
from streamer.core.options import SessionOptions
from streamer.engine import offline
from streamer.engine.animation import formats
from streamer.engine.animation.targets import targets_of
from streamer.engine.backend import OnnxBackend
from streamer.engine.bundle import Bundle
from tests import animations, fakes

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return fakes.write_bundle(tmp_path_factory.mktemp("animate") / "bundle")


@pytest.fixture(autouse=True)
def use_it(bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFSPEAKER_BUNDLE", str(bundle))
    monkeypatch.chdir(tmp_path)


def speech_file(name, seconds=1.0, rate_hz=16_000, channels=1, **options):
    pcm = np.repeat(fakes.speech(seconds, rate_hz)[:, None], channels, axis=1)
    soundfile.write(name, pcm, rate_hz, **options)
    return name


def refused(capsys, *argv):
    """Runs a command that must fail in one line; returns the line and the exit code."""
    code = main([*argv])
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("diffspeaker: ") and output.err.count("\n") == 1
    assert not list(Path().rglob("*.part"))
    return output.err, code


def table(path):
    with open(path, newline="") as stream:
        header, *rows = csv.reader(stream)
    return header, np.array(rows, np.float64)


# ---- what it writes ----


def test_a_csv_has_a_header_and_a_row_per_frame_on_the_audios_clock():
    assert main(["animate", speech_file("a.wav", 1.01), "-o", "a.csv"]) == 0
    header, rows = table("a.csv")
    assert header == ["time_s", *fakes.CHANNELS]
    np.testing.assert_allclose(rows[:, 0], np.arange(31) / 30, atol=1e-6)
    assert rows[:, 1:].min() >= 0 and rows[:, 1:].max() <= 1


def test_the_frames_are_those_of_the_live_path(bundle):
    main(["animate", speech_file("a.wav", subtype="FLOAT"), "-o", "a.csv", "--seed", "3", "--style", "tense"])
    loaded = Bundle.load(bundle)
    options = SessionOptions.choose(loaded.manifest, seed=3, style={"tense": 1})
    blocks = offline.animate([fakes.speech(1)], loaded.manifest, OnnxBackend(loaded), options)
    expected = np.concatenate([block.values for block in blocks])
    np.testing.assert_allclose(table("a.csv")[1][:, 1:], expected, atol=1e-6)


def test_an_npz_has_coefficients_vertices_and_metadata_and_no_pickle(bundle):
    assert main(["animate", speech_file("a.wav", 3), "-o", "a.npz"]) == 0
    with np.load("a.npz", allow_pickle=False) as arrays:
        assert arrays["coefficients"].shape == (90, 52) and arrays["coefficients"].dtype == np.float32
        assert arrays["vertices"].shape == (90, fakes.VERTICES, 3)
        np.testing.assert_array_equal(
            arrays["vertices"], Bundle.load(bundle).vertices(arrays["coefficients"])
        )
        np.testing.assert_allclose(arrays["time_s"], np.arange(90) / 30)
        assert list(arrays["channels"]) == fakes.CHANNELS
        metadata = json.loads(str(arrays["metadata"]))
    assert metadata["bundle"] == "fake 0" and metadata["style"] == {"neutral": 1}


@pytest.mark.parametrize(
    ("name", "rate_hz", "channels"),
    [("a.flac", 44_100, 2), ("a.ogg", 48_000, 1), ("a.mp3", 24_000, 2), ("a.wav", 8_000, 6)],
)
def test_any_format_rate_and_number_of_channels(name, rate_hz, channels):
    assert main(["animate", speech_file(name, 1, rate_hz, channels), "-o", "a.csv"]) == 0
    frames = len(table("a.csv")[1])
    assert frames in ((30,) if name != "a.mp3" else range(30, 34))  # mp3 pads


def test_many_channels_are_mixed_to_their_mean():
    left, silence = fakes.speech(1), np.zeros(16_000, np.float32)
    soundfile.write("two.wav", np.stack([left, silence], axis=1), 16_000, subtype="FLOAT")
    soundfile.write("half.wav", left / 2, 16_000, subtype="FLOAT")
    main(["animate", "two.wav", "half.wav", "-o", "out/"])
    np.testing.assert_array_equal(table("out/two.csv")[1], table("out/half.csv")[1])


def test_several_inputs_go_into_a_folder_under_their_own_names(capsys):
    files = [speech_file("a.wav"), speech_file("b.flac", 2)]
    assert main(["animate", *files, "-o", "faces/", "--format", "npz", "--json"]) == 0
    assert sorted(os.listdir("faces")) == ["a.npz", "b.npz"]
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (first["input"], first["frames"], second["frames"]) == ("a.wav", 30, 60)
    assert second["audio_s"] == 2 and second["lookahead_ms"] == 80 and second["real_time_factor"] > 0


def test_a_sentence_tells_what_was_done(capsys):
    main(["animate", speech_file("a.wav"), "-o", "a.csv"])
    output = capsys.readouterr()
    assert "a.wav -> a.csv: 30 frames for 1.00 s of audio" in output.out
    assert output.err == ""  # no bar where nobody watches


def test_the_options_reach_the_session(capsys):
    speech_file("a.wav")
    main(["animate", "a.wav", "-o", "b.csv", "--lookahead-ms", "210", "--hop-ms", "33", "--json"])
    summary = json.loads(capsys.readouterr().out)
    assert summary["lookahead_ms"] == pytest.approx(213.3, abs=0.1)
    assert summary["hop_ms"] == pytest.approx(33.3, abs=0.1)
    main(["animate", "a.wav", "-o", "c.csv", "--style", "tense=0.5,cheerful=0.25", "--json"])
    assert json.loads(capsys.readouterr().out)["style"] == {"tense": 0.5, "cheerful": 0.25}


def test_the_same_seed_repeats_to_the_byte_and_another_does_not():
    speech_file("a.wav")
    for name, seed in (("1.csv", "1"), ("2.csv", "1"), ("3.csv", "2")):
        main(["animate", "a.wav", "-o", name, "--seed", seed])
    first, second, third = (Path(name).read_bytes() for name in ("1.csv", "2.csv", "3.csv"))
    assert first == second != third


# ---- formats ----


@pytest.fixture(scope="module")
def face(tmp_path_factory):
    """A bundle with a face that can be drawn."""
    return animations.write_bundle(tmp_path_factory.mktemp("face") / "bundle")


@pytest.mark.parametrize("kind", animations.KINDS)
def test_an_ending_says_the_format(face, capsys, kind):
    place = {"png": "a/"}.get(kind, animations.name_of(kind))
    argv = [
        "animate",
        speech_file("a.wav", 0.2),
        "-o",
        place,
        "--size",
        "64",
        "--bundle",
        str(face),
        "--json",
    ]
    assert main(argv) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["format"], summary["frames"]) == (kind, 6)
    assert sorted(os.listdir()) == sorted(["a.wav", place.rstrip("/")])


@pytest.mark.parametrize(
    ("name", "kind"), [("take.csv", "livelink"), ("take.vrma", "perfectsync"), ("take.png", "sheet")]
)
def test_a_shared_ending_takes_the_format_that_is_asked_for(face, capsys, name, kind):
    argv = [
        "animate",
        speech_file("a.wav", 0.2),
        "-o",
        name,
        "--format",
        kind,
        "--bundle",
        str(face),
        "--json",
    ]
    assert main(argv) == 0
    assert json.loads(capsys.readouterr().out)["format"] == kind
    if kind == "livelink":
        assert Path("take.csv").read_text().startswith("Timecode,BlendShapeCount,")


def test_a_live_link_csv_is_what_training_reads():
    main(["animate", speech_file("a.wav", 2), "-o", "a.csv"])
    main(["animate", "a.wav", "-o", "a.livelink.csv"])
    ours, theirs = (read_curves(Path(name)) for name in ("a.csv", "a.livelink.csv"))
    np.testing.assert_allclose(theirs.time_s, ours.time_s, atol=1e-6)
    np.testing.assert_array_equal(theirs.values, ours.values)


def test_a_folder_gets_a_file_of_each_recording_in_the_format_asked_for(face):
    files = [speech_file("a.wav", 0.2), speech_file("b.wav", 0.2)]
    common = ["--bundle", str(face), "--size", "64"]
    for kind, names in {
        "glb": ["a.glb", "b.glb"],
        "livelink": ["a.livelink.csv", "b.livelink.csv"],
        "png": ["a", "b"],
    }.items():
        assert main(["animate", *files, "-o", kind, "--format", kind, *common]) == 0
        assert sorted(os.listdir(kind)) == names
    assert sorted(os.listdir("png/a")) == [f"00000{k}.png" for k in range(6)]


def test_a_folder_with_a_slash_is_for_pictures_of_one_recording_and_for_tables_of_several(face):
    one, other = speech_file("a.wav", 0.1), speech_file("b.wav", 0.1)
    common = ["--bundle", str(face), "--size", "64"]
    main(["animate", one, "-o", "deep/er/", *common])
    assert sorted(os.listdir("deep/er")) == ["000000.png", "000001.png", "000002.png"]
    main(["animate", one, other, "-o", "several/", *common])
    assert sorted(os.listdir("several")) == ["a.csv", "b.csv"]
    main(["animate", one, "-o", "table/", "--format", "csv", *common])
    main(["animate", one, "-o", "plain", *common])
    assert os.listdir("table") == os.listdir("plain") == ["a.csv"]
    main(["animate", other, "-o", "plain", *common])  # a folder that is there
    assert sorted(os.listdir("plain")) == ["a.csv", "b.csv"]


def test_pictures_never_go_among_other_files(face, capsys):
    speech_file("a.wav", 0.1)
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("years of work")
    line, code = refused(capsys, "animate", "a.wav", "-o", "mine/", "--bundle", str(face))
    assert "mine is not empty" in line and code == 2
    assert os.listdir("mine") == ["thesis.txt"]


@pytest.mark.parametrize("absent", [("av",), ("PIL",), ("av", "PIL")], ids=" and ".join)
def test_a_package_that_is_not_installed_is_named_with_what_to_install(face, capsys, monkeypatch, absent):
    speech_file("a.wav", 0.1)
    for module in absent:
        monkeypatch.setitem(sys.modules, module, None)  # as if it were not there
    for place in ("a.mp4", "a.png", "frames/"):
        line, code = refused(capsys, "animate", "a.wav", "-o", place, "--bundle", str(face))
        assert " and ".join({"av": "PyAV", "PIL": "Pillow"}[module] for module in absent) in line
        assert "pip install 'diffspeaker-live[preview]'" in line and code == 2
    assert os.listdir() == ["a.wav"]


def test_tables_and_gltf_need_no_package_that_draws(face):
    speech_file("a.wav", 0.1)
    script = """
        import sys
        sys.modules["av"] = sys.modules["PIL"] = None
        from streamer.cli.main import main
        sys.exit(max(main(["animate", "a.wav", "-o", name]) for name in sys.argv[1:]))
    """
    names = ["a.csv", "a.npz", "a.livelink.csv", "a.glb", "a.vrma", "a.perfectsync.vrma"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DIFFSPEAKER_BUNDLE": str(face)}
    subprocess.run([sys.executable, "-c", textwrap.dedent(script), *names], env=environment, check=True)
    assert sorted(os.listdir()) == sorted(["a.wav", *names])


def test_the_help_names_every_format(capsys):
    assert main(["animate", "--help"]) == 0
    text = capsys.readouterr().out
    for kind, entry in formats.FORMATS.items():
        assert f"{entry.ending} " in text and f" {kind} " in text and entry.about in text


def test_a_bundle_without_coefficients_or_without_a_face_is_refused_before_any_work(face, tmp_path):
    loaded = Bundle.load(face)
    motion = msgspec.structs.replace(loaded.manifest.motion, kind="vertices", channels=[])
    vertices = Bundle(face, msgspec.structs.replace(loaded.manifest, motion=motion))
    for kind in formats.FORMATS:
        if kind != "npz":
            with pytest.raises(FaceError, match="moves vertices and has no coefficients.*npz"):
                raise_whole(lambda kind=kind: formats.check(kind, vertices))
    faceless = Bundle.load(animations.write_bundle(tmp_path / "faceless", avatar=None))
    for kind in ("glb", *animations.DRAWN):
        with pytest.raises(FaceError, match="has no avatar to show"):
            formats.check(kind, faceless)
    for kind in ("csv", "livelink", "npz", "vrma", "perfectsync"):
        formats.check(kind, faceless)
    targets, kind = targets_of("out/", ["a.wav"], None, faceless)
    assert (targets, kind) == ([Path("out/a.csv")], "csv")  # no face, so no pictures


def raise_whole(action):
    """Raises what the action raises, with its advice."""
    try:
        action()
    except FaceError as error:
        raise FaceError(error.code, str(error), "") from None


# ---- what it refuses ----


def test_a_missing_file_is_named(capsys):
    line, code = refused(capsys, "animate", "nowhere.wav", "-o", "a.csv")
    assert "nowhere.wav cannot be read" in line and code == 2


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "is an empty file"), (b"hello, I am text\n" * 20, "is not a sound file"), (b"RIFF", "is not a")],
)
def test_a_file_without_sound_in_it_is_refused(capsys, content, says):
    Path("a.wav").write_bytes(content)
    line, code = refused(capsys, "animate", "a.wav", "-o", "a.csv")
    assert "a.wav" in line and says in line and code == 2
    assert not Path("a.csv").exists()


def test_a_sound_file_of_no_samples_is_refused(capsys):
    soundfile.write("a.wav", np.zeros(0, np.float32), 16_000)
    assert "holds no sound" in refused(capsys, "animate", "a.wav", "-o", "a.csv")[0]


def test_samples_that_are_not_finite_are_refused_and_nothing_is_left_behind(capsys):
    pcm = fakes.speech(2)
    pcm[20_000] = np.nan
    soundfile.write("a.wav", pcm, 16_000, subtype="FLOAT")
    Path("a.csv").write_text("what was there before")
    line, code = refused(capsys, "animate", "a.wav", "-o", "a.csv")
    assert "a.wav: The audio holds NaN or infinite samples" in line and code == 1
    assert Path("a.csv").read_text() == "what was there before"


def test_an_output_that_cannot_be_written_is_named(capsys):
    speech_file("a.wav")
    line, code = refused(capsys, "animate", "a.wav", "-o", "nowhere/a.csv")
    assert "nowhere" in line and "cannot be written" in line and code == 2
    Path("file").write_text("")
    assert "cannot be made" in refused(capsys, "animate", "a.wav", "-o", "file/folder/")[0]


def test_two_inputs_may_not_write_the_same_file(capsys):
    Path("other").mkdir()
    files = [speech_file("a.wav"), speech_file("other/A.flac")]
    line, code = refused(capsys, "animate", *files, "-o", "out/")
    assert "a.wav" in line and "A.flac" in line and code == 2
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["a.wav"], "Say where to write with -o"),
        (["-o", "a.csv"], "AUDIO"),
        (["a.wav", "b.wav", "-o", "a.csv"], "one file for 2 inputs"),
        (["a.wav", "-o", "a.json"], "Name it .csv, .npz, .livelink.csv, .glb, .vrma"),
        (["a.wav", "b.wav", "-o", "a.mp4"], "one file for 2 inputs"),
        (["a.wav", "-o", "a.mp4", "--format", "livelink"], "does not end in .livelink.csv, which --format"),
        (["a.wav", "-o", "a.mp4", "--size", "721"], "'721' is no size of a picture"),
        (["a.wav", "-o", "a.mp4", "--turn", "120"], "--turn must be at most 90"),
        (["a.wav", "-o", "a.glb"], "avatar.glb is not an avatar that can be animated"),
        (["a.wav", "-o", "a.mp4"], "avatar.glb is not an avatar that can be drawn"),
        (["a.wav", "-o", "a.csv", "--format", "npz"], "--format asks for"),
        (["a.wav", "-o", "a.csv", "--format", "fbx"], "must be one of csv, npz"),
        (["a.wav", "-o", "a.csv", "--style", "angry"], "no style 'angry'"),
        (["a.wav", "-o", "a.csv", "--style", "tense=x"], "is no number"),
        (["a.wav", "-o", "a.csv", "--lookahead-ms", "5000"], "this bundle allows 13 to 313 ms"),
        (["a.wav", "-o", "a.csv", "--seed", "-1"], "--seed must be at least 0"),
        (["a.wav", "-o", "a.csv", "--bundle", "nowhere"], "no readable manifest.json"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(capsys, argv, says):
    speech_file("a.wav", 0.1)
    speech_file("b.wav", 0.1)
    line, code = refused(capsys, "animate", *argv)
    assert says in line and code in (2, 4)
    assert not Path("a.csv").exists()


@pytest.mark.skipif(os.name != "posix", reason="pipes close differently elsewhere")
def test_a_reader_that_goes_away_is_no_drama():
    speech_file("a.wav")
    command = [sys.executable, "-m", "streamer.cli.main", "animate", "a.wav", "-o", "a.csv"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as stdout:
        done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, env=environment, check=False)
    assert (done.returncode, done.stderr) == (141, b"")
    assert Path("a.csv").exists()


# ---- info ----


def test_info_shows_the_bundle_and_the_processors(capsys):
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    for word in (
        "fake 0",
        "Apache-2.0",
        "sha256 ok",
        "neutral, cheerful, tense",
        "80.0 (from 13.4 to 313.4)",
    ):
        assert word in text
    assert "with             cpu fp32" in text
    assert re.search(r"cuda: (the installed ONNX Runtime was built without it|.*better|.*loaded)", text)


def test_info_speaks_json(capsys):
    main(["info", "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert facts["computes"]["with"] == "cpu fp32" and facts["computes"]["threads"] >= 1
    assert "coreml" in facts["computes"]["not_with"]
    assert facts["timing"]["lookahead_ms"] == [13.4, 80.0, 313.4]
    assert set(facts["files"]) == {"model.onnx", "rig.npz", "avatar.glb"}


def test_info_refuses_a_broken_bundle(capsys, tmp_path):
    broken = fakes.write_bundle(tmp_path / "broken")
    (broken / "rig.npz").write_bytes(b"")
    line, code = refused(capsys, "info", "--bundle", str(broken))
    assert "rig.npz does not match its sha256" in line and code == 4
