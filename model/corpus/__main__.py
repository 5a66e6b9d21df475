"""``python -m model.corpus OUT``: speech with phone times, rebuilt from packages.

What it writes is read by ``model.speech.read_corpus``: a folder of 16 kHz mono Ogg/Opus and JSON lines. The
parts: ``engines`` (what there is), ``packages`` (what is missing), ``sentences``, ``utterance`` (one spoken
and timed), ``production`` (many), ``folder`` (on disk), ``provenance`` (the README that goes with it).
"""

from __future__ import annotations

import argparse
import math
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm import tqdm

from model.corpus import packages
from model.corpus.engines import ENGINES, WORDNET_PACKAGE
from model.corpus.folder import CannotWrite, CorpusFolder
from model.corpus.packages import NotInstalled, Package
from model.corpus.production import Order, Stuck, produce
from model.corpus.provenance import readme
from model.corpus.sentences import WORDNET, NoSentences, read_sentences

DESCRIPTION = """Builds speech with phone times for training: synthesisers read WordNet's example sentences,
and what actors say in free games is written down and timed.

  python -m model.corpus corpus --minutes 5 --engines flite,espeak
  python -m model.corpus corpus --minutes 300 --engines kokoro,hibari,flite,people --install

A run that was stopped goes on where it was when the same command is given again; with more minutes or other
engines it adds to the folder. Each engine speaks for an equal part of the minutes."""

EPILOG = "engines:\n" + "\n".join(
    f"  {name:<9} {', '.join(package.name for package in recipe.packages[:1])}; licence: {recipe.licence}"
    for name, recipe in ENGINES.items()
)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="python -m model.corpus",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("out", type=Path, metavar="OUT", help="the folder to write into")
    command.add_argument(
        "--minutes", type=_positive(float), default=300.0, help="of speech, of all engines together (300)"
    )
    command.add_argument(
        "--engines",
        type=_engine_names,
        default=["kokoro", "hibari", "flite"],
        metavar="NAME,...",
        help="who speaks (kokoro,hibari,flite)",
    )
    command.add_argument(
        "--workers",
        type=_positive(int),
        default=os.cpu_count() or 1,
        help="processes at work, about 1 GB of memory each for kokoro (%(default)s: the processors here)",
    )
    command.add_argument("--seed", type=int, default=0, help="decides sentences and voices (0)")
    command.add_argument(
        "--wordnet", type=Path, default=WORDNET, metavar="DIR", help="WordNet's data files (%(default)s)"
    )
    command.add_argument(
        "--install", action="store_true", help="install what is missing, showing every command"
    )
    return command


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    options = parser().parse_args(arguments)
    try:
        _install_or_say(options)
        folder = CorpusFolder(options.out, options.seed)
        with folder.locked():
            return _build(folder, options)
    except (NotInstalled, NoSentences, CannotWrite, Stuck) as problem:
        print(f"model.corpus: {problem}", file=sys.stderr)
        return 2
    except OSError as problem:  # a full disk, a folder that may not be written
        print(f"model.corpus: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # before the work began
        return 130


def _install_or_say(options: argparse.Namespace) -> None:
    """Raises NotInstalled where packages are missing and may not be, or could not be, installed."""
    wanted: list[Package] = [package for name in options.engines for package in ENGINES[name].packages]
    if options.wordnet == WORDNET:
        wanted.append(WORDNET_PACKAGE)
    lacking = packages.missing(wanted)
    if lacking and options.install:
        packages.install(lacking)
    elif lacking:
        names = ", ".join(package.name for package in lacking)
        lines = "\n".join(f"  {shlex.join(line)}" for line in packages.commands(lacking))
        raise NotInstalled(f"not installed: {names}. Add --install, or run\n{lines}")


def _build(folder: CorpusFolder, options: argparse.Namespace) -> int:
    """Makes the corpus with a progress bar and leaves a README, also when it is interrupted."""
    sentences = read_sentences(options.wordnet, options.seed)
    for name in options.engines:
        folder.made_with(name, [str(package) for package in ENGINES[name].packages])
    order = Order(
        options.engines, options.minutes * 60 / len(options.engines), sentences, options.seed, options.workers
    )
    rejected = 0
    with tqdm(
        total=options.minutes,
        bar_format="{l_bar}{bar}| {n:.1f}/{total:.1f} min of speech, {elapsed}<{remaining}{postfix}",
        disable=None,
    ) as bar:

        def advance(engine: str, seconds: float, rejections: int) -> None:
            nonlocal rejected
            rejected += rejections
            bar.set_description(engine, refresh=False)
            bar.set_postfix_str(f"{rejected} rejected", refresh=False)
            bar.update(min(seconds / 60, bar.total - bar.n))

        try:
            produce(folder, order, advance)
            code = 0
        except KeyboardInterrupt:
            code = 130
        finally:
            folder.write_readme(readme(folder))
    minutes = sum(folder.done(name).seconds for name in folder.record["engines"]) / 60
    if code:
        print(
            f"Stopped: {minutes:.1f} minutes are in {folder.path}; the same command goes on from there.",
            file=sys.stderr,
        )
    else:
        print(f"{minutes:.1f} minutes of speech in {folder.path}; {folder.path / 'README.md'} says whose.")
    return code


def _engine_names(text: str) -> list[str]:
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in ENGINES]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"no such engine: {text!r}; there are {', '.join(ENGINES)}")
    return names


def _positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = kind(text)
        if not 0 < value < math.inf:
            raise argparse.ArgumentTypeError(f"must be more than 0, not {text}")
        return value

    parse.__name__ = "number"
    return parse


if __name__ == "__main__":
    sys.exit(main())
