"""Rebuilding speech with phone times: what engines say becomes ARPABET, doubtful times are rejected, a
stopped run goes on, and a few seconds are really built with the engines that are quick to install."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import tomllib
from pathlib import Path

import numpy as np
import pytest
import soundfile

from model.align import RATE_HZ, Aligner, fill_silences, spoken_words
from model.corpus import packages
from model.corpus.__main__ import main
from model.corpus.engines import ENGINES, WORDNET_PACKAGE
from model.corpus.espeak import with_closures
from model.corpus.flite import Flite, read_ends
from model.corpus.folder import CannotWrite, CorpusFolder
from model.corpus.packages import Pip
from model.corpus.phones import from_allophones, from_characters, from_ipa, why_doubtful
from model.corpus.sentences import WORDNET, NoSentences, dealt, read_sentences
from model.corpus.utterance import Rejected, Utterance, make_utterance, to_corpus_audio
from model.speech import PHONES, is_held_out, read_corpus

ROOT = Path(__file__).resolve().parents[1]
QUICK = ("flite", "espeak", "hibari")
SEED, MINUTES = 0, 0.3


def need(*engines: str) -> None:
    """Where an engine is not installed the test is skipped, but in CI, which installs the quick ones."""
    wanted = [package for name in engines for package in ENGINES[name].packages]
    lacking = packages.missing([*wanted, WORDNET_PACKAGE])
    if lacking:
        reason = f"not installed: {', '.join(package.name for package in lacking)}"
        if os.environ.get("CI") == "true" and set(engines) <= set(QUICK):
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of a few seconds from each quick engine, made by the command itself."""
    need(*QUICK)
    out = tmp_path_factory.mktemp("corpus") / "speech"
    assert main(command(out, workers=2)) == 0
    return out


@pytest.fixture(scope="module")
def aligner() -> Aligner:
    need("hibari")
    return Aligner()


def command(out: Path, workers: int) -> list[str]:
    return [
        str(out),
        *("--engines", ",".join(QUICK), "--minutes", str(MINUTES)),
        *("--workers", str(workers), "--seed", str(SEED)),
    ]


def names(phones: list[tuple[str, float, float]]) -> str:
    return " ".join(name for name, _, _ in phones)


# What engines say, in ARPABET


def test_allophones_become_arpabet_and_pauses_are_left_out() -> None:
    tokens = read_ends("pau:0.1 b:0.2 ah:0.3 dx:0.32 axr:0.4 el:0.6 pau:0.9")
    assert names(from_allophones(tokens)) == "B AH T ER AH L"
    assert from_allophones(tokens)[-1] == ("L", pytest.approx(0.5), pytest.approx(0.6))


@pytest.mark.parametrize(
    ("symbol", "arpabet"),
    [
        ("ˈɔːɹ", "AO R"),
        ("tʃ", "CH"),
        ("ˈaɪə", "AY AH"),
        ("əl", "AH L"),
        ("ʌɹ", "ER"),
        ("ˌəʊ", "OW"),
        ("", ""),
    ],
)
def test_a_symbol_of_the_ipa_becomes_its_sounds(symbol: str, arpabet: str) -> None:
    phones = from_ipa((symbol, 1.0, 1.3))
    assert names(phones) == arpabet
    if phones:
        assert (phones[0][1], phones[-1][2]) == (pytest.approx(1.0), pytest.approx(1.3))


@pytest.mark.parametrize(
    ("word", "arpabet"),
    [
        ("klˌɛɹənˈɛt", "K L EH R AH N EH T"),
        ("bˈɜɹd", "B ER D"),
        ("wˈɜɹi", "W ER IY"),
        ("lˈAəɹ", "L EY ER"),
        ("sˈɛpəɹət", "S EH P AH R AH T"),
        ("dɹˈɔɪŋ", "D R AO IH NG"),  # two sounds, not the diphthong that they would be in one symbol
    ],
)
def test_a_word_of_characters_becomes_its_sounds(word: str, arpabet: str) -> None:
    assert names(from_characters([(letter, 0.0, 1.0) for letter in word])) == arpabet


def test_a_stress_mark_shares_its_time_between_its_neighbours() -> None:
    tokens = [("b", 0.0, 0.1), ("ˈ", 0.1, 0.2), ("i", 0.2, 0.3), ("ː", 0.3, 0.4), ("t", 0.4, 0.5)]
    assert from_characters(tokens) == [("B", 0.0, pytest.approx(0.15)), ("IY", pytest.approx(0.15), 0.4)] + [
        ("T", 0.4, 0.5)
    ]


# Silences and closures


def test_gaps_become_silences_and_what_is_shorter_than_one_belongs_to_the_phone_before() -> None:
    phones = [("B", 0.3, 0.4), ("IY", 0.41, 0.5), ("T", 0.6, 0.7)]
    assert fill_silences(phones, 0.9) == [
        ("SIL", 0.0, 0.3),
        ("B", 0.3, 0.41),
        ("IY", 0.41, 0.5),
        ("SIL", 0.5, 0.6),
        ("T", 0.6, 0.7),
        ("SIL", 0.7, 0.9),
    ]


def test_overlaps_are_cut_and_the_ends_are_met() -> None:
    phones = [("B", 0.01, 0.2), ("IY", 0.15, 0.4), ("AH", 0.2, 0.3), ("T", 0.4, 0.49)]
    assert fill_silences(phones, 0.5) == [("B", 0.0, 0.2), ("IY", 0.2, 0.4), ("T", 0.4, 0.5)]
    assert fill_silences([], 0.5) == [("SIL", 0.0, 0.5)]


def test_a_voiceless_stop_begins_with_its_silent_closure() -> None:
    audio = np.full(1000, 0.1, np.float32)  # at 1 kHz
    audio[240:300] = 0.001
    phones = [("AA", 0.1, 0.3), ("P", 0.3, 0.4), ("AA", 0.4, 0.6), ("K", 0.6, 0.7)]
    assert with_closures(phones, audio, 1000) == [
        ("AA", 0.1, pytest.approx(0.24)),
        ("P", pytest.approx(0.24), 0.4),
        *phones[2:],  # nothing was silent before this K
    ]


def test_a_closure_is_never_longer_than_100_ms_and_leaves_the_phone_before_20() -> None:
    silent = np.zeros(1000, np.float32)
    (stop,) = with_closures([("T", 0.5, 0.6)], silent, 1000)
    assert stop[1] == pytest.approx(0.4)
    before, stop = with_closures([("S", 0.45, 0.5), ("T", 0.5, 0.6)], silent, 1000)
    assert before[2] == stop[1] == pytest.approx(0.47)
    assert with_closures([("D", 0.5, 0.6)], silent, 1000) == [("D", 0.5, 0.6)]


# Doubt


def steady(*shifts_ms: float) -> list[tuple[str, float, float]]:
    """Phones of 100 ms, each begun so many milliseconds late."""
    return [("AH", 0.1 * n + late / 1000, 0.1 * (n + 1)) for n, late in enumerate(shifts_ms)]


def test_times_that_two_witnesses_agree_on_are_believed() -> None:
    assert why_doubtful(steady(0, 0, 0, 0, 0), steady(29, 29, 29, 29, 249)) == ""


@pytest.mark.parametrize(
    ("phones", "by_engine", "reason"),
    [
        (steady(0, 0, 0), steady(0, 31, 31), "the median boundary is 31 ms from the engine's"),
        (steady(0, 0, 0), steady(0, 0, -260), "a boundary is 260 ms from the engine's"),
        ([("AH", 0.0, 0.46), ("SIL", 0.46, 2.0)], None, "AH lasts 460 ms"),
        ([("SIL", 0.0, 2.0)], None, "nothing was said"),
        (steady(0, 0), [("AH", 0.0, 0.1), ("B", 0.1, 0.2)], "the engine spoke other phones"),
    ],
)
def test_doubtful_times_are_rejected_with_the_reason(phones, by_engine, reason) -> None:
    assert why_doubtful(phones, by_engine) == reason


# Sentences


def write_wordnet(folder: Path, *glosses: str) -> Path:
    for part in ("noun", "verb", "adj", "adv"):
        (folder / f"data.{part}").write_text('  1 This software is "licensed to you as it is here" | \n')
    lines = [f"0000 03 n 01 word 0 000 | {gloss}\n" for gloss in glosses]
    with (folder / "data.noun").open("a") as file:
        file.writelines(lines)
    return folder


def test_examples_become_sentences_and_what_is_not_read_as_written_is_left_out(tmp_path: Path) -> None:
    wordnet = write_wordnet(
        tmp_path,
        'a thing; "he put the thing on the table"; "was it a thing at all?"',
        '"too few words"; "the NATO thing was on the table"; "Mr. Thing was at the table today"',
        '"it cost 300 dollars and more"; "he put the thing on the table"; "so it goes and goes -- anon"',
    )
    assert sorted(read_sentences(wordnet, 0)) == ["He put the thing on the table.", "Was it a thing at all?"]


def test_a_folder_that_is_not_wordnet_is_named(tmp_path: Path) -> None:
    with pytest.raises(NoSentences, match="--wordnet"):
        read_sentences(tmp_path, 0)
    with pytest.raises(NoSentences, match="no example sentences"):
        read_sentences(write_wordnet(tmp_path), 0)


def test_no_two_engines_are_dealt_the_same_sentence() -> None:
    sentences = [f"sentence {n}" for n in range(103)]
    hands = [{dealt(sentences, place, 5, number) for number in range(60)} for place in range(5)]
    assert len(set().union(*hands)) == 103 == sum(map(len, hands))
    assert dealt(sentences, 4, 5, 20) == dealt(sentences, 4, 5, 0)  # its own again, when all are read


# The folder


def spoken(seconds: float) -> Utterance:
    return Utterance({"engine": "flite", "voice": "slt", "duration_s": seconds, "phones": []}, b"OggS")


def test_a_line_torn_by_a_kill_was_never_written(tmp_path: Path) -> None:
    folder = CorpusFolder(tmp_path, SEED)
    folder.made_with("flite", ["flite 2.2 (Debian)"])
    folder.keep("flite", 1, spoken(1.5))
    folder.reject("flite", 2, Rejected("text", "slt", "nothing was said"))
    folder.keep("flite", 3, spoken(2.5))
    whole = (tmp_path / "flite.jsonl").read_bytes()
    (tmp_path / "flite.jsonl").write_bytes(whole[:-7])
    done = CorpusFolder(tmp_path, SEED).done("flite")
    assert (done.kept, done.rejected, done.seconds) == ({1}, {2}, 1.5)
    assert not done.has(3)
    folder.keep("flite", 3, spoken(2.5))
    assert (tmp_path / "flite.jsonl").read_bytes() == whole


def test_the_rejected_are_not_lines_of_the_corpus(tmp_path: Path) -> None:
    folder = CorpusFolder(tmp_path, SEED)
    folder.keep("flite", 1, spoken(1.5))
    folder.reject("flite", 2, Rejected("text", "slt", "nothing was said"))
    assert [line["audio"] for line in read_corpus(tmp_path)] == ["flite_00001.ogg"]


def test_a_folder_of_another_seed_or_another_maker_is_left_alone(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    CorpusFolder(ours, 1).made_with("flite", ["flite 2.2 (Debian)"])
    with pytest.raises(CannotWrite, match="was begun with --seed 1"):
        CorpusFolder(ours, 2)
    theirs.mkdir()
    (theirs / "f.jsonl").write_text("{}\n")
    with pytest.raises(CannotWrite, match="name another folder"):
        CorpusFolder(theirs, 1)


def test_one_run_at_a_time_writes_into_a_folder(tmp_path: Path) -> None:
    folder = CorpusFolder(tmp_path, SEED)
    with (
        folder.locked(),
        pytest.raises(CannotWrite, match="another run"),
        CorpusFolder(tmp_path, SEED).locked(),
    ):
        pytest.fail("two runs hold the folder")
    with folder.locked():
        pass  # free again


# The packages


def test_what_is_missing_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main([str(tmp_path / "out"), "--engines", "flite,kokoro"]) == 2
    said = capsys.readouterr().err
    assert "apt-get install --yes --no-install-recommends flite" in said
    assert "npm pack kokoro-js@1.2.1" in said
    assert not (tmp_path / "out").exists()


def test_a_client_that_is_not_there_is_said(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(packages.NotInstalled, match="apt-get is not on this machine|sudo is not on"):
        packages.install([packages.Debian("flite", "flite")])


def test_the_pins_are_those_of_the_project_and_of_its_lock_files() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    pinned = dict(re.findall(r"^([\w-]+)==(.+)$", "\n".join(sum(extras.values(), [])), re.M))
    alone = (ROOT / "requirements" / "without-dependencies.in").read_text()
    pinned |= dict(re.findall(r"^([\w-]+)==(\S+)$", alone, re.M))
    pips = {p.name: p.version for recipe in ENGINES.values() for p in recipe.packages if isinstance(p, Pip)}
    shared = pips.keys() & pinned.keys()
    assert {"pocketsphinx", "espeakng-loader", "hibari-tts", "onnx", "onnxruntime"} <= shared
    assert {name: pips[name] for name in shared} == {name: pinned[name] for name in shared}


def test_wrong_arguments_are_explained(capsys) -> None:
    for arguments, reason in (
        (["out", "--engines", "flite,siri"], "no such engine"),
        (["out", "--minutes", "0"], "must be more than 0"),
        (["out", "--workers", "two"], "invalid number"),
    ):
        with pytest.raises(SystemExit):
            main(arguments)
        assert reason in capsys.readouterr().err


# Really built


def test_a_built_corpus_is_read_by_training_and_holds_every_engine(built: Path) -> None:
    lines = read_corpus(built)
    assert {line["engine"] for line in lines} == set(QUICK)
    for engine in QUICK:
        assert sum(line["duration_s"] for line in lines if line["engine"] == engine) >= MINUTES * 60 / 3
    assert len({line["text"] for line in lines}) == len(lines)
    readme = (built / "README.md").read_text()
    assert all(f"| {engine} |" in readme for engine in QUICK)
    assert "hibari-tts 0.2.1 (PyPI)" in readme


def test_every_line_fits_its_audio_and_its_phones_follow_one_another(built: Path) -> None:
    for line in read_corpus(built):
        audio, rate = soundfile.read(built / line["audio"], dtype="float32")
        assert (rate, audio.ndim) == (RATE_HZ, 1)
        assert line["duration_s"] == pytest.approx(len(audio) / rate, abs=1e-3)
        phones = line["phones"]
        assert phones[0][1] == 0 and phones[-1][2] == pytest.approx(line["duration_s"], abs=1e-3)
        for (_, _, end), (_, start, _) in zip(phones, phones[1:], strict=False):
            assert start == end
        assert all(name in PHONES and end > start for name, start, end in phones)
        assert max(end - start for name, start, end in phones if name != "SIL") <= 0.45


@pytest.mark.parametrize("engine", QUICK)
def test_vowels_sound_and_silences_do_not(built: Path, engine: str) -> None:
    """Times and audio belong together."""
    open_vowels, silences = [], []
    for line in read_corpus(built):
        audio, _ = soundfile.read(built / line["audio"])
        for name, start, end in line["phones"]:
            middle = audio[
                round((0.7 * start + 0.3 * end) * RATE_HZ) : round((0.3 * start + 0.7 * end) * RATE_HZ)
            ]
            heard = {
                "AA": open_vowels,
                "AE": open_vowels,
                "AY": open_vowels,
                "EH": open_vowels,
                "SIL": silences,
            }
            if line["engine"] == engine and name in heard:
                heard[name].append(float(np.sqrt(np.mean(middle**2))))
    assert np.median(open_vowels) > 20 * np.median(silences)


def test_a_run_that_was_killed_goes_on_to_what_an_undisturbed_one_makes(built: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(built, again)
    lines = (again / "flite.jsonl").read_bytes().splitlines(keepends=True)
    (again / "flite.jsonl").write_bytes(b"".join(lines[:-2]) + lines[-2][:40])
    for line in lines[-2:]:
        (again / json.loads(line)["audio"]).unlink()
    (again / "espeak.jsonl").unlink()
    untouched = (again / "hibari.jsonl").stat().st_mtime_ns
    assert main(command(again, workers=1)) == 0
    assert (again / "hibari.jsonl").stat().st_mtime_ns == untouched
    for made, undisturbed in zip(read_corpus(again), read_corpus(built), strict=True):
        if made["engine"] == "espeak":  # its wave goes on from one utterance to the next
            assert made["text"] == undisturbed["text"]
            assert made["duration_s"] == pytest.approx(undisturbed["duration_s"], abs=2e-3)
        else:
            assert made == undisturbed
            audio, _ = soundfile.read(again / made["audio"])
            assert np.array_equal(audio, soundfile.read(built / made["audio"])[0])


def test_ctrl_c_keeps_what_was_made_and_says_how_to_go_on(tmp_path, monkeypatch, capsys) -> None:
    need("flite")
    keep = CorpusFolder.keep

    def keep_and_interrupt(self: CorpusFolder, engine: str, number: int, utterance: Utterance) -> None:
        keep(self, engine, number, utterance)
        if number == 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(CorpusFolder, "keep", keep_and_interrupt)
    out = tmp_path / "out"
    assert main([str(out), "--engines", "flite", "--minutes", "5", "--workers", "1"]) == 130
    assert "the same command goes on from there" in capsys.readouterr().err
    assert [line["audio"] for line in read_corpus(out)] == ["flite_00001.ogg", "flite_00002.ogg"]
    assert "| flite | 2 |" in (out / "README.md").read_text()


def test_an_utterance_is_the_same_whatever_was_made_before(aligner: Aligner) -> None:
    engine = ENGINES["hibari"].load()
    text = "She put the kettle on the fire."
    first = make_utterance("hibari", engine, aligner, text, SEED, 7)
    make_utterance("hibari", engine, aligner, "Another sentence comes between them.", SEED, 8)
    second = make_utterance("hibari", engine, aligner, text, SEED, 7)
    assert isinstance(first, Utterance) and isinstance(second, Utterance)
    assert first.line == second.line


def test_held_out_voices_are_named_in_every_mixture_they_are_part_of(aligner: Aligner) -> None:
    """Kokoro mixes voices: whoever holds one out must be able to hold out its mixtures."""
    need("kokoro")
    engine = ENGINES["kokoro"].load()
    voices = [engine.draw(random.Random(n))[0] for n in range(400)]
    assert any("*" in voice and is_held_out(voice) for voice in voices)
    assert all(re.fullmatch(r"(?:0\.\d\d\*)?[ab][fm]_\w+(?:\+0\.\d\d\*[ab][fm]_\w+)?", v) for v in voices)
    made = make_utterance("kokoro", engine, aligner, "She put the kettle on.", SEED, 1)
    assert isinstance(made, Utterance) and made.line["duration_s"] > 0.5


# Alignment


def test_alignment_finds_the_times_that_flite_knows(aligner: Aligner) -> None:
    need("flite")
    apart = []
    for voice in ("slt", "awb"):
        speech = Flite().speak("Tom put the kettle on the fire before breakfast.", voice, 1.0)
        exact = speech.phones()
        words = [("", [name for name, _, _ in exact[at : at + 4]]) for at in range(0, len(exact), 4)]
        found = aligner.align(to_corpus_audio(speech), words)
        assert found is not None
        found = [phone for phone in found if phone[0] != "SIL"]
        assert names(found) == names(exact)
        apart += [ours[1] - theirs[1] for ours, theirs in zip(found, exact, strict=True)]
    assert np.median(np.abs(apart)) <= 0.012
    assert abs(np.median(apart)) <= 0.008


def test_plain_words_are_aligned_by_the_dictionary_and_unknown_ones_are_named(aligner: Aligner) -> None:
    need("flite")
    audio = to_corpus_audio(Flite().speak("Tom put the kettle on the fire.", "slt", 1.0))
    phones, why = aligner.align_text(audio, "Tom put the kettle on the fire.")
    assert phones is not None and why == ""
    assert names(phones).replace("SIL ", "").startswith("T AA M P UH T DH")
    assert (phones[0][1], phones[-1][2]) == (0.0, pytest.approx(len(audio) / RATE_HZ, abs=1e-4))
    assert aligner.align_text(audio, "Tom zzgrk") == (None, "the dictionary does not know zzgrk")
    assert aligner.align_text(audio, "...") == (None, "there are no words in it")
    assert spoken_words("It's 'fine'-tuned!") == ["it's", "fine", "tuned"]


def test_what_cannot_have_been_said_is_not_aligned(aligner: Aligner) -> None:
    assert aligner.align(np.zeros(1600, np.float32), [("", ["P", "AA", "T"] * 20)]) is None
    assert aligner.align(np.zeros(1600, np.float32), []) is None
    with pytest.raises(ValueError, match="QQ is not all ARPABET"):
        aligner.align(np.zeros(1600, np.float32), [("", ["QQ"])])


def test_wordnet_has_the_sentences_that_are_promised() -> None:
    need()
    sentences = read_sentences(WORDNET, SEED)
    assert len(sentences) > 25_000
    assert sentences != read_sentences(WORDNET, SEED + 1)
