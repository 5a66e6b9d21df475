"""One target in a process of its own: ``python -m benchmarks.fuzz.child``, started by ``runner``.

A coverage-guided fuzzer (atheris, which is libFuzzer around Python) makes the inputs. An exception, an input
that takes long or much memory is written down once for each place and fuzzing goes on; a crash of the process
or one that hangs is the parent's to notice. What was counted so far lies in ``counts.json``, in case of that.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

import atheris
import numpy  # noqa: F401 - before imports are watched: all of it would be

from benchmarks.fuzz.mutate import json_mutator
from benchmarks.fuzz.peak import peak_mb
from benchmarks.fuzz.targets import TARGETS, Target

SLOW_S = 5
_LOOKS_S = 0.01  # so much memory is not had in less: only then it is looked at
MEMORY_MB, MOST_MEMORY_MB = 700, 3000  # of one input, and of the process
# Whose branches the fuzzer follows; the last is by which the tests show that bugs are found.
_WATCHED = ("streamer", "tomllib", "jwt", "zipfile", "soundfile", "tests.planted_bugs")
_SHOWN_BYTES = 400


def target_of(name: str) -> Target:
    """A target by its name, or by ``module:attribute``."""
    if ":" not in name:
        return TARGETS[name]
    module, _, attribute = name.partition(":")
    found: Target = getattr(importlib.import_module(module), attribute)
    return found


def main(name: str, seconds: float, folder: Path, seed: str, hangs_s: str) -> NoReturn:
    """Fuzzes for so long; never returns.

    Args:
        name: of the target. folder: for corpus, counts and what crashed. seed: of the fuzzer's dice.
        hangs_s: after so many seconds an input counts as one that never ends.
    """
    target = target_of(name)
    for part in ("corpus", "seeds", "work"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(target.seeds(folder / "seeds")):
        (folder / "corpus" / f"seed-{number}").write_bytes(content)
    (folder / "words").write_text("\n".join(f'"{_escaped(word)}"' for word in target.words or (b"\0",)))

    from streamer.contract.errors import FaceError

    # What is imported already is imported anew, watched.
    watched = tuple(f"{name}." for name in _WATCHED)
    for module in [one for one in sys.modules if f"{one}.".startswith(watched)]:
        if module != "streamer.contract.errors":
            del sys.modules[module]
    with atheris.instrument_imports(include=list(_WATCHED)):
        function = target.prepare(folder / "work")

    counts: dict[str, Any] = {
        "inputs": 0,
        "named_errors": 0,
        "slowest_ms": 0.0,
        "peak_mb": peak_mb(),
        "findings": {},
        "is_done": False,
    }
    until, written = time.monotonic() + seconds, 0.0

    def note(kind: str, place: str, given: bytes) -> None:
        if place not in counts["findings"]:
            shown = given[:_SHOWN_BYTES].decode("latin-1")
            counts["findings"][place] = {"kind": kind, "bytes": len(given), "input": shown}
            kept = folder / f"found-{len(counts['findings'])}"
            kept.write_bytes(given)

    def one(given: bytes) -> None:
        nonlocal written
        began, before_mb = time.monotonic(), counts["peak_mb"]
        try:
            function(given)
        except FaceError:
            counts["named_errors"] += 1
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            note("exception", f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}", given)
        ended = time.monotonic()
        counts["inputs"] += 1
        counts["slowest_ms"] = max(counts["slowest_ms"], 1000 * (ended - began))
        if ended - began > SLOW_S:
            note("slow", f"more than {SLOW_S} s", given)
        if ended - began > _LOOKS_S:
            counts["peak_mb"] = peak_mb()
            if counts["peak_mb"] - before_mb > MEMORY_MB:
                note("memory", f"more than {MEMORY_MB} MB", given)
        if ended - written > 0.5 or ended > until:
            written = ended
            counts["is_done"] = ended > until
            counts["peak_mb"] = peak_mb()
            _write(folder / "counts.json", counts)
            if counts["is_done"]:
                sys.stderr.flush()
                os._exit(0)

    arguments = {
        "timeout": hangs_s,
        "rss_limit_mb": MOST_MEMORY_MB,
        "max_len": target.longest,
        "artifact_prefix": f"{folder}/crashed-",
        "dict": folder / "words",
        "seed": seed,
    }
    words = [f"-{key}={value}" for key, value in arguments.items()]
    # Looked up when it is called: Setup replaces it.
    by_json = json_mutator(lambda given, longest: atheris.Mutate(given, longest))
    mutator = {"custom_mutator": by_json} if target.is_json else {}
    atheris.Setup([sys.argv[0], str(folder / "corpus"), *words], one, **mutator)
    atheris.Fuzz()
    raise AssertionError("the fuzzer came back")


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


def _write(path: Path, counts: dict[str, Any]) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(counts))
    fresh.replace(path)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), Path(sys.argv[3]), sys.argv[4], sys.argv[5])
