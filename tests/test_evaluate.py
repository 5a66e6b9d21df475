"""The evaluation: what it does to sound, whom it hears, what it concludes, and that it can be stopped."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from model import aims, conditions, evaluate, human_speech, lessons, lip_reading
from model.align import Aligner, spoken_words
from model.human_speech import SPEAKERS, Recording, RecordingsMissing
from model.measures import Face, Phone
from model.options import OptionError
from streamer.engine.bundle import Bundle

F32 = npt.NDArray[np.float32]
SAMPLE = Path(__file__).resolve().parents[1] / "clients" / "web" / "sample.wav"
SPOKEN = "we are prepared today because of groundwork that was done ten years ago"


def sample() -> F32:
    return np.asarray(soundfile.read(SAMPLE, dtype="float32")[0], np.float32)


def tone(hz: float, seconds: float = 1.0) -> F32:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(int(16_000 * seconds)) / 16_000)).astype(np.float32)


def write_g722(path: Path, audio: F32) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="g722") as container:
        stream = container.add_stream("g722", rate=16_000, layout="mono")
        pcm = np.rint(audio * 32767).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(pcm, format="s16", layout="mono")
        frame.sample_rate = 16_000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)


# ---- what lies between a mouth and the server ----


def test_every_recording_peaks_at_a_quarter_so_that_12_db_more_do_not_clip() -> None:
    assert np.abs(conditions.clean(sample())).max() == pytest.approx(0.25)
    assert 0.99 < np.abs(conditions.loud(sample())).max() < 1
    assert np.abs(conditions.quiet(sample())).max() == pytest.approx(0.25 / 10**0.6, rel=1e-3)
    assert not conditions.clean(np.zeros(100, np.float32)).any()


def test_the_noise_lies_10_db_under_the_speech_and_belongs_to_the_recording() -> None:
    speech = conditions.clean(sample())
    added = conditions.noise(sample(), "a") - speech
    below = 10 * np.log10(conditions.speech_power(speech) / np.mean(added.astype(np.float64) ** 2))
    assert below == pytest.approx(10, abs=0.01)
    np.testing.assert_array_equal(added, conditions.noise(sample(), "a") - speech)
    assert np.abs(added - (conditions.noise(sample(), "b") - speech)).max() > 0.01


def test_pauses_do_not_make_the_speech_seem_quieter() -> None:
    with_pause = np.concatenate([sample(), np.zeros(64_000, np.float32)])
    assert conditions.speech_power(with_pause) == pytest.approx(conditions.speech_power(sample()), rel=0.02)


@pytest.mark.parametrize(("hz", "least_db", "most_db"), [(100, -150, -30), (1000, -1, 1), (6500, -150, -30)])
def test_a_telephone_passes_its_band_alone(hz: float, least_db: float, most_db: float) -> None:
    heard = conditions.telephone(tone(hz))[4000:-4000]
    kept = 20 * np.log10(heard.std() / conditions.clean(tone(hz)).std())
    assert least_db < kept < most_db


def test_a_telephone_does_not_delay_the_sound() -> None:
    click = np.zeros(4001, np.float32)
    click[2000] = 1
    heard = conditions.telephone(click)
    assert np.abs(heard).argmax() == 2000
    np.testing.assert_allclose(heard, heard[::-1], atol=1e-5)


# ---- the reserved recordings ----


def test_g722_is_read_as_16_khz_sound(tmp_path: Path) -> None:
    write_g722(tmp_path / "tone.g722", tone(440))
    heard = human_speech.read_g722(tmp_path / "tone.g722")
    assert heard.dtype == np.float32 and len(heard) == pytest.approx(16_000, abs=400)
    spectrum = np.abs(np.fft.rfft(heard[:15_000]))
    assert np.argmax(spectrum) * 16_000 / 15_000 == pytest.approx(440, abs=2)
    assert heard[1000:].std() == pytest.approx(tone(440).std(), rel=0.05)


def test_every_word_of_the_transcripts_has_a_pronunciation() -> None:
    script = json.loads(human_speech.TRANSCRIPTS.read_text())
    assert len(script["prompts"]) == 366 and "CC-BY-SA" in script["origin"]
    aligner = Aligner()
    aligner.learn(script["pronunciations"])
    words = {word for text in script["prompts"].values() for word in spoken_words(text)}
    assert not [word for word in words if aligner._decoder.lookup_word(word) is None]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without the packages."""
    monkeypatch.setattr(human_speech, "INSTALLED", Path("/usr/share/asterisk/sounds-that-are-not-there"))
    return tmp_path


def test_without_apt_the_reader_is_told_what_to_install(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(elsewhere))
    with pytest.raises(RecordingsMissing, match="sudo apt-get install asterisk-core-sounds-fr-g722"):
        human_speech.fetch("french", elsewhere / "cache")


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="there is no dpkg here")
def test_a_package_is_downloaded_and_unpacked_below_the_cache_and_then_found_there(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root, speaker = elsewhere / "package", SPEAKERS["italian"]
    sounds = root / human_speech.INSTALLED.relative_to("/") / speaker.folder
    write_g722(sounds / "hello.g722", tone(300))
    (root / "DEBIAN").mkdir()
    about = f"Package: {speaker.package}\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\n"
    (root / "DEBIAN" / "control").write_text(about + "Description: x\n")
    deb = elsewhere / "made.deb"
    subprocess.run(["dpkg-deb", "--build", root, deb], check=True, capture_output=True)
    apt = elsewhere / "bin" / "apt-get"
    apt.parent.mkdir()
    apt.write_text(f'#!/bin/sh\n[ "$1 $2" = "download {speaker.package}" ] && cp {deb} .\n')
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", f"{apt.parent}{os.pathsep}{os.environ['PATH']}")
    folder = human_speech.fetch("italian", elsewhere / "cache")
    assert [file.name for file in folder.iterdir()] == ["hello.g722"]
    assert list(folder.parent.iterdir()) == [folder]
    assert "fetching" in capsys.readouterr().out
    apt.unlink()
    assert human_speech.fetch("italian", elsewhere / "cache") == folder


def test_prompts_are_aligned_once_and_read_again(tmp_path: Path) -> None:
    first = human_speech.aligned({"a": sample()}, {"a": SPOKEN}, {}, tmp_path)["a"]
    start, stop = next((s, e) for p, s, e in first if p == "P")
    assert start < 0.52 < stop  # the p of "prepared"
    (kept,) = tmp_path.glob("phones-*.json")
    written = kept.stat().st_mtime_ns
    assert human_speech.aligned({"a": sample()}, {"a": SPOKEN}, {}, tmp_path)["a"] == first
    assert kept.stat().st_mtime_ns == written


# ---- what is concluded ----


def face() -> Face:
    bundle = Bundle.load()
    with np.load(bundle.folder / bundle.manifest.rig.file, allow_pickle=False) as rig:
        return Face(rig)


def said() -> tuple[Recording, F32]:
    """A made-up utterance and its idealised curves."""
    names = ["SIL", "P", "AA", "F", "UW", "SIL", "M", "IY", "T", "AE", "B", "OW", "S", "AA", "V", "SIL"]
    phones: list[Phone] = []
    for name in names:
        start = phones[-1][2] if phones else 0.0
        phones.append((name, start, start + (0.6 if name == "SIL" else 0.12)))
    audio = 0.1 * np.random.default_rng(0).standard_normal(int(16_000 * phones[-1][2])).astype(np.float32)
    for name, start, end in phones:
        if name == "SIL":
            audio[int(16_000 * start) : int(16_000 * end)] *= 0.001
    return Recording("said", audio, phones), lessons.taught(phones, audio)


def test_perfect_curves_are_perfect() -> None:
    recording, ideal = said()
    found = lip_reading.with_words(face(), [recording], [ideal], [ideal], 2, 30)
    assert found["closure_auc"] == found["labiodental_auc"] == found["closure_recall"] == 1
    assert found["opening_auc"] > 0.95 and found["rounding_auc"] > 0.9
    assert found["opening_r"] == found["jitter_ratio"] == 1
    assert found["lve_mm2"] == found["mtm_ms"] == found["fdd_mm"] == 0
    assert found["lag_ms"] == pytest.approx(0, abs=2)
    assert found["settled_p95_percent"] < 1 and found["pause_p95_percent"] > 3  # the next word is prepared


def test_a_late_face_is_late_and_loses_what_it_is_late_for() -> None:
    recording, ideal = said()
    late = np.roll(ideal, 3, axis=0)
    found = lip_reading.with_words(face(), [recording], [late], [ideal], 2, 30)
    assert found["lag_ms"] == pytest.approx(100, abs=10)
    assert found["mtm_ms"] == pytest.approx(100, abs=25)
    assert found["closure_auc"] < 0.9 and found["lve_mm2"] > 1


def test_a_mouth_that_stays_open_in_pauses_is_found_with_words_and_without() -> None:
    recording, ideal = said()
    ajar = ideal.copy()
    jaw = evaluate.CHANNELS.index("jawOpen")
    ajar[:, jaw] = np.maximum(ajar[:, jaw], 0.1)
    rest, opened = (
        lip_reading.with_words(face(), [recording], [motion], [ideal], 2, 30)["settled_mean_percent"]
        for motion in (ideal, ajar)
    )
    assert opened > rest + 5
    rest, opened = (
        lip_reading.without_words(face(), [recording], [motion], 2, 30)["settled_mean_percent"]
        for motion in (ideal, ajar)
    )
    assert opened > rest + 5


def test_without_words_closures_are_counted_and_pauses_are_not() -> None:
    recording, ideal = said()
    chewing = np.zeros_like(ideal)
    chewing[:, evaluate.CHANNELS.index("jawOpen")] = 0.3
    pauses = [(s, e) for p, s, e in recording.phones if p == "SIL"]
    within = [int(30 * (end + 0.24)) for _, end in pauses[:-1]]  # a dip in each stretch of speech
    for frame in [*within, int(30 * (pauses[1][0] + 0.3))]:  # and one in a pause
        chewing[frame] = 0
    found = lip_reading.without_words(face(), [recording], [chewing], 2, 30)
    assert found["closures_per_s"] == pytest.approx(len(within) / (12 * 0.12), rel=0.15)
    assert found["seconds"] == pytest.approx(recording.seconds, abs=0.01)


def test_an_aim_is_met_within_its_bound_and_by_nothing_that_was_not_measured() -> None:
    assert aims.at_least(0.98).holds(0.98) and not aims.at_least(0.98).holds(0.9799)
    assert aims.at_most(3).holds(3) and not aims.at_most(3).holds(3.01)
    assert aims.within(10).holds(-10) and not aims.within(10).holds(10.1)
    assert aims.within(0.15, 1).holds(0.85) and not aims.within(0.15, 1).holds(1.2)
    assert (
        aims.factor(1.3).holds(0.78) and not aims.factor(1.3).holds(0.76) and not aims.factor(1.3).holds(1.4)
    )
    assert not aims.Verdict(aims.ENGLISH[0], None).met


def test_a_condition_costs_what_the_contrast_that_suffers_most_loses() -> None:
    clean = dict.fromkeys(aims.AUCS, 0.9)
    noisy = clean | {"rounding_auc": 0.8, "opening_auc": 0.95}
    facts = {"english": {"conditions": {"clean": clean, "noise": noisy}, "ideal": {}}}
    row = aims.english(facts)[-1]
    assert row.reached == pytest.approx(0.1) and not row.met and "noise" in row.aim.title
    assert aims.english({}) == []


def test_another_language_is_compared_with_english_measured_the_same_way() -> None:
    english = {"lag_ms": 5.0, "jitter_mm": 2.0, "seam_ratio": 1.0, "closures_per_s": 2.0}
    french = {"lag_ms": -25.0, "jitter_mm": 2.2, "seam_ratio": 1.0, "closures_per_s": 1.0}
    rows = {
        row.aim.key: row
        for row in aims.languages({"languages": {"english": english, "french": french}})["french"]
    }
    assert not rows["lag_ms"].met
    assert rows["jitter_mm"].reached == pytest.approx(1.1) and rows["jitter_mm"].met
    assert rows["closures_per_s"].reached == pytest.approx(0.5) and not rows["closures_per_s"].met
    assert aims.languages({"languages": {"french": french}}) == {}


# ---- the command ----


@pytest.fixture
def small(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two seconds of every language and one held-out utterance, where the reserved recordings would be."""
    audio = sample()
    for speaker in SPEAKERS.values():
        write_g722(elsewhere / "cache" / "recordings" / speaker.folder / "one.g722", audio)
    script = elsewhere / "script.json"
    script.write_text(json.dumps({"prompts": {"one": SPOKEN}, "pronunciations": {}}))
    monkeypatch.setattr(human_speech, "TRANSCRIPTS", script)
    monkeypatch.setattr(evaluate, "SILENCE_S", 2)
    monkeypatch.setattr(evaluate, "SILENT_SEEDS", 2)
    monkeypatch.setattr(evaluate, "SAMPLE_SEEDS", 2)
    corpus = elsewhere / "corpus"
    corpus.mkdir()
    soundfile.write(corpus / "one.wav", audio, 16_000)
    phones = Aligner().align_text(audio, SPOKEN)[0]
    line: dict[str, Any] = {"audio": "one.wav", "voice": "bm_daniel", "phones": phones}
    (corpus / "lines.jsonl").write_text(json.dumps(line) + "\n")
    return elsewhere


def run(folder: Path, *more: str) -> dict[str, Any]:
    words = ["--cache", str(folder / "cache"), "--json", str(folder / "lips.json"), "--threads", "1", *more]
    assert evaluate.main(words) == 0
    report: dict[str, Any] = json.loads((folder / "lips.json").read_text())
    return report


@pytest.mark.slow
def test_a_whole_evaluation_in_the_small(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    voices = run(small, "--sets", "voices,idle", "--corpus", str(small / "corpus"))
    assert voices["voices"]["clean"]["closure_auc"] > 0.8 and voices["voices"]["clean"]["opening_r"] > 0.7
    assert voices["idle"]["silence_gap_mm"] < 1.5 and voices["idle"]["diversity_mm"] > 0

    report = run(small, "--sets", "english,languages", "--conditions", "clean,noise", "--lookahead-ms", "0")
    assert report["voices"] == voices["voices"]  # what was measured before still holds
    english = report["english"]
    assert english["speech"]["recordings"] == 1 and english["speech"]["phones"] > 30
    assert english["ideal"]["closure_auc"] >= english["conditions"]["clean"]["closure_auc"] > 0.8
    assert english["conditions"]["clean"]["offline_online_mm2"] > 0
    assert english["conditions"]["noise"] != english["conditions"]["clean"]
    assert english["lookaheads"]["0"]["ms"] == pytest.approx(13.4, abs=0.1)
    languages = report["languages"]
    assert set(languages) == {"english", *human_speech.WORDLESS}
    assert (
        languages["french"]["closures_per_s"] == languages["english"]["closures_per_s"]
    )  # the same sound here
    assert report["bundle"]["parameters"] > 1e6 and report["commit"]
    assert "human English" in capsys.readouterr().out

    # Stopped in the middle of an animation, it goes on: only what is missing is animated again.
    motions = sorted((small / "cache").rglob("*.npy"))
    times = {file: file.stat().st_mtime_ns for file in motions}
    lost = next(file for file in motions if "noise" in str(file))
    lost.unlink()
    again = run(small, "--sets", "english", "--conditions", "noise", "--lookahead-ms", "")
    assert again["english"] == english
    assert [file for file in motions if file.stat().st_mtime_ns != times[file]] == [lost]

    line = json.loads((small / "corpus" / "lines.jsonl").read_text())
    with pytest.raises(FileNotFoundError, match="no utterance of held-out actors"):
        run(small, "--sets", "actors", "--corpus", str(small / "corpus"))
    (small / "corpus" / "lines.jsonl").write_text(
        json.dumps({**line, "engine": "people", "voice": "drascula"})
    )
    actors = run(small, "--sets", "actors", "--corpus", str(small / "corpus"))["actors"]
    assert actors["clean"] == voices["voices"]["clean"] and actors["speech"] == voices["voices"]["speech"]

    other = run(small, "--sets", "idle", "--every", "2")
    assert "english" not in other and other["basis"]["every"] == 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--sets", "englsh"], "choose among english, languages, voices, actors, idle"),
        (["--conditions", "clean,rain"], "'rain': choose among"),
        (["--sets", "voices"], "The set voices needs a corpus: give --corpus"),
        (["--sets", "actors"], "The set actors needs a corpus: give --corpus"),
        (["--lookahead-ms", "soon"], "must be numbers"),
    ],
)
def test_what_is_asked_for_wrongly_is_said(words: list[str], sentence: str) -> None:
    with pytest.raises(OptionError, match=sentence):
        evaluate.main(words)
