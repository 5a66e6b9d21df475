"""People's recordings in a corpus: read out of their packages' formats, believed only where words and times
are sure, every one once in an order that the seed decides."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import chirp

from model.align import RATE_HZ, Aligner
from model.corpus import engines, production
from model.corpus.flite import Flite
from model.corpus.folder import CorpusFolder
from model.corpus.people import People, trimmed, why_loud, why_unsure
from model.corpus.production import Order
from model.corpus.recordings import F32, Recording, amazon_queen, drascula, warzone
from model.corpus.utterance import Rejected, Utterance
from model.speech import is_held_out
from tests.test_corpus import need

SAID = "The baby moved before we found a few vivid words."


@pytest.fixture(scope="module")
def aligner() -> Aligner:
    need("hibari")
    return Aligner()


@pytest.fixture(scope="module")
def spoken() -> F32:
    """Somebody who says a sentence, half a second of nothing around it, at the rate of a synthesiser."""
    need("flite")
    speech = Flite().speak(SAID, "rms", 1.0)
    assert speech.rate_hz == RATE_HZ
    return np.pad(np.asarray(speech.audio, np.float32), RATE_HZ // 2)


def tone(seconds: float, rate_hz: int) -> F32:
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    return np.asarray(0.5 * chirp(t, 200, seconds, 2000), np.float32)


def encoded(audio: F32, rate_hz: int, kind: str, subtype: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, audio, rate_hz, format=kind, subtype=subtype)
    return file.getvalue()


def heard(*probabilities: float, text: str = SAID):
    """Whisper, hearing this text; the last probability holds for all further words."""
    words = text.split()
    known = [*probabilities, *[probabilities[-1]] * len(words)]
    return lambda audio: [(f" {word}", known[at]) for at, word in enumerate(words)]


def test_speech_is_read_out_of_each_format(tmp_path: Path) -> None:
    mp3 = encoded(tone(1.0, 22_050), 22_050, "MP3", "MPEG_LAYER_III")
    entries = [(b"020001P2.SB", mp3), (b"1.PCX", b"a picture"), (b"60001EJ1.SB", mp3)]
    head = struct.pack(">4s6sBBBH", b"QTBL", b"CEM10", 0, 0, 1, len(entries))
    at, table = len(head) + 21 * len(entries), b""
    for name, content in entries:
        table += struct.pack(">12sBII", name, 1, at, len(content))
        at += len(content)
    queen = tmp_path / "queen.1c"
    queen.write_bytes(head + table + b"".join(content for _, content in entries))
    samples = np.rint(tone(1.0, 11_025) * 127 + 128).astype(np.uint8)
    for number in ("I9", "10"):
        (tmp_path / f"{number}.ALS").write_bytes(b"\x80" * 32 + samples.tobytes())
    ogg = encoded(np.stack([tone(1.0, 44_100)] * 2, axis=1), 44_100, "OGG", "VORBIS")
    with zipfile.ZipFile(tmp_path / "base.wz", "w") as archive:
        for name in ("audio/tutorial/tut1.ogg", "audio/sfx/bang.ogg", "sequenceaudio/np1.ogg", "wrf/x.txt"):
            archive.writestr(name, ogg)

    found = [*amazon_queen(queen), *drascula(tmp_path), *warzone(tmp_path / "base.wz")]
    assert [(one.voice, one.name) for one in found] == [
        ("amazon-queen", "020001P2"),
        ("amazon-queen", "60001EJ1"),
        ("drascula", "10"),
        ("drascula", "I9"),
        ("warzone", "audio/tutorial/tut1"),
        ("warzone", "sequenceaudio/np1"),
    ]
    for one in found:
        audio, rate = one.decode()
        assert audio.dtype == np.float32 and audio.ndim == 1 and len(audio) == pytest.approx(rate, rel=0.1)
        assert np.abs(audio).max() == pytest.approx(0.5, abs=0.1) and abs(float(audio.mean())) < 0.02
    with pytest.raises(ValueError, match="is not the data of Flight"):
        list(amazon_queen(tmp_path / "base.wz"))


def test_what_was_heard_becomes_an_utterance_with_the_times_of_its_phones(
    aligner: Aligner, spoken: F32
) -> None:
    people = People([Recording("drascula", "7", lambda: (spoken, RATE_HZ))], heard(0.9))
    made = people.utterance("people", aligner, 0, 1)
    assert isinstance(made, Utterance)
    line = made.line
    assert (line["voice"], line["recording"], line["text"]) == ("drascula", "7", SAID)
    assert is_held_out(str(line["voice"]))
    audio, _ = soundfile.read(io.BytesIO(made.ogg), dtype="float32")
    assert len(audio) / RATE_HZ == pytest.approx(float(str(line["duration_s"])), abs=1e-3)
    assert len(audio) < len(spoken) - RATE_HZ // 2  # the nothing around it is gone
    phones = line["phones"]
    assert isinstance(phones, list)
    assert phones[0][1] == 0 and phones[-1][2] == pytest.approx(len(audio) / RATE_HZ, abs=1e-3)
    assert all(one[2] == other[1] for one, other in zip(phones, phones[1:], strict=False))
    assert [p for p, _, _ in phones if p in ("B", "M", "F", "V")] == list("BBMVBFFFVV")


@pytest.mark.parametrize(
    ("transcribe", "reason"),
    [
        (lambda audio: [], "no words were heard"),
        (heard(0.5), "its words are not heard for sure"),
        (heard(1.0, 0.01, 1.0), "its words are not heard for sure"),
        (heard(0.9, text="He is 24 today."), "a number may be said in several ways"),
        (heard(0.9, text="A zzyzzx moved."), "the dictionary does not know zzyzzx"),
    ],
)
def test_what_is_not_sure_is_left_out_with_the_reason(
    aligner: Aligner, spoken: F32, transcribe, reason
) -> None:
    people = People([Recording("warzone", "7", lambda: (spoken, RATE_HZ))], transcribe)
    made = people.utterance("people", aligner, 0, 1)
    assert isinstance(made, Rejected) and made.reason == reason and made.voice == "warzone"


@pytest.mark.parametrize(
    ("audio", "reason"),
    [
        (np.zeros(RATE_HZ, np.float32), "the engine gave no sound"),
        (tone(0.3, RATE_HZ), "it lasts 0.3 s"),
        (tone(40.0, RATE_HZ), "it lasts 40.0 s"),
    ],
)
def test_what_is_no_sentence_is_not_listened_to(aligner: Aligner, audio: F32, reason: str) -> None:
    def never(audio: F32) -> list[tuple[str, float]]:
        raise AssertionError("it was listened to")

    made = People([Recording("warzone", "7", lambda: (audio, RATE_HZ))], never).utterance("p", aligner, 0, 1)
    assert isinstance(made, Rejected) and made.reason == reason


def test_loud_silences_are_not_believed() -> None:
    audio = np.concatenate([tone(1.0, RATE_HZ), np.zeros(RATE_HZ, np.float32)])
    assert why_loud(audio, [("AA", 0.0, 1.0), ("SIL", 1.0, 2.0)]) == ""
    assert why_loud(audio, [("SIL", 0.0, 1.0), ("AA", 1.0, 2.0)]) == "100% of its silences are loud"
    assert why_loud(audio, [("AA", 0.0, 2.0)]) == ""
    assert why_unsure([(" Yes.", 0.9)]) == ""
    assert len(trimmed(np.zeros(RATE_HZ, np.float32))) == 0
    assert len(trimmed(audio)) == pytest.approx(1.2 * RATE_HZ, rel=0.05)


def test_every_recording_is_taken_once_and_then_people_have_said_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []

    def make(engine: str, text: str, seed: int, number: int) -> Utterance | Rejected:
        assert text == ""
        taken.append(number)
        if number % 3 == 0:
            return Rejected("x", "warzone", "no words were heard")
        line = {"voice": "warzone", "duration_s": 1.0, "phones": [["SIL", 0.0, 1.0]]}
        return Utterance(line, encoded(tone(1.0, RATE_HZ), RATE_HZ, "OGG", "OPUS"))

    class Here:
        def submit(self, work, *arguments):
            made = work(*arguments)
            return type("Done", (), {"result": lambda self: made, "cancel": lambda self: None})()

    recipe = engines.ENGINES["people"]
    listed = [Recording("warzone", str(n), lambda: (tone(1.0, RATE_HZ), RATE_HZ)) for n in range(10)]
    shortened = engines.Recipe((), recipe.licence, recipe.times, recipe.load, True, lambda: listed)
    monkeypatch.setitem(production.ENGINES, "people", shortened)
    monkeypatch.setattr(production, "_make", make)
    folder = CorpusFolder(tmp_path, 0)
    order = Order(["people"], 3600.0, (), 0, 2)
    production._produce_engine(Here(), folder, order, "people", lambda *told: None)  # type: ignore[arg-type]
    assert taken == list(range(1, 11))
    assert len(folder.done("people").kept) == 7 and len(folder.done("people").rejected) == 3
    lines = [json.loads(line) for line in (tmp_path / "people.jsonl").read_text().splitlines()]
    assert [line["audio"] for line in lines][:2] == ["people_00001.ogg", "people_00002.ogg"]
    production._produce_engine(Here(), folder, order, "people", lambda *told: None)  # type: ignore[arg-type]
    assert len(taken) == 10


def test_the_order_of_recordings_is_the_seeds_and_every_beginning_is_a_sample_of_all(
    aligner: Aligner,
) -> None:
    silent = [Recording("v", str(n), lambda: (np.zeros(8, np.float32), RATE_HZ)) for n in range(200)]
    people = People(silent, lambda audio: [])

    def order(seed: int) -> list[str]:
        made = [people.utterance("people", aligner, seed, number) for number in range(1, 201)]
        return [one.text for one in made if isinstance(one, Rejected)]

    assert order(0) == order(0) != order(1)
    assert sorted(order(0)) == sorted(f"v/{n}" for n in range(200))
    assert 50 < np.mean([int(place[2:]) for place in order(0)[:60]]) < 150


def test_synthesisers_keep_their_sentences_and_people_are_dealt_none() -> None:
    assert engines.READERS == ["kokoro", "hibari", "flite", "festival", "espeak"]
