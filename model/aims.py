"""The aims that the default model was set, as a table: which figure, what it must reach, what it has reached.

They were fixed before the model was trained. An aim that the idealised curves themselves miss is marked by
the ceiling that stands beside it; none was moved to be met.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Bound:
    """What a figure must reach: at least, at most, or within a distance of something."""

    words: str
    holds: Callable[[float], bool]


def at_least(least: float, unit: str = "") -> Bound:
    """≥ least."""
    return Bound(f"≥ {least:g}{unit}", lambda value: value >= least)


def at_most(most: float, unit: str = "") -> Bound:
    """≤ most."""
    return Bound(f"≤ {most:g}{unit}", lambda value: value <= most)


def within(reach: float, around: float = 0.0, unit: str = "") -> Bound:
    """No further than ``reach`` from ``around``."""
    words = f"±{reach:g}{unit}" if around == 0 else f"{around - reach:g} to {around + reach:g}{unit}"
    return Bound(words, lambda value: abs(value - around) <= reach + 1e-9)


def factor(most: float) -> Bound:
    """No more than ``most`` times greater or smaller."""
    return Bound(f"÷ or × {most:g}", lambda value: value > 0 and max(value, 1 / value) <= most)


@dataclass(frozen=True)
class Aim:
    """A row: what it is called, its key in an account, its bound, and how a value is written."""

    title: str
    key: str
    bound: Bound
    form: str = "{:.3f}"


@dataclass(frozen=True)
class Verdict:
    """An aim beside what was reached; ``ideal`` is the ceiling, None where it is 1 or 0 by definition."""

    aim: Aim
    reached: float | None
    ideal: float | None = None

    @property
    def met(self) -> bool:
        """Whether it is reached; what could not be measured is not."""
        return self.reached is not None and self.aim.bound.holds(self.reached)

    def written(self, value: float | None) -> str:
        """A value as the row writes it."""
        return "–" if value is None else self.aim.form.format(value)


AUCS = {
    "closure_auc": "closure: P B M from all others (AUC)",
    "opening_auc": "opening: open vowels from closing consonants (AUC)",
    "rounding_auc": "rounding (AUC)",
    "labiodental_auc": "labiodental: F V (AUC)",
}
_PAUSE, _SETTLED = "mouth in pauses, of its opening", "the same until 150 ms before the next word"
_FIVE = at_most(5, " %")
ENGLISH = (
    Aim(AUCS["closure_auc"], "closure_auc", at_least(0.98)),
    Aim(AUCS["opening_auc"], "opening_auc", at_least(0.96)),
    Aim(AUCS["rounding_auc"], "rounding_auc", at_least(0.97)),
    Aim(AUCS["labiodental_auc"], "labiodental_auc", at_least(0.98)),
    Aim("closure recall at equal error", "closure_recall", at_least(0.92)),
    Aim("correlation of the opening with the idealised curve", "opening_r", at_least(0.90)),
    Aim("best lag", "lag_ms", within(10, unit=" ms"), "{:+.1f} ms"),
    Aim("misalignment of openings and closings in time (MTM)", "mtm_ms", at_most(40, " ms"), "{:.1f} ms"),
    Aim(_PAUSE, "pause_mean_percent", at_most(3, " %"), "{:.1f} %"),
    Aim(_SETTLED, "settled_mean_percent", at_most(3, " %"), "{:z.1f} %"),
    Aim("jitter of the lips ÷ that of the idealised curves", "jitter_ratio", within(0.15, 1), "{:.2f}"),
    Aim("seam ratio", "seam_ratio", at_most(1.05)),
    Aim("offline–online gap: distance of the two, of LVE", "offline_online_percent", _FIVE, "{:.1f} %"),
    Aim("the same: how much streaming adds to LVE", "streaming_cost_percent", _FIVE, "{:+.1f} %"),
)
COSTS = {"noise": 0.05, "telephone": 0.05, "loud": 0.01, "quiet": 0.01}
LANGUAGE = (
    Aim("best lag against loudness", "lag_ms", within(20, unit=" ms"), "{:+.1f} ms"),
    Aim(_PAUSE, "pause_mean_percent", at_most(3, " %"), "{:.1f} %"),
    Aim(_SETTLED, "settled_mean_percent", at_most(3, " %"), "{:z.1f} %"),
)
RATIOS = (
    Aim("jitter ÷ English", "jitter_mm", factor(1.3), "{:.2f}"),
    Aim("seams ÷ English", "seam_ratio", factor(1.3), "{:.2f}"),
    Aim("closures per second ÷ English", "closures_per_s", factor(1.3), "{:.2f}"),
)


def english(facts: Facts) -> list[Verdict]:
    """The reserved English recordings, clean, against every aim; then what each condition costs at most."""
    section = facts.get("english", {})
    conditions = section.get("conditions", {})
    clean, ideal = conditions.get("clean"), section.get("ideal", {})
    if clean is None:
        return []
    rows = [Verdict(aim, clean.get(aim.key), ideal.get(aim.key)) for aim in ENGLISH]
    for name, most in COSTS.items():
        if name in conditions:
            cost = max(clean[key] - conditions[name][key] for key in AUCS)
            aim = Aim(f"greatest cost to an AUC: {name}", name, at_most(most), "{:+.4f}")
            rows.append(Verdict(aim, cost))
    return rows


def languages(facts: Facts) -> dict[str, list[Verdict]]:
    """Each other language against its aims; empty where English was not measured beside it."""
    section = facts.get("languages", {})
    beside = section.get("english")
    if beside is None:
        return {}
    return {
        language: [Verdict(aim, figures.get(aim.key)) for aim in LANGUAGE]
        + [Verdict(aim, _ratio(figures.get(aim.key), beside.get(aim.key))) for aim in RATIOS]
        for language, figures in section.items()
        if language != "english"
    }


def _ratio(value: float | None, beside: float | None) -> float | None:
    return value / beside if value is not None and beside else None


def summary(facts: Facts) -> str:
    """All verdicts as lines for a terminal."""
    titled = {"human English": english(facts)} | {f"human {n}": rows for n, rows in languages(facts).items()}
    lines = []
    for title, rows in titled.items():
        lines += [title] * bool(rows)
        for row in rows:
            ideal = f"  (ideal {row.written(row.ideal)})" if row.ideal is not None else ""
            answer = "yes" if row.met else "no" if row.reached is not None else "–"
            lines.append(
                f"  {answer:3} {row.aim.title:58} {row.written(row.reached):>9}"
                f"  aim {row.aim.bound.words}{ideal}"
            )
    return "\n".join(lines)
