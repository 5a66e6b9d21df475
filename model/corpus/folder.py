"""A corpus on disk, and what makes it safe to stop and go on.

For every engine a file of lines (``flite.jsonl``), its audio (``flite_00001.ogg`` …) and a file of what was
rejected and why (``flite.rejected``); ``corpus.json`` with the seed and the packages; and ``README.md``.
Rules: a line is written when its audio is on disk under its own name, so every line has its audio; a number
is in the lines, in the rejected, or still to be made; a torn last line is one that was never written. The
folder is locked while a run is at work in it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from model.corpus.utterance import Rejected, Utterance

try:
    import fcntl
except ModuleNotFoundError:  # Windows has no such locks; there two runs at once are on their own
    fcntl = None  # type: ignore[assignment]

RECORD = "corpus.json"


class CannotWrite(Exception):
    """The folder is not one that may be written into; the message says why and what to do."""


@dataclass
class Done:
    """What an engine has made so far: numbers kept and rejected, and the length of what was kept."""

    kept: set[int] = field(default_factory=set)
    rejected: set[int] = field(default_factory=set)
    seconds: float = 0.0

    def has(self, number: int) -> bool:
        """Whether this number needs no work."""
        return number in self.kept or number in self.rejected


class CorpusFolder:
    """The files of one corpus, open for adding."""

    def __init__(self, path: Path, seed: int) -> None:
        """Begins a corpus or goes on with one; raises CannotWrite where it is another's."""
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        record = path / RECORD
        if record.exists():
            self.record = json.loads(record.read_text("utf-8"))
            if self.record["seed"] != seed:
                raise CannotWrite(
                    f"{path} was begun with --seed {self.record['seed']}: use that, or another folder"
                )
        elif any(path.glob("*.jsonl")):
            raise CannotWrite(f"{path} holds a corpus that this command did not make: name another folder")
        else:
            self.record = {"seed": seed, "engines": {}}

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Raises CannotWrite while another run is at work here."""
        with (self.path / ".lock").open("w") as lock:
            if fcntl is not None:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError as taken:
                    raise CannotWrite(f"another run is writing into {self.path}: wait for it") from taken
            yield

    def made_with(self, engine: str, packages: Sequence[str]) -> None:
        """Notes what the engine is made of; a run with other versions adds to the list."""
        known = self.record["engines"].setdefault(engine, [])
        known += [package for package in packages if package not in known]
        _replace(self.path / RECORD, (json.dumps(self.record, indent=1) + "\n").encode())

    def done(self, engine: str) -> Done:
        """What there is of an engine. Half a line at the end, from a run that was killed, is cut off."""
        done = Done()
        for line in _whole_lines(self._lines(engine)):
            utterance = json.loads(line)
            done.kept.add(int(utterance["audio"].removeprefix(f"{engine}_").removesuffix(".ogg")))
            done.seconds += utterance["duration_s"]
        done.rejected |= {json.loads(line)["number"] for line in _whole_lines(self._rejections(engine))}
        return done

    def keep(self, engine: str, number: int, utterance: Utterance) -> None:
        """Writes the audio, then its line."""
        name = f"{engine}_{number:05d}.ogg"
        _replace(self.path / name, utterance.ogg)
        _append(self._lines(engine), {"audio": name, **utterance.line})

    def reject(self, engine: str, number: int, rejected: Rejected) -> None:
        """Notes that the number needs no further try."""
        line = {"number": number, "voice": rejected.voice, "reason": rejected.reason, "text": rejected.text}
        _append(self._rejections(engine), line)

    def utterances(self, engine: str) -> list[dict[str, object]]:
        """The engine's lines."""
        return [json.loads(line) for line in _whole_lines(self._lines(engine))]

    def write_readme(self, text: str) -> None:
        """Replaces README.md."""
        _replace(self.path / "README.md", text.encode())

    def _lines(self, engine: str) -> Path:
        return self.path / f"{engine}.jsonl"

    def _rejections(self, engine: str) -> Path:
        return self.path / f"{engine}.rejected"


def _whole_lines(path: Path) -> list[str]:
    """The lines of a file; what follows the last line's end is cut from it."""
    if not path.exists():
        return []
    raw = path.read_bytes()
    whole = raw[: raw.rfind(b"\n") + 1]
    if len(whole) < len(raw):
        os.truncate(path, len(whole))
    return whole.decode("utf-8").splitlines()


def _append(path: Path, line: dict[str, object]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _replace(path: Path, content: bytes) -> None:
    """The file has either its old content or all of the new one, whatever happens."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
