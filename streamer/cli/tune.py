"""``diffspeaker tune``: measures this machine, and writes what ``serve`` should be started with."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from streamer.cli.config import option, parse
from streamer.contract.errors import FaceError
from streamer.engine.backend import OnnxBackend, available_providers
from streamer.engine.bundle import Bundle
from streamer.engine.capacity import measured_capacity
from streamer.engine.providers import CPU, named_providers, preferred_providers, short
from streamer.engine.tuning import BATCHES, ROUNDS, Row, choose, measure, workers_of

DESCRIPTION = """Times the model with every variant, thread count and batch size, and writes the best for
`diffspeaker serve` into a file. Takes about a minute; leave the machine alone meanwhile.

  diffspeaker tune
  diffspeaker serve --config diffspeaker.toml"""


@dataclass(frozen=True)
class TuneOptions:
    """The options of ``diffspeaker tune``."""

    bundle: Path | None = option(None, "the model's folder; the one that ships where none is given")
    out: Path = option(Path("diffspeaker.toml"), "the file to write, for --config; - prints it", short="-o")
    overwrite: bool = option(False, "replace the file where there is one")
    provider: str | None = option(
        None, "what computes: tensorrt, cuda, coreml, directml, cpu; by default what is found", metavar="NAME"
    )


def run(argv: list[str]) -> int:
    """Runs the command; returns its exit code."""
    options = parse(TuneOptions, argv, "diffspeaker tune", DESCRIPTION)
    printed = str(options.out) == "-"
    if not printed and options.out.exists() and not options.overwrite:
        raise FaceError("bad_config", f"{options.out} exists.", "Add --overwrite, or name another with -o.")
    bundle = Bundle.load(options.bundle)
    providers = None if options.provider is None else named_providers(options.provider)
    threads = _thread_counts(os.cpu_count() or 1)
    variants = [name for name in bundle.variants if name != "fp16"] if _on_cpu(providers) else None
    total = ROUNDS * len(threads) * len(BATCHES) * len(variants or (None,))
    with tqdm(total=total, desc="timing", unit="batch", disable=True if printed else None) as bar:
        rows = measure(bundle, threads, providers, variants, on_row=bar.update)
    timing = bundle.manifest.timing
    hop_ms = timing.grid().hop_ms(timing.hop.default_frames)
    cores = os.cpu_count() or 1
    best = choose(rows, hop_ms, cores)
    workers = workers_of(best, cores)
    backends = [OnnxBackend(bundle, [best.provider], best.threads, best.variant) for _ in range(workers)]
    speakers = measured_capacity(backends, bundle, best.batch, hop_ms, seconds=2.0)
    text = _toml(best, rows, speakers, workers)
    if printed:
        print(text, end="")
        return 0
    options.out.write_text(text)
    print(_table(rows, best))
    print(f"wrote {options.out}; diffspeaker serve --config {options.out}")
    return 0


def _on_cpu(providers: list[str] | None) -> bool:
    return (providers or preferred_providers(available_providers()))[0] == CPU


def _thread_counts(cores: int) -> list[int]:
    """1, 2, 4 … up to the number of cores."""
    counts = [1]
    while counts[-1] * 2 <= min(cores, 16):
        counts.append(counts[-1] * 2)
    return counts


def _toml(best: Row, rows: list[Row], speakers: int, workers: int) -> str:
    return (
        f"# Written by `diffspeaker tune`: {best.windows_per_s:.0f} windows a second for a worker alone;\n"
        f"# {len(rows)} settings were timed. max_sessions is measured with all workers at once.\n"
        "[serve]\n"
        f'provider = "{short(best.provider)}"\n'
        f'variant = "{best.variant}"\n'
        f"workers = {workers}\n"
        f"threads = {best.threads}\n"
        f"max_batch = {best.batch}\n"
        f"max_sessions = {speakers}\n"
    )


def _table(rows: list[Row], best: Row) -> str:
    """Milliseconds per window, a line for each variant and thread count, a column for each batch size."""
    batches = sorted({row.batch for row in rows})
    lines = [f"{'ms per window':<18}" + "".join(f"{f'batch {batch}':>10}" for batch in batches)]
    for provider, variant, threads in dict.fromkeys((r.provider, r.variant, r.threads) for r in rows):
        cells = {
            r.batch: r for r in rows if (r.provider, r.variant, r.threads) == (provider, variant, threads)
        }
        name = f"{short(provider)} {variant} ×{threads}"
        texts = [f"{cells[b].batch_ms / b:.2f}{'*' if cells[b] is best else ''}" for b in batches]
        lines.append(f"{name:<18}" + "".join(f"{text:>10}" for text in texts))
    return "\n".join(lines)
