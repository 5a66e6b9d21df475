"""``python -m benchmarks.gpu --json FILE``: the whole measurement of a GPU in one command.

The engine's table (``benchmarks.engine``) for each GPU provider that really opens, float16 and float32,
batches up to 256 with the copies to the device and back; the peak of the same card; the speakers that its
engine would hold with batches within 33 ms; and parity of each variant on the card with float32 on the
processor. Aims: at least 4,000 speakers, and 40 % of the measured float16 peak at the best batch.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from benchmarks.engine import BATCHES_GPU, gpus, measure, parser_of, show, suiting
from benchmarks.provenance import provenance, write
from streamer.contract.errors import FaceError
from streamer.engine.backend import OnnxBackend
from streamer.engine.bundle import Bundle
from streamer.engine.providers import CPU, short
from streamer.engine.tuning import requests_of

AIMS = {"streams": 4000, "best_share_of_peak": 0.4}
PEAK_SIZE = 8192
NO_GPU = (
    "benchmarks.gpu: no GPU computes here: it needs an NVIDIA card, its driver, and "
    'pip install "diffspeaker-live[gpu]". See `diffspeaker info`.'
)


def difference(bundle: Bundle, provider: str, variant: str) -> float:
    """The largest difference of a batch on the card from the reference on the processor."""
    requests = requests_of(bundle, 8)
    expected = OnnxBackend(bundle, [CPU], variant="fp32").infer(requests)
    return float(np.abs(OnnxBackend(bundle, [provider], variant=variant).infer(requests) - expected).max())


def opening(bundle: Bundle, providers: list[str]) -> tuple[list[str], dict[str, str]]:
    """The providers that open with this bundle, and why the others do not."""
    good, reasons = [], {}
    for provider in providers:
        try:
            OnnxBackend(bundle, [provider])
            good.append(provider)
        except FaceError as refusal:
            reasons[short(provider)] = refusal.message
    return good, reasons


def main(argv: list[str] | None = None) -> int:
    """Measures; returns the exit code, 2 where there is no GPU."""
    options = parser_of("python -m benchmarks.gpu", __doc__).parse_args(argv)
    bundle = Bundle.load(options.bundle)
    providers, reasons = opening(bundle, gpus())
    if not providers:
        print(NO_GPU, file=sys.stderr)
        for name, reason in reasons.items():
            print(f"  {name}: {reason}", file=sys.stderr)
        return 2
    variants = suiting(bundle, options.variants, providers[0])
    result: dict[str, Any] = measure(bundle, providers, variants, 1, options.rounds, PEAK_SIZE)
    result["difference"] = {
        f"{short(provider)} {variant}": difference(bundle, provider, variant)
        for provider in providers
        for variant in variants
    }
    show(result)
    for name, aim in AIMS.items():
        met = "yes" if result[name] >= aim else "no"
        print(f"{name.replace('_', ' ')}: {result[name]} (aim ≥ {aim:g}: {met})")
    config = {"rounds": options.rounds, "batches": list(BATCHES_GPU), "not_opening": reasons}
    config["bundle"] = f"{bundle.manifest.name} {bundle.manifest.version}"
    write(options.json, {**result, "config": config, **provenance()})
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
