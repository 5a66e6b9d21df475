"""Looking at curves: sheets with a tile for every phone, films that play, and errors that say what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from model import captions, preview
from model.captions import BAND_HEIGHT, Subtitle, Tile, word_times
from model.measures import channel
from streamer.engine.bundle import Bundle

PHONES = [("SIL", 0.0, 0.2), ("M", 0.2, 0.3), ("AA", 0.3, 0.55), ("P", 0.55, 0.65), ("SIL", 0.65, 0.9)]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """One utterance: a hum while the phones last, silence around them."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    tone = np.zeros(14_400, np.float32)
    tone[3_200:10_400] = 0.4 * np.sin(2 * np.pi * 150 * np.arange(7_200) / 16_000)
    soundfile.write(folder / "u.ogg", tone, 16_000, format="OGG", subtype="OPUS")
    line = {"audio": "u.ogg", "voice": "x", "text": "Mop.", "duration_s": 0.9, "phones": PHONES}
    (folder / "x.jsonl").write_text(json.dumps(line) + "\n")
    return folder


def film_of(path: Path) -> tuple[list[np.ndarray], float, float]:
    """A film's pictures, and how long its pictures and its sound last in seconds."""
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert video.time_base and audio.time_base and video.duration and audio.duration
        lasts = float(video.duration * video.time_base), float(audio.duration * audio.time_base)
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)], *lasts


def test_a_film_lasts_as_long_as_its_speech_and_has_words_under_the_face(corpus: Path) -> None:
    path = corpus / "film.mp4"
    assert preview.main([str(corpus), "--out", str(path), "--size", "96"]) == 0
    pictures, video_s, audio_s = film_of(path)
    assert abs(video_s - 0.9) < 1 / 30
    assert abs(audio_s - 0.9) < 0.07  # AAC comes in frames of 64 ms at 16 kHz
    assert len(pictures) == 27
    assert pictures[0].shape == (96 + BAND_HEIGHT, 96, 3)
    # The phone under the middle is marked while it is spoken.
    assert np.abs(pictures[3][96:].astype(int) - pictures[13][96:]).max() > 100


def test_a_sound_file_and_its_bundle_give_one_face_and_a_corpus_two(corpus: Path) -> None:
    alone, both = corpus / "alone.mp4", corpus / "both.mp4"
    assert preview.main([str(corpus / "u.ogg"), "--bundle", "--out", str(alone), "--size", "64"]) == 0
    assert film_of(alone)[0][0].shape == (64, 64, 3)
    arguments = [str(corpus), "--bundle", "--out", str(both), "--size", "64", "--plot", str(corpus / "p.png")]
    assert preview.main(arguments) == 0
    assert film_of(both)[0][0].shape == (64 + BAND_HEIGHT, 128, 3)
    with Image.open(corpus / "p.png") as plotted:
        assert min(plotted.size) > 400


def tile_size() -> tuple[int, int]:
    """How far apart tiles of the module's size stand on a sheet, (across, down)."""
    tiles = [Tile(np.zeros((preview._TILE, preview._TILE, 3), np.uint8), "")]
    one, two = captions.sheet(tiles, 1), captions.sheet(tiles * 4, 2)
    return two.shape[1] - one.shape[1], two.shape[0] - one.shape[0]


def test_a_sheet_shows_every_phone_at_its_middle(corpus: Path) -> None:
    path = corpus / "sheet.png"
    assert preview.main([str(corpus), "--sheet", str(path)]) == 0
    with Image.open(path) as opened:
        sheet = np.asarray(opened)
    studio = preview.Studio(Bundle.load())
    speech = preview.read_speech(corpus, 0)
    motion = preview.taught(speech.phones, speech.audio)[[round(0.425 * preview.FPS)]]
    (open_mouth,) = studio.pictures(motion, preview._TILE, preview.MOUTH)
    across, _ = tile_size()

    def tile(k: int, top: int) -> np.ndarray:
        return sheet[top : top + preview._TILE, 8 + across * k : 8 + across * k + preview._TILE]

    top = next(row for row in range(80) if np.array_equal(tile(2, row), open_mouth))
    assert sheet.shape[1] >= 8 + 5 * across
    silence, m, aa, p, _ = (tile(k, top)[70:150, 60:140].astype(int) for k in range(5))
    assert np.abs(aa - silence).mean() > 3 * np.abs(m - p).mean()


def test_tiles_stand_in_rows_with_their_labels_below() -> None:
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0), (0, 250, 250)]
    tiles = [Tile(np.full((30, 60, 3), colour, np.uint8), "A", "note") for colour in colours]
    sheet = captions.sheet(tiles, 2, "heading")
    places = []
    for colour in colours:
        rows, columns = np.nonzero((sheet == colour).all(2))
        assert len(rows) == 30 * 60
        places.append((int(rows.min()), int(columns.min())))
        below = sheet[rows.max() + 1 : rows.max() + 45, columns.min() : columns.max()]
        assert (below.max(2) > 200).any()
    (top, left), (_, right) = places[:2]
    assert [row for row, _ in places[:2]] == [top, top]
    assert [column for _, column in places] == [left, right, left, right, left]
    assert places[2][0] == places[3][0] > top + 30


def test_words_are_timed_by_the_phones_that_a_dictionary_expects() -> None:
    phones = [("SIL", 0.0, 0.1), ("DH", 0.1, 0.15), ("AH", 0.15, 0.2), ("K", 0.2, 0.3), ("AE", 0.3, 0.4)]
    phones += [("T", 0.4, 0.5), ("SIL", 0.5, 0.6)]
    words = word_times([("The", ["DH", "IY"]), ("cat,", ["K", "AE", "T"]), ("Xyzzy", [])], phones)
    assert words == [("The", 0.1, 0.15), ("cat,", 0.2, 0.5), ("Xyzzy", 0.0, 0.0)]


def test_the_word_that_is_spoken_is_marked_and_no_other() -> None:
    def accents(now_s: float) -> Iterator[int]:
        band = Subtitle(400, [("One", 0.0, 0.5), ("two", 0.5, 1.0)], []).at(now_s)
        accent = np.array([int(captions.ACCENT[k : k + 2], 16) for k in (1, 3, 5)])
        yield from np.flatnonzero((np.abs(band[:60].astype(int) - accent).max(2) < 12).any(0))

    one, two = list(accents(0.2)), list(accents(0.7))
    assert one and two and max(one) < min(two)
    assert not list(accents(1.2))


def test_a_long_sentence_breaks_into_lines_and_follows_the_speech() -> None:
    words = [(f"word{k}", k / 2, k / 2 + 0.5) for k in range(40)]
    subtitle = Subtitle(300, words, [])
    first, last = subtitle.at(0.1), subtitle.at(19.9)
    assert first.shape == last.shape == (BAND_HEIGHT, 300, 3)
    assert not np.array_equal(first, last)


def test_phones_held_still_take_their_shapes() -> None:
    aa, m, f, uw, iy = preview.held(["AA", "M", "F", "UW", "IY"], "neutral", held_s=0.4)
    face = preview.Studio(Bundle.load())
    gaps = [face.gap_mm(row) for row in (aa, iy, m)]
    assert gaps[0] > gaps[1] + 3
    assert gaps[2] < 0.5 < gaps[1]
    assert channel(f[None], "mouthRollLower")[0] > 0.5
    rounding = [
        float((channel(r[None], "mouthPucker") + channel(r[None], "mouthFunnel"))[0]) for r in (uw, iy)
    ]
    assert rounding[0] > rounding[1] + 0.5


@pytest.mark.slow
def test_all_phones_and_all_styles_are_drawn(tmp_path: Path) -> None:
    phones, styles = tmp_path / "phones.png", tmp_path / "styles.png"
    assert preview.main(["--phones", str(phones), "--styles", str(styles)]) == 0
    across, down = tile_size()
    with Image.open(phones) as sheet:
        assert sheet.size[0] > 5 * 2 * preview._TILE
        assert sheet.size[1] > (len(preview.PHONES) + 5) // 5 * down
    with Image.open(styles) as sheet:
        assert sheet.size[0] > 12 * across
        assert sheet.size[1] > 8 * down


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["{corpus}", "--utterance", "7", "--out", "{corpus}/a.mp4"], "holds 1 utterances: choose"),
        (["{corpus}/u.ogg", "--out", "{corpus}/a.mp4"], "add --bundle to hear it"),
        (["{corpus}/none.wav", "--out", "{corpus}/a.mp4"], "none.wav cannot be read"),
        (["{corpus}/u.ogg", "--bundle", "--sheet", "{corpus}/a.png"], "a plain sound file has none"),
        (["--bundle", "{corpus}", "--phones", "{corpus}/a.png"], "has no readable manifest.json"),
    ],
)
def test_what_cannot_be_shown_is_said_in_a_sentence(
    corpus: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert preview.main([argument.format(corpus=corpus) for argument in arguments]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert "Traceback" not in said
    assert not list(corpus.glob("a.*"))


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--out", "a.mp4"],
        ["--phones", "nowhere/a.png"],
        ["--phones", "a.jpeg2"],
        ["x", "--out", "a.mp4", "--size", "97"],
    ],
)
def test_a_wrong_command_is_refused_before_any_work(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        preview.main(arguments)
    assert stopped.value.code == 2
    assert "python -m model.preview: error:" in capsys.readouterr().err
