"""Flite: small, fast, four voices; ``-psdur`` prints every segment with its end in the audio it writes."""

from __future__ import annotations

import random
import subprocess
import tempfile
from pathlib import Path

import soundfile

from model.corpus.phones import Token, from_allophones
from model.corpus.utterance import Speech, Unspeakable

VOICES = {"slt": 2.0, "rms": 2.0, "awb": 1.0, "kal16": 1.0}  # how often, in proportion


class Flite:
    """The command ``flite``."""

    exact = True

    def draw(self, random: random.Random) -> tuple[str, float]:
        """One of its voices, at 0.83 to 1.25 of its speed."""
        (voice,) = random.choices(list(VOICES), list(VOICES.values()))
        return voice, round(random.uniform(0.83, 1.25), 2)

    def speak(self, text: str, voice: str, speed: float) -> Speech:
        """Raises Unspeakable where the command fails."""
        with tempfile.TemporaryDirectory() as folder:
            wav = Path(folder) / "speech.wav"
            stretch = ["--setf", f"duration_stretch={1 / speed}"]
            command = ["flite", "-voice", voice, "-psdur", *stretch, "-t", text, "-o", str(wav)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode or not wav.exists():
                raise Unspeakable(f"flite: {done.stderr.strip() or f'exit code {done.returncode}'}")
            audio, rate_hz = soundfile.read(wav, dtype="float32")
        return Speech(audio, rate_hz, [from_allophones(read_ends(done.stdout))])


def read_ends(printed: str) -> list[Token]:
    """``pau:0.193 t:0.264 ...``, each segment's end in seconds, as segments with start and end."""
    tokens: list[Token] = []
    at = 0.0
    for segment in printed.split():
        name, _, end = segment.rpartition(":")
        tokens.append((name, at, float(end)))
        at = float(end)
    return tokens
