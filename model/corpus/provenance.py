"""The README of a corpus: whose voices, under which licence, how much, how timed, what was left out."""

from __future__ import annotations

from collections import Counter

from model.corpus.engines import ENGINES, WORDNET_PACKAGE
from model.corpus.folder import CorpusFolder

_HEAD = """# Speech with phone times

Made by `python -m model.corpus`, seed {seed}. Synthesisers read example sentences of WordNet, no sentence by
two of them; people are actors in free games, who say what they say there. One JSON line per utterance, one
file per engine: `audio`, a file of 16 kHz mono Ogg/Opus; `engine`, `voice`, `speed`, `text`; `duration_s`;
and `phones`, ARPABET or SIL with start and end in seconds of the decoded file, one after another without a
gap. What was rejected is in `*.rejected`, with the reason.

For validation hold out whole voices, by their name in `voice`, not sentences: a mixture of two Kokoro voices
names both.

| engine | utterances | minutes | voices | rejected | phones' times | made with | licence of the voices |
|---|---|---|---|---|---|---|---|
"""

_TAIL = """
The sentences are WordNet's ({wordnet}; Princeton University, WordNet licence).
Times by PocketSphinx are rejected when the median boundary is more than 30 ms from the engine's, or one is
more than 250 ms from it; all times, when a phone lasts longer than 450 ms. Of people, whose words Whisper
hears, recordings are rejected when it is not sure of them, when a phone lasts longer than 750 ms, or when
what should be silent is loud.
"""


def readme(folder: CorpusFolder) -> str:
    """The text for the folder as it is now, in Markdown."""
    rows = [_row(folder, engine, made_with) for engine, made_with in folder.record["engines"].items()]
    head = _HEAD.format(seed=folder.record["seed"])
    return head + "".join(rows) + _TAIL.format(wordnet=WORDNET_PACKAGE)


def _row(folder: CorpusFolder, engine: str, made_with: list[str]) -> str:
    utterances = folder.utterances(engine)
    done = folder.done(engine)
    tried = max(len(done.kept) + len(done.rejected), 1)
    voices = Counter(str(utterance["voice"]) for utterance in utterances)
    recipe = ENGINES[engine]
    return (
        f"| {engine} | {len(utterances)} | {done.seconds / 60:.1f} | {len(voices)} "
        f"| {len(done.rejected)} ({len(done.rejected) / tried:.0%}) | {recipe.times} "
        f"| {', '.join(made_with)} | {recipe.licence} |\n"
    )
