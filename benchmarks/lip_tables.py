"""The tables of how well the default model reads lips, as Markdown, from ``results/lips.json`` and
``results/steps.json``: what ``python -m model.evaluate`` and ``python -m benchmarks.steps`` wrote.

What an evaluation did not measure is said to be missing, with the command that measures it. What other tools
reach was measured once, before this model was trained, on the same prompts and by the same definitions, each
tool at its own best lag; those rows are facts quoted, not results of a command here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from model import aims
from model.aims import AUCS, Verdict

Facts = Mapping[str, Any]
EVALUATE = "python -m model.evaluate --corpus CORPUS"

# closure, opening, rounding, labiodental
OTHERS = {
    "wlipsync 1.3.1 (npm)": (0.51, 0.92, 0.85, 0.50),
    "@met4citizen/headaudio 0.1.0 (npm)": (0.63, 0.67, 0.57, 0.50),
    "wawa-lipsync (npm)": (0.51, 0.65, 0.50, 0.50),
    "lips that flap with the energy": (0.59, 0.93, 0.50, 0.50),
    "a log-mel regressor of 0.8 M parameters, at zero lag": (0.94, 0.83, 0.93, 0.96),
}


def rows(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def caption(facts: Facts, words: str) -> str:
    """What a table shows, at which commit, and whether it is the whole account."""
    every = facts["basis"]["every"]
    part = f" **A quick look at one recording in {every}.**" if every > 1 else ""
    return f"{words}\n(`{EVALUATE}`; commit {facts['commit']}).{part}\n\n"


def bundle(facts: Facts) -> str:
    """What the bundle is and what it cost."""
    about = facts["bundle"]
    lines = {
        "bundle": f"{about['name']} {about['version']}, {about['megabytes']:.1f} MB with its face",
        "network": f"{about['parameters'] / 1e6:.2f} million parameters, "
        f"{about['denoise_steps']} denoise steps, {about['precision']}",
        "audio encoder": about["audio_encoder"],
        "speech learnt from": f"{about['speech_hours']:.1f} hours, {about['speech']}",
        "trained": f"{about['hours']:.1f} hours on {about['hardware']}, commit {about['commit']}",
    }
    return rows(["", ""], list(lines.items()))


def english(facts: Facts) -> str:
    """People speaking English, against every aim."""
    verdicts = aims.english(facts)
    if not verdicts:
        return _missing("English")
    speech = facts["english"]["speech"]
    met = sum(verdict.met for verdict in verdicts)
    words = (
        f"A person reading {speech['recordings']} English prompts ({speech['seconds'] / 60:.1f} minutes, "
        f"{speech['phones']} phones), streamed at\n{facts['basis']['lookahead_ms']:.0f} ms lookahead and "
        f"measured at zero lag. {met} of {len(verdicts)} aims are reached"
    )
    body = [_row(verdict) for verdict in verdicts]
    return caption(facts, words) + rows(["", "aim", "reached", "ideal curves", ""], body)


def others(facts: Facts) -> str:
    """The four contrasts beside other tools'."""
    ours = facts.get("english", {}).get("conditions", {}).get("clean")
    ideal = facts.get("english", {}).get("ideal")
    if ours is None:
        return _missing("English")
    body = [["**this model, at zero lag**", *(f"**{ours[key]:.2f}**" for key in AUCS)]]
    body += [[name, *(f"{value:.2f}" for value in values)] for name, values in OTHERS.items()]
    body.append(["*idealised curves, the ceiling*", *(f"{ideal[key]:.2f}" for key in AUCS)])
    words = "AUC on the same prompts; this model streaming at 80 ms lookahead"
    return caption(facts, words) + rows(["", *(key.removesuffix("_auc") for key in AUCS)], body)


def conditions(facts: Facts) -> str:
    """The same English prompts through noise, a telephone, and louder or quieter."""
    measured = facts.get("english", {}).get("conditions", {})
    if not measured:
        return _missing("English")
    return caption(facts, "The English prompts at 80 ms lookahead") + _sweep(measured, "condition")


def lookaheads(facts: Facts) -> str:
    """The same English prompts with more and less of the future."""
    measured = facts.get("english", {}).get("lookaheads", {})
    ordered = sorted(measured.values(), key=lambda figures: figures["ms"])
    if not ordered:
        return _missing("English")
    named = {f"{figures['ms']:.0f} ms": figures for figures in ordered}
    return caption(facts, "The English prompts, clean") + _sweep(named, "lookahead")


def languages(facts: Facts) -> str:
    """People speaking other languages."""
    verdicts = aims.languages(facts)
    if not verdicts:
        return _missing("other languages")
    titles = [f"{row.aim.title} ({row.aim.bound.words})" for row in next(iter(verdicts.values()))]
    section = facts["languages"]
    names = [f"{name.capitalize()}, {section[name]['seconds'] / 60:.1f} min" for name in verdicts]
    columns = [[_marked(verdict) for verdict in found] for found in verdicts.values()]
    body = [[title, *(column[at] for column in columns)] for at, title in enumerate(titles)]
    words = f"{len(names)} speakers; in brackets the aims, ✓ where one is reached"
    return caption(facts, words) + rows(["", *names], body)


def voices(facts: Facts) -> str:
    """Synthetic voices that training never heard."""
    return _held_out(facts, "voices", "Synthetic voices")


def actors(facts: Facts) -> str:
    """Actors that training never heard."""
    return _held_out(facts, "actors", "Actors in a game")


def _held_out(facts: Facts, name: str, who: str) -> str:
    section = facts.get(name, {})
    if "clean" not in section:
        return _missing(f"held-out {name}")
    speech, clean, ideal = section["speech"], section["clean"], section["ideal"]
    words = (
        f"{who}, held out of training, {speech['recordings']} utterances "
        f"({speech['seconds'] / 60:.1f} minutes)"
    )
    body = [[title, f"{clean[key]:.3f}", f"{ideal[key]:.3f}"] for key, title in AUCS.items()]
    body += [
        ["correlation of the opening with the idealised curve", f"{clean['opening_r']:.3f}", "1"],
        [f"LVE (a still face has {clean['lve_still_mm2']:.0f})", f"{clean['lve_mm2']:.1f} mm²", "0"],
        ["upper face: how much stiller than the idealised one (FDD)", f"{clean['fdd_mm']:z.3f} mm", "0"],
    ]
    return caption(facts, words) + rows(["", "reached", "ideal curves"], body)


def idle(facts: Facts) -> str:
    """What the face does by itself."""
    figures = facts.get("idle")
    if figures is None:
        return _missing("idle motion")
    return (
        f"In digital silence it blinks {figures['blinks_per_minute']:.0f} times a minute, and the gap of its "
        f"lips stays under\n{figures['silence_gap_mm']:.1f} mm in 95 % of the frames (at rest it is "
        f"{figures['rest_gap_mm']:.1f} mm). Two seeds speak the same sentence\n"
        f"{figures['diversity_mm']:.2f} mm apart, mean over the face."
    )


def steps(table: Facts | None) -> str:
    """Quality × steps × milliseconds."""
    if table is None:
        return (
            "Not measured yet: `python -m benchmarks.steps RUN CORPUS --json benchmarks/results/steps.json`."
        )
    head = [
        "",
        "LVE mm²",
        "÷ teacher",
        "closure AUC",
        "FDD mm",
        "blinks/min",
        "diversity mm",
        "ms per window",
    ]
    keys = (
        ("lve_mm2", ".2f"),
        ("lve_ratio", ".3f"),
        ("closure_auc", ".3f"),
        ("fdd_mm", ".3f"),
        ("blinks_per_minute", ".0f"),
        ("diversity_mm", ".2f"),
        ("ms_per_window", ".1f"),
    )
    body = [[name, *(format(row[key], form) for key, form in keys)] for name, row in table["steps"].items()]
    config = table["config"]
    return (
        f"{config['utterances']} utterances ({config['seconds']:.0f} s) of held-out voices, in PyTorch on "
        f"one thread\n(`python -m benchmarks.steps RUN CORPUS`; commit {table['commit']}):\n\n"
        + rows(head, body)
    )


def _sweep(measured: Mapping[str, Facts], name: str) -> str:
    """Contrasts, timing and error of several accounts, a row each."""
    head = [
        name,
        *(key.removesuffix("_auc") for key in AUCS),
        "recall",
        "r",
        "lag ms",
        "MTM ms",
        "LVE mm²",
        "seam",
    ]
    keys = (
        *((key, ".3f") for key in AUCS),
        ("closure_recall", ".3f"),
        ("opening_r", ".3f"),
        ("lag_ms", "+.0f"),
        ("mtm_ms", ".0f"),
        ("lve_mm2", ".1f"),
        ("seam_ratio", ".3f"),
    )
    return rows(
        head, [[title, *(format(f[key], form) for key, form in keys)] for title, f in measured.items()]
    )


def _row(verdict: Verdict) -> list[str]:
    aim = verdict.aim
    answer = "yes" if verdict.met else "**no**" if verdict.reached is not None else "–"
    return [
        aim.title,
        aim.bound.words,
        verdict.written(verdict.reached),
        verdict.written(verdict.ideal),
        answer,
    ]


def _marked(verdict: Verdict) -> str:
    if verdict.reached is None:
        return "–"
    return f"{verdict.written(verdict.reached)} {'✓' if verdict.met else '✗'}"


def _missing(what: str) -> str:
    return f"Not measured in this evaluation: {what} (`{EVALUATE}`)."
