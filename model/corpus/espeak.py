"""eSpeak NG through its C library: accents and variants by the dozen, a phoneme event for every sound.

The library comes in the PyPI package ``espeakng-loader``; the structures and constants below are those of its
header ``speak_lib.h``. It is one global synthesiser per process. An event's sample is where the sound begins
in the audio, but for p, t and k: theirs is the burst, so the silent closure before it still belongs to the
sound before; ``with_closures`` gives it back. eSpeak NG is GPL-3; what it speaks is not.
"""

from __future__ import annotations

import ctypes
import random
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from model.align import Phone
from model.corpus.phones import Token, from_ipa
from model.corpus.utterance import F32, Speech, Unspeakable

ACCENTS = {
    **{"en-us": 6.0, "en-us-nyc": 1.0, "en": 2.0, "en-gb-x-rp": 2.0, "en-gb-scotland": 1.0},
    **{"en-gb-x-gbclan": 1.0, "en-gb-x-gbcwmd": 1.0, "en-029": 1.0},
}
VARIANTS = ("", *(f"+m{n}" for n in range(1, 9)), *(f"+f{n}" for n in range(1, 6)))
_WORDS_PER_MINUTE = 165  # at speed 1

_OUTPUT_SYNCHRONOUS, _PHONEME_EVENTS_IN_IPA = 2, 1 | 2
_EVENT_END, _EVENT_PHONEME = 0, 7
_RATE, _PITCH = 1, 3
_UTF8 = 1
_CLOSURE_S = 0.100
_SHORTEST_CLOSURE_S = 0.008
_LEAST_BEFORE_S = 0.020  # what the sound before keeps
_SILENT = 0.004


class _Name(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Name),
    ]


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


class Espeak:
    """The library, which is one per process, so that two instances must take turns."""

    exact = True

    def __init__(self) -> None:
        import espeakng_loader

        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        self._rate_hz: int = self._library.espeak_Initialize(
            _OUTPUT_SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), _PHONEME_EVENTS_IN_IPA
        )
        if self._rate_hz <= 0:
            raise RuntimeError("eSpeak NG does not start: its voices are missing")
        self._audio: list[npt.NDArray[np.int16]] = []
        self._events: list[tuple[int, str]] = []
        self._callback = _Callback(self._collect)  # kept alive as long as the library may call it

    def draw(self, random: random.Random) -> tuple[str, float]:
        """An accent, a variant of the voice and a pitch (0 to 99); 0.85 to 1.2 of the usual speed."""
        (accent,) = random.choices(list(ACCENTS), list(ACCENTS.values()))
        voice = f"{accent}{random.choice(VARIANTS)} pitch {random.randint(30, 70)}"
        return voice, round(random.uniform(0.85, 1.2), 2)

    def speak(self, text: str, voice: str, speed: float) -> Speech:
        """Raises Unspeakable for a voice it does not have."""
        name, _, pitch = voice.partition(" pitch ")
        self._audio.clear()
        self._events.clear()
        self._library.espeak_SetSynthCallback(self._callback)  # another instance may have set its own
        if self._library.espeak_SetVoiceByName(name.encode()) != 0:
            raise Unspeakable(f"espeak-ng has no voice {name}")
        self._library.espeak_SetParameter(_RATE, round(_WORDS_PER_MINUTE * speed), 0)
        self._library.espeak_SetParameter(_PITCH, int(pitch), 0)
        line = text.encode() + b"\0"
        self._library.espeak_Synth(line, len(line), 0, 0, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        if not self._audio:
            raise Unspeakable("espeak-ng gave no sound")
        audio = np.asarray(np.concatenate(self._audio) / 32768, np.float32)
        phones = [phone for token in self._tokens(len(audio)) for phone in from_ipa(token)]
        return Speech(audio, self._rate_hz, [with_closures(phones, audio, self._rate_hz)])

    def _tokens(self, samples: int) -> list[Token]:
        """Each event lasts until the next; a pause is an event with an empty name."""
        ends = [sample for sample, _ in self._events[1:]] + [samples]
        rate = self._rate_hz
        return [
            (name, sample / rate, end / rate)
            for (sample, name), end in zip(self._events, ends, strict=True)
            if name and end > sample
        ]

    def _collect(self, wav: ctypes._Pointer[ctypes.c_short], count: int, events: ctypes.Array[_Event]) -> int:
        """What the library calls with every piece of sound and the events in it; 0 asks for more."""
        if wav and count > 0:
            self._audio.append(np.ctypeslib.as_array(wav, (count,)).copy())
        at = 0
        while events[at].type != _EVENT_END:
            if events[at].type == _EVENT_PHONEME:
                place = ctypes.addressof(events[at]) + _Event.id.offset
                name = ctypes.string_at(place, 8).split(b"\0")[0]
                self._events.append((events[at].sample, name.decode("utf-8", "ignore")))
            at += 1
        return 0


def with_closures(phones: Sequence[Phone], audio: F32, rate_hz: int) -> list[Phone]:
    """P, T and K pulled back over the silence before their burst, at the cost of the phone before.

    At most 100 ms, and the phone before keeps at least 20.
    """
    fixed = list(phones)
    for at, (name, start, end) in enumerate(fixed):
        if name not in ("P", "T", "K"):
            continue
        earliest = max(start - _CLOSURE_S, 0.0)
        if at:
            earliest = max(earliest, fixed[at - 1][1] + _LEAST_BEFORE_S)
        before = np.abs(audio[round(earliest * rate_hz) : round(start * rate_hz)])
        loud = np.flatnonzero(before >= _SILENT)
        closure_s = (len(before) - (loud[-1] + 1 if len(loud) else 0)) / rate_hz
        if closure_s > _SHORTEST_CLOSURE_S:
            fixed[at] = (name, start - closure_s, end)
            if at:
                before_name, before_start, before_end = fixed[at - 1]
                fixed[at - 1] = (before_name, before_start, min(before_end, start - closure_s))
    return fixed
