"""Festival: two diphone voices and an HTS one; it writes every segment with its end in seconds."""

from __future__ import annotations

import random
import subprocess
import tempfile
from pathlib import Path

import soundfile

from model.corpus.phones import Token, from_allophones
from model.corpus.utterance import Speech, Unspeakable

VOICES = ("kal_diphone", "ked_diphone", "cmu_us_slt_arctic_hts")
_DIPHONES = VOICES[:2]  # the HTS voice knows one speed

_SCRIPT = """
(voice_{voice})
(Parameter.set 'Duration_Stretch {stretch})
(set! utterance (utt.synth (Utterance Text "{text}")))
(utt.save.wave utterance "{wav}" 'riff)
(utt.save.segs utterance "{segments}")
"""


class Festival:
    """The command ``festival``, started for every utterance."""

    exact = True

    def draw(self, random: random.Random) -> tuple[str, float]:
        """One of its voices; a diphone voice at 0.83 to 1.2 of its speed."""
        voice = random.choice(VOICES)
        speed = round(random.uniform(0.83, 1.2), 2)
        return voice, speed if voice in _DIPHONES else 1.0

    def speak(self, text: str, voice: str, speed: float) -> Speech:
        """Raises Unspeakable where the command fails."""
        with tempfile.TemporaryDirectory() as folder:
            wav, segments = Path(folder) / "speech.wav", Path(folder) / "segments"
            plain = text.replace("\\", "").replace('"', "")
            script = _SCRIPT.format(
                voice=voice, stretch=1 / speed, text=plain, wav=wav.as_posix(), segments=segments.as_posix()
            )
            done = subprocess.run(["festival", "--pipe"], input=script, capture_output=True, text=True)
            if not wav.exists() or not segments.exists():
                raise Unspeakable(f"festival: {done.stderr.strip() or f'exit code {done.returncode}'}")
            audio, rate_hz = soundfile.read(wav, dtype="float32")
            written = segments.read_text()
        return Speech(audio, rate_hz, [from_allophones(read_segments(written))])


def read_segments(written: str) -> list[Token]:
    """Lines of ``end_s colour name`` after a header that ends in ``#``, as segments with start and end."""
    tokens: list[Token] = []
    at = 0.0
    for line in written.splitlines():
        fields = line.split()
        if len(fields) == 3:
            tokens.append((fields[2], at, float(fields[0])))
            at = float(fields[0])
    return tokens
