"""The reserved recordings: people reading telephone prompts, on which nothing is ever trained or tuned.

They are Debian's ``asterisk-core-sounds-*-g722`` packages: one professional speaker each of American English,
Mexican Spanish, Canadian French, Italian and Russian, G.722 at 16 kHz. The project does not ship them:
``fetch`` x

For the English ones ``model/transcripts/asterisk-en.json`` says what is spoken, with the phones of the few
words that PocketSphinx's dictionary lacks; ``english`` aligns them once and keeps the times beside the
recordings. The other languages come without words, and are measured without: the prompts of the same names,
two seconds long or more, so that no beep or single number is among them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from model import align
from model.align import Aligner, Phone

F32 = npt.NDArray[np.float32]

RATE_HZ = 16_000
TRANSCRIPTS = Path(__file__).parent / "transcripts" / "asterisk-en.json"
INSTALLED = Path("/usr/share/asterisk/sounds")
SHORTEST_S = 2.0  # of a prompt in a language without words
LONGEST_S = 480.0  # of all prompts of such a language together
_BYTES_PER_S = 8_000  # of G.722


class RecordingsMissing(Exception):
    """The reserved recordings are not here and cannot be fetched; the message says what to do."""


@dataclass(frozen=True)
class Speaker:
    """One package: its name, the folder that it installs, its size in MB and its licence."""

    package: str
    folder: str
    megabytes: int
    licence: str


SPEAKERS = {
    "english": Speaker("asterisk-core-sounds-en-g722", "en_US_f_Allison", 12, "CC-BY-SA-3.0"),
    "spanish": Speaker("asterisk-core-sounds-es-g722", "es_MX_f_Allison", 13, "CC-BY-SA-3.0"),
    "french": Speaker("asterisk-core-sounds-fr-g722", "fr_CA_f_June", 11, "CC-BY-SA-3.0"),
    "italian": Speaker("asterisk-core-sounds-it-g722", "it_IT_m_Carlo", 10, "CC-BY-SA-3.0"),
    "russian": Speaker("asterisk-core-sounds-ru-g722", "ru_RU_f_IvrvoiceRU", 11, "CC-BY-3.0"),
}
WORDLESS = ("spanish", "french", "italian", "russian")


@dataclass(frozen=True, eq=False)
class Recording:
    """Speech to measure on: a name, float32 (n,) at 16 kHz, and its phones where they are known."""

    name: str
    audio: F32
    phones: Sequence[Phone] = ()

    @property
    def seconds(self) -> float:
        """Its length."""
        return len(self.audio) / RATE_HZ


def english(cache: Path, every: int = 1) -> list[Recording]:
    """Every so many-th English prompt with the times of its phones, without those that cannot be aligned.

    Raises:
        RecordingsMissing, ModuleNotFoundError: with a sentence that says what to do.
    """
    folder = fetch("english", cache)
    script = json.loads(TRANSCRIPTS.read_text())
    wanted = list(script["prompts"])[::every]
    audio = {name: read_g722(folder / f"{name}.g722") for name in wanted}
    phones = aligned(audio, script["prompts"], script["pronunciations"], cache)
    return [Recording(name, audio[name], phones[name]) for name in wanted if phones[name]]


def without_words(language: str, cache: Path, every: int = 1) -> list[Recording]:
    """Prompts of a language, evenly chosen so that all of them last eight minutes, then every so many-th.

    Raises:
        RecordingsMissing: with a sentence that says what to do.
    """
    folder = fetch(language, cache)
    names = [name for name in json.loads(TRANSCRIPTS.read_text())["prompts"] if "/" not in name]
    files = [file for name in names if (file := folder / f"{name}.g722").exists()]
    seconds = {file: file.stat().st_size / _BYTES_PER_S for file in files}
    long = [file for file in files if seconds[file] >= SHORTEST_S]
    step = max(1, round(sum(seconds[file] for file in long) / LONGEST_S))
    return [Recording(file.stem, read_g722(file)) for file in long[::step][::every]]


def read_g722(path: Path) -> F32:
    """A raw G.722 file as float32 (n,) in [-1, 1] at 16 kHz."""
    import av

    with av.open(str(path), format="g722") as container:
        parts = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
    return np.concatenate(parts).astype(np.float32) / np.float32(32768)


# ---- the packages ------------------------------------------------------------------------------------------


def fetch(language: str, cache: Path) -> Path:
    """The folder of a language's recordings: the installed one, or one below ``cache``, downloaded at need.

    Raises:
        RecordingsMissing: there is no apt, or the package cannot be downloaded.
    """
    speaker = SPEAKERS[language]
    kept = cache / "recordings" / speaker.folder
    for folder in (INSTALLED / speaker.folder, kept):
        if any(folder.glob("*.g722")):
            return folder
    by_hand = (
        f"Install it (sudo apt-get install {speaker.package}), or unpack the package so that {kept} exists."
    )
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise RecordingsMissing(f"{speaker.package} is not installed, and there is no apt here. {by_hand}")
    print(
        f"{speaker.package} ({speaker.licence}) is not installed: "
        f"fetching {speaker.megabytes} MB into {kept.parent}.",
        flush=True,
    )
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as part:
        error = _download(speaker.package, Path(part))
        if error and os.getuid() == 0:  # a machine whose package lists were never read knows no package
            subprocess.run(["apt-get", "update", "-qq"], capture_output=True, check=False)
            error = _download(speaker.package, Path(part))
        if error:
            raise RecordingsMissing(f"apt could not download {speaker.package}: {error} {by_hand}")
        (package,) = Path(part).glob("*.deb")
        subprocess.run(["dpkg", "-x", package, part], check=True)
        (Path(part) / INSTALLED.relative_to("/") / speaker.folder).rename(kept)
    return kept


def _download(package: str, folder: Path) -> str:
    """Downloads a package into a folder; returns apt's last words where it fails."""
    done = subprocess.run(["apt-get", "download", package], cwd=folder, capture_output=True, text=True)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it says nothing."])[-1]


# ---- the times of the phones -------------------------------------------------------------------------------


def aligned(
    audio: dict[str, F32], text: dict[str, str], pronunciations: dict[str, str], cache: Path
) -> dict[str, list[Phone]]:
    """The phones of each recording, empty where it cannot be aligned. What was aligned once is read again.

    The file's name carries the digest of words and aligner, so that a change of either aligns anew.
    """
    rules = hashlib.sha256(Path(align.__file__).read_bytes() + TRANSCRIPTS.read_bytes()).hexdigest()[:8]
    file = cache / f"phones-{rules}.json"
    known: dict[str, list[Phone]] = json.loads(file.read_text()) if file.exists() else {}
    missing = [name for name in audio if name not in known]
    if missing:
        aligner = Aligner()
        aligner.learn(pronunciations)
        cache.mkdir(parents=True, exist_ok=True)
        try:
            for name in tqdm(missing, desc="aligning prompts", unit="prompt", disable=None):
                known[name] = aligner.align_text(audio[name], text[name])[0] or []
        finally:
            part = file.with_suffix(".part")
            part.write_text(json.dumps(known))
            part.replace(file)
    return {name: [(str(p), float(s), float(e)) for p, s, e in known[name]] for name in audio}
