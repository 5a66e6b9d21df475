"""How well a bundle reads lips: ``python -m model.evaluate`` runs it as a listener would, and measures its
face.

What is measured, and on what:

- *english*: the reserved recordings of a person, aligned (``model.human_speech``), at 80 ms lookahead under
  every condition (``model.conditions``), and clean at every other lookahead. *widest* is the bundle's longest
  hop and lookahead, which is what "offline" means here.
- *languages*: people speaking Spanish, French, Italian and Russian, measured without words.
- *voices*, *actors*: synthetic voices and people of a corpus that training never heard (``--corpus``). The
  actors, unlike the reserved recordings, may be tuned on.
- *idle*: a minute of digital silence under four seeds, and one sentence under ten.

Every recording goes through exactly the live path; many go side by side (``streamer.engine.offline``). Beside
each account stands *ideal*: the same figures of the idealised curves that the phones alone give, which is the
ceiling. The JSON is written after every account. What was animated is kept in the cache folder under the
digest of everything that it depends on, so a command that was stopped goes on where it was, and one that is
repeated only measures. Accounts of another bundle, of other rules or of another ``--every`` are thrown away.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
from tqdm import tqdm

from model import articulation, conditions, human_speech, lessons, lip_reading, measures, misalignment
from model.aims import summary
from model.articulation import IDLE_REACH_FRAMES
from model.conditions import CONDITIONS
from model.evaluation_report import Report, about, digest
from model.human_speech import Recording, RecordingsMissing
from model.options import OptionError, option, read
from model.shape import CHANNELS
from model.speech import is_held_out, read_corpus
from streamer.contract.errors import FaceError
from streamer.core import noise
from streamer.core.options import SessionOptions
from streamer.engine.backend import OnnxBackend
from streamer.engine.bundle import Bundle
from streamer.engine.offline import animate_together

F32 = npt.NDArray[np.float32]
SETS = ("english", "languages", "voices", "actors", "idle")
OF_CORPUS = ("voices", "actors")
LOOKAHEAD_MS = 80.0
UTTERANCES = 150  # of the held-out voices
SILENCE_S, SILENT_SEEDS, SAMPLE_SEEDS = 60, 4, 10
SAMPLE = Path(__file__).resolve().parents[1] / "clients" / "web" / "sample.wav"


@dataclass(frozen=True)
class EvaluateOptions:
    """Measures how well a bundle reads lips, and writes what the model card is made from."""

    bundle: Path | None = option(None, "the bundle's folder; the one that ships where none is given")
    corpus: Path | None = option(None, "a speech corpus, for its held-out voices", metavar="DIR")
    sets: str = option(
        "all", f"which of {','.join(SETS)}; {' and '.join(OF_CORPUS)} need --corpus", metavar="SET,…"
    )
    conditions: str = option(
        "all", f"which of {','.join(CONDITIONS)} to measure English under", metavar="C,…"
    )
    lookahead_ms: str = option("0,33,80,160,320", "lookaheads to measure clean English at", unit="ms")
    every: int = option(1, "take every so many-th recording only", minimum=1, metavar="N")
    json: Path = option(Path("benchmarks/results/lips.json"), "the file of the figures", metavar="FILE")
    cache: Path = option(Path("runs/evaluation"), "recordings, alignments and animations", metavar="DIR")
    variant: str | None = option(None, "how the bundle computes: fp32, int8; the best where none is given")
    threads: int = option(2, "threads for the model", minimum=1)
    at_once: int = option(16, "recordings that go side by side", minimum=1, metavar="N")


class Evaluation:
    """A bundle under measurement, and the report that grows."""

    def __init__(self, options: EvaluateOptions) -> None:
        self.options = options
        self.bundle = Bundle.load(options.bundle)
        manifest = self.bundle.manifest
        if manifest.motion.channels != list(CHANNELS):
            raise FaceError("bad_bundle", "The bundle does not speak in ARKit's 52 coefficients.")
        self.grid, self.fps = manifest.timing.grid(), manifest.timing.frame_rate_hz
        with np.load(self.bundle.folder / manifest.rig.file, allow_pickle=False) as rig:
            self.face = measures.Face(rig)
        self.backend = OnnxBackend(self.bundle, threads=options.threads, variant=options.variant)
        self.live = SessionOptions.choose(manifest, lookahead_ms=LOOKAHEAD_MS)
        model = self.graph_sha256(self.backend.variant)
        live_path = Path(str(noise.__file__)).parent
        self._animated = options.cache / f"motion-{model[:12]}-{digest(conditions, live_path)}"
        rules = (articulation, conditions, lessons, lip_reading, measures, misalignment)
        basis = {
            "model_sha256": model,
            "variant": self.backend.variant,
            "rules": digest(*rules, live_path),
            "every": options.every,
            "lookahead_ms": self.grid.lookahead_ms(self.live.lookahead_frames),
        }
        megabytes = sum((self.bundle.folder / name).stat().st_size for name in manifest.files) / 1e6
        self.report = Report(options.json, basis, about(manifest, megabytes), SETS)

    def graph_sha256(self, variant: str) -> str:
        """The digest of all that a variant computes from: its graph, and the weights that it may share."""
        files = self.bundle.manifest.files
        weights = [sha for name, sha in sorted(files.items()) if name.endswith(".bin")]
        text = "".join([files[self.bundle.variants[variant].name], *weights])
        return hashlib.sha256(text.encode()).hexdigest()

    # ---- accounts ----

    def english(self, chosen: Sequence[str], lookaheads_ms: Sequence[float]) -> None:
        """People speaking English, under conditions and lookaheads."""
        recordings = human_speech.english(self.options.cache, self.options.every)
        ideal = [self.idealised(recording) for recording in recordings]
        self._begin("english", recordings, ideal)
        hop = self.live.hop_frames
        for name in chosen:
            motions = self.animated("english", name, recordings, self.live)
            figures = lip_reading.with_words(self.face, recordings, motions, ideal, hop, self.fps)
            if name == "clean":
                figures |= self.offline_gap(recordings, motions, ideal, figures["lve_mm2"])
            self.report.put(figures, "english", "conditions", name)
        for wish in lookaheads_ms:
            options = SessionOptions.choose(self.bundle.manifest, lookahead_ms=wish)
            motions = self.animated("english", "clean", recordings, options)
            figures = lip_reading.with_words(self.face, recordings, motions, ideal, hop, self.fps)
            lookahead_ms = self.grid.lookahead_ms(options.lookahead_frames)
            self.report.put({"ms": lookahead_ms, **figures}, "english", "lookaheads", f"{wish:g}")

    def offline_gap(
        self, recordings: Sequence[Recording], live: Sequence[F32], ideal: Sequence[F32], lve_mm2: float
    ) -> dict[str, float]:
        """The live stream beside the widest window: the lip-vertex error between the two as a part of LVE,
        and how much greater the live LVE is."""
        timing = self.bundle.manifest.timing
        widest = replace(
            self.live, hop_frames=timing.hop.max_frames, lookahead_frames=timing.lookahead.max_frames
        )
        motions = self.animated("english", "clean", recordings, widest)
        pairs = list(zip(live, motions, ideal, strict=True))
        apart = float(np.mean([measures.lip_error_mm2(self.face, one, other) for one, other, _ in pairs]))
        offline = float(np.mean([measures.lip_error_mm2(self.face, other, i) for _, other, i in pairs]))
        return lip_reading.rounded(
            {
                "offline_online_mm2": apart,
                "offline_online_percent": 100 * apart / lve_mm2,
                "offline_lve_mm2": offline,
                "streaming_cost_percent": 100 * (lve_mm2 - offline) / offline,
            }
        )

    def languages(self) -> None:
        """People speaking other languages, and English without its words for comparison."""
        english = human_speech.english(self.options.cache, self.options.every)
        spoken = {"english": [r for r in english if r.seconds >= human_speech.SHORTEST_S]}
        for language in human_speech.WORDLESS:
            spoken[language] = human_speech.without_words(language, self.options.cache, self.options.every)
        for language, recordings in spoken.items():
            motions = self.animated(language, "clean", recordings, self.live)
            figures = lip_reading.without_words(
                self.face, recordings, motions, self.live.hop_frames, self.fps
            )
            self.report.put({"recordings": len(recordings), **figures}, "languages", language)

    def held_out(self, name: str, corpus: Path) -> None:
        """Voices that training never heard: ``voices`` are synthetic, ``actors`` are people."""
        chosen: list[Any] = [u for u in read_corpus(corpus) if is_held_out(str(u["voice"]))]
        held_out = [u for u in chosen if (u.get("engine") == "people") == (name == "actors")]
        if not held_out and self.options.sets == "all":
            print(f"{corpus} has no held-out {name}: they are left out.")
            return
        if not held_out:
            raise FileNotFoundError(f"{corpus} has no utterance of held-out {name}.")
        step = max(1, len(held_out) // UTTERANCES)
        recordings = []
        for utterance in held_out[::step][:UTTERANCES][:: self.options.every]:
            audio, _ = soundfile.read(corpus / utterance["audio"], dtype="float32")
            phones = [(str(p), float(s), float(e)) for p, s, e in utterance["phones"]]
            recordings.append(Recording(str(utterance["audio"]), audio, phones))
        ideal = [self.idealised(recording) for recording in recordings]
        self._begin(name, recordings, ideal)
        motions = self.animated(name, "clean", recordings, self.live)
        figures = lip_reading.with_words(
            self.face, recordings, motions, ideal, self.live.hop_frames, self.fps
        )
        self.report.put(figures, name, "clean")

    def idle(self) -> None:
        """What the face does by itself: blinks and a closed mouth in silence, and how seeds differ."""
        silence = Recording("silence", np.zeros(SILENCE_S * human_speech.RATE_HZ, np.float32))
        audio, _ = soundfile.read(SAMPLE, dtype="float32")
        speech = Recording("sample", audio)
        silent = self.animated("idle", "clean", [silence], self.live, SILENT_SEEDS)
        spoken = self.animated("idle", "clean", [speech], self.live, SAMPLE_SEEDS)
        gaps = np.concatenate([self.face.aperture_mm(motion) for motion in silent])
        figures = lip_reading.rounded(
            {
                "blinks_per_minute": 60 * sum(map(measures.blinks, silent)) / (SILENCE_S * SILENT_SEEDS),
                "silence_gap_mm": float(np.percentile(gaps, 95)),
                "rest_gap_mm": self.face.rest_mm,
                "diversity_mm": measures.diversity_mm(self.face, spoken),
            }
        )
        self.report.put(figures, "idle")

    # ---- what they stand on ----

    def idealised(self, recording: Recording) -> F32:
        """The curves that the rules make of a recording's phones, with the idle motion of the noise that the
        live path gives it: float32 (n, 52)."""
        frames = self.grid.frames_within(len(recording.audio))
        spoken = lessons.taught(recording.phones, conditions.clean(recording.audio), frames)
        reach = IDLE_REACH_FRAMES
        normal = noise.for_frames(self.live.seed, 0, -reach, reach + frames, len(CHANNELS))
        return lessons.with_idle(spoken, normal)

    def animated(
        self,
        folder: str,
        condition: str,
        recordings: Sequence[Recording],
        options: SessionOptions,
        seeds: int = 1,
    ) -> list[F32]:
        """Motions float32 (n, 52) of recordings under a condition, each seed's in turn; from the cache where
        it has them, and into it."""
        place = self._animated / folder / f"{condition}-{options.hop_frames}-{options.lookahead_frames}"
        clips = [
            (place / f"{recording.name.replace('/', '_')}-{seed}.npy", recording, seed)
            for recording in recordings
            for seed in range(seeds)
        ]
        missing = [clip for clip in clips if not clip[0].exists()]
        apply = CONDITIONS[condition]
        live = (
            ([apply(recording.audio, recording.name)], replace(options, seed=seed))
            for _, recording, seed in missing
        )
        place.mkdir(parents=True, exist_ok=True)
        parts: dict[int, list[F32]] = {}
        with tqdm(
            total=round(sum(recording.seconds for _, recording, _ in missing), 1),
            desc=f"{folder}, {condition}, {self.grid.lookahead_ms(options.lookahead_frames):.0f} ms",
            bar_format="{desc}: {bar}| {n:.0f}/{total:.0f} s of speech, {elapsed}<{remaining}",
            disable=None if missing else True,
            leave=False,
        ) as bar:
            for number, block in animate_together(
                live, self.bundle.manifest, self.backend, self.options.at_once
            ):
                file, recording, _ = missing[number]
                parts.setdefault(number, []).append(block.values)
                bar.update(len(block.values) / self.fps)
                if sum(map(len, parts[number])) == self.grid.frames_within(len(recording.audio)):
                    _keep(file, np.concatenate(parts.pop(number)))
        return [np.load(file) for file, _, _ in clips]

    def _begin(self, name: str, recordings: Sequence[Recording], ideal: Sequence[F32]) -> None:
        """A set's first account: what it is made of; and its second, the ceiling."""
        phones = sum(p != measures.SILENCE for r in recordings for p, _, _ in r.phones)
        seconds = round(sum(recording.seconds for recording in recordings), 1)
        self.report.put({"recordings": len(recordings), "seconds": seconds, "phones": phones}, name, "speech")
        self.report.put(lip_reading.by_phone(self.face, recordings, ideal, self.fps), name, "ideal")


def _keep(file: Path, motion: F32) -> None:
    part = file.with_suffix(".part")
    with part.open("wb") as stream:
        np.save(stream, motion)
    part.replace(file)


def _chosen(asked: str, known: Sequence[str], flag: str) -> list[str]:
    names = list(known) if asked == "all" else [name.strip() for name in asked.split(",")]
    for name in names:
        if name not in known:
            raise OptionError(f"{flag} has no {name!r}: choose among {', '.join(known)}.")
    return names


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    options = read(EvaluateOptions, None, sys.argv[1:] if argv is None else argv, "python -m model.evaluate")
    sets = _chosen(options.sets, SETS, "--sets")
    under = _chosen(options.conditions, tuple(CONDITIONS), "--conditions")
    try:
        lookaheads_ms = [float(wish) for wish in options.lookahead_ms.split(",") if wish.strip()]
    except ValueError:
        raise OptionError(
            f"--lookahead-ms must be numbers with commas, not {options.lookahead_ms!r}."
        ) from None
    for name in [name for name in sets if name in OF_CORPUS and options.corpus is None]:
        if options.sets != "all":
            raise OptionError(f"The set {name} needs a corpus: give --corpus DIR.")
        print(f"Without --corpus the held-out {name} are left out.")
        sets.remove(name)
    evaluation = Evaluation(options)
    accounts: dict[str, Callable[[], None]] = {
        "english": lambda: evaluation.english(under, lookaheads_ms),
        "languages": evaluation.languages,
        "voices": lambda: evaluation.held_out("voices", Path(str(options.corpus))),
        "actors": lambda: evaluation.held_out("actors", Path(str(options.corpus))),
        "idle": evaluation.idle,
    }
    for name in sets:
        accounts[name]()
    print(summary(evaluation.report.facts))
    print(f"wrote {options.json}; `python -m benchmarks.figures` brings it into the pages")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print(
            "\nStopped. What was animated is kept, and the same command goes on from there.", file=sys.stderr
        )
        sys.exit(130)
    except ModuleNotFoundError as error:
        print(f"model.evaluate: {error}. pip install -e '.[cpu,train,evaluate]' has it.", file=sys.stderr)
        sys.exit(2)
    except (FaceError, RecordingsMissing, OptionError, FileNotFoundError) as error:
        print(f"model.evaluate: {error}", file=sys.stderr)
        sys.exit(2)
