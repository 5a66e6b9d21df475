"""Words on pictures: labelled tiles on a sheet, and the line of words and phones under a speaking face.

Pictures are uint8 (height, width, 3). Text is set in the typeface that Pillow brings, so it looks the same
everywhere.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

U8 = npt.NDArray[np.uint8]
Phone = tuple[str, float, float]
Word = tuple[str, float, float]

PAPER, INK, DIM, ACCENT, LINE = "#14181f", "#f2f4f7", "#8d97a5", "#f2a48f", "#39424f"
_GAP = 8
_TITLE, _NOTE = 20, 14
BAND_HEIGHT = 124
_SECOND = 420  # how many pixels a second of speech is long under the face


@dataclass(frozen=True)
class Tile:
    """One labelled picture of a sheet: a bold title, and a note in small letters."""

    picture: U8
    title: str
    note: str = ""


def sheet(tiles: Sequence[Tile], columns: int, heading: str = "") -> U8:
    """Tiles of one size in rows of ``columns``, under a heading."""
    height, width = tiles[0].picture.shape[:2]
    label = _TITLE + _NOTE + 14
    top = 40 if heading else 0
    rows = -(-len(tiles) // columns)
    size = (_GAP + columns * (width + _GAP), top + _GAP + rows * (height + label + _GAP))
    image = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(image)
    if heading:
        draw.text((_GAP, 12), heading, INK, _font(_TITLE))
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        x, y = _GAP + column * (width + _GAP), top + _GAP + row * (height + label + _GAP)
        image.paste(Image.fromarray(tile.picture), (x, y))
        draw.text((x + 2, y + height + 4), tile.title, INK, _font(_TITLE))
        draw.text((x + 2, y + height + _TITLE + 8), tile.note, DIM, _font(_NOTE))
    return np.asarray(image)


def titled(picture: U8, title: str) -> U8:
    """The picture with a title in its upper left corner."""
    image = Image.fromarray(picture)
    ImageDraw.Draw(image).text((14, 10), title, INK, _font(_TITLE))
    return np.asarray(image)


class Subtitle:
    """The band under a speaking face: the sentence with its current word, and the phones passing by.

    Args:
        width: of the band in pixels; it is ``BAND_HEIGHT`` high.
        words: (word, start_s, end_s); a word whose time is not known has start = end.
        phones: (name, start_s, end_s).
    """

    def __init__(self, width: int, words: Sequence[Word], phones: Sequence[Phone]) -> None:
        self._width, self._phones = width, phones
        self._lines = _broken([word for word, _, _ in words], width - 2 * _GAP)
        self._words = words

    def at(self, now_s: float) -> U8:
        """The band at a time of the speech."""
        image = Image.new("RGB", (self._width, BAND_HEIGHT), PAPER)
        draw = ImageDraw.Draw(image)
        self._say(draw, now_s)
        top, bottom, middle = 88, BAND_HEIGHT - 8, self._width / 2
        for name, start, end in self._phones:
            left, right = (middle + _SECOND * (t - now_s) for t in (start, end))
            if right < 0 or left > self._width:
                continue
            spoken = start <= now_s < end
            draw.rectangle((left + 1, top, right - 1, bottom), ACCENT if spoken else None, LINE)
            if spoken:
                draw.text((middle, top - 13), name, ACCENT, _font(_TITLE), "mm")
            elif right - left > draw.textlength(name, _font(_NOTE)) + 4:
                draw.text(((left + right) / 2, (top + bottom) / 2), name, DIM, _font(_NOTE), "mm")
        draw.line((middle, top, middle, bottom), INK, 1)
        return np.asarray(image)

    def _say(self, draw: ImageDraw.ImageDraw, now_s: float) -> None:
        """The two lines that hold the current word, or the last spoken one."""
        begun = [k for k, (_, start, end) in enumerate(self._words) if end > start and start <= now_s]
        current = begun[-1] if begun else 0
        holding = next((k for k, line in enumerate(self._lines) if current in line), 0)
        first = holding - holding % 2
        space = draw.textlength(" ", _font(_TITLE))
        for row, line in enumerate(self._lines[first : first + 2]):
            texts = [self._words[k][0] for k in line]
            lengths = [draw.textlength(text, _font(_TITLE)) for text in texts]
            x = (self._width - sum(lengths) - space * (len(line) - 1)) / 2
            for k, text, length in zip(line, texts, lengths, strict=True):
                _, start, end = self._words[k]
                draw.text((x, 6 + 25 * row), text, ACCENT if start <= now_s < end else INK, _font(_TITLE))
                x += length + space


def word_times(words: Sequence[tuple[str, Sequence[str]]], phones: Sequence[Phone]) -> list[Word]:
    """When each word is spoken, from how a dictionary says it and what was spoken.

    Args:
        words: (word, its phones; none where the dictionary lacks it).
        phones: what was spoken, with times.
    """
    expected = [(name, owner) for owner, (_, names) in enumerate(words) for name in names]
    matcher = difflib.SequenceMatcher(None, [e[0] for e in expected], [p[0] for p in phones], autojunk=False)
    spans: list[list[float]] = [[] for _ in words]
    for block in matcher.get_matching_blocks():
        for k in range(block.size):
            spans[expected[block.a + k][1]] += phones[block.b + k][1:]
    return [
        (word, min(s, default=0.0), max(s, default=0.0)) for (word, _), s in zip(words, spans, strict=True)
    ]


def _broken(words: Sequence[str], width: int) -> list[list[int]]:
    """Places of words, line by line, so that no line is wider than ``width`` pixels."""
    lines: list[list[int]] = [[]]
    for k in range(len(words)):
        line = " ".join(words[j] for j in [*lines[-1], k])
        if lines[-1] and _font(_TITLE).getlength(line) > width:
            lines.append([])
        lines[-1].append(k)
    return lines


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return font
