"""A comparison of two runs in words: Markdown for a terminal or a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from gradcam_adv.models import backbones
from gradcam_adv.report.cells import (
    NOISE_ROW,
    interval,
    markdown,
    number,
    percent,
    select,
    title_of,
)
from gradcam_adv.report.compare import Comparison, Run, Tested
from gradcam_adv.report.sections import ARMS
from gradcam_adv.study.config import Arm, Study

UNITS = {"pixel": "pixels in [0, 1]", "network": "units of the network's own input"}


def describe(comparison: Comparison) -> str:
    """The comparison in Markdown: what the runs are, what differs, and the black-box attack."""
    first, second = comparison.runs
    parts = [
        f"# Runs compared: {first.study.name} and {second.study.name}",
        f"{_about('First', first)}\n{_about('Second', second)}",
        *_warnings(first, second, comparison.vid),
        *_settings_differ(comparison.settings),
        "Each cell: `first → second: difference [95 % bootstrap interval over identities]`, the "
        "difference being second less first. An interval that holds 0 does not show a difference, "
        "nor that there is none; one without width, where all photos agree, is no certainty; and "
        "of each run these are the heads of its first seed, which no interval here counts in.",
    ]
    for arm, tested in comparison.tested.items():
        parts += _section(comparison, arm, tested)
    return "\n\n".join(parts)


def _about(which: str, run: Run) -> str:
    own = run.study
    by_origin: dict[str, list[str]] = {}
    for network, origin in run.weights.items():
        by_origin.setdefault(origin, []).append(title_of(network))
    weights = "; ".join(
        f"{'RANDOM' if origin == 'random' else origin} ({', '.join(networks)})"
        for origin, networks in by_origin.items()
    )
    return (
        f"- **{which}**: {run.folder}, study {own.name}. Photos: {own.photos}. Weights of the "
        f"frozen bases: {weights}. {own.image_size} px, seed {own.seed} (heads: {own.seeds[0]}), "
        f"black-box attack made on "
        f"{title_of(own.source)}, epsilon in {UNITS[own.readings.epsilon_unit]}."
    )


def _warnings(first: Run, second: Run, vid: pd.DataFrame) -> list[str]:
    """What keeps numbers of the two from meaning the same, or from being compared at all."""
    one, other = first.study, second.study
    own, others = one.readings, other.readings
    lines = []
    units = [
        f"{title_of(network)} {_unit(one, network):.3g} and {_unit(other, network):.3g}"
        for network in one.networks
        if network in other.networks and _unit(one, network) != _unit(other, network)
    ]
    if units:
        lines.append(
            "**Epsilon does not mean the same in both**: the first counts it in "
            f"{UNITS[own.epsilon_unit]}, the second in {UNITS[others.epsilon_unit]}. An epsilon of "
            f"1 changes pixels in [0, 1], in the first and in the second, by: {'; '.join(units)}. "
            "So columns of one epsilon hold attacks of different strength."
        )
    if one.source != other.source:
        lines.append(
            f"**The black-box attack is another one in each**: made on {title_of(one.source)} in "
            f"the first, on {title_of(other.source)} in the second."
        )
    if (own.explained_class, own.heatmap_size) != (others.explained_class, others.heatmap_size):
        lines.append(
            "**MOD and VID are of other heatmaps in each**: the first explains the class "
            f"{own.explained_class!r} at size {own.heatmap_size!r}, the second "
            f"{others.explained_class!r} at {others.heatmap_size!r}."
        )
    if own.vid_levels != others.vid_levels:
        lines.append(
            f"**VID goes over other levels in each**: {own.vid_levels!r} in the first, "
            f"{others.vid_levels!r} in the second."
        )
    if one.epsilons != other.epsilons:
        common = [f"{epsilon:g}" for epsilon in one.epsilons if epsilon in other.epsilons]
        lines.append(
            f"Only the epsilons of both are compared, {', '.join(common)}, and VID goes over these "
            "alone: it is not the VID of either run's report."
        )
    if vid.empty:
        lines.append("VID is left out: it needs two levels that both runs have.")
    for what, mine, theirs in (
        ("networks", one.networks, other.networks),
        ("arms", one.arms, other.arms),
    ):
        alone = [name for name in (*mine, *theirs) if name not in mine or name not in theirs]
        if alone:
            lines.append(f"Left out, being in one run alone: {what} {', '.join(alone)}.")
    return ["\n".join(f"> - {line}" for line in lines)] if lines else []


def _unit(of: Study, network: str) -> float:
    readings = of.readings
    return backbones.epsilon_unit(network, readings.epsilon_unit, readings.preprocessing)


def _settings_differ(settings: pd.DataFrame) -> list[str]:
    if settings.empty:
        return ["The two differ in no setting."]
    rows = settings.rename(columns=str.capitalize).to_dict("records")
    return ["Settings that differ:", markdown(rows)]


def _section(comparison: Comparison, arm: Arm, tested: Tested) -> list[str]:
    first, second = comparison.runs

    def rows(table: pd.DataFrame, *, as_percent: bool) -> list[Mapping[str, str]]:
        """Each network under the attack, and below it under random signs."""
        written: list[Mapping[str, str]] = []
        for network, group in select(table, arm=arm).groupby("network", sort=False):
            names = {"black-box": _name(str(network), first, second), "noise": NOISE_ROW}
            for attack, name in names.items():
                cells = select(group, attack=attack).to_dict("records")
                written.append(
                    {"Network": name} | {_column(cell): _cell(cell, as_percent) for cell in cells}
                )
        return written

    mod = comparison.mod[comparison.mod["epsilon"] > 0]
    parts = [
        f"## {ARMS[arm]}",
        _on_which_photos(tested),
        "### Accuracy under the black-box attack, %, and difference in percentage points",
        markdown(rows(comparison.accuracy, as_percent=True)),
        "### MOD under the black-box attack",
        "To be read between that of random-sign noise and each run's ceiling, which is in its "
        "report.",
        markdown(rows(mod, as_percent=False)),
    ]
    if len(comparison.vid):
        parts += [
            "### VID under the black-box attack",
            markdown(rows(comparison.vid, as_percent=False)),
        ]
    return parts


def _on_which_photos(tested: Tested) -> str:
    counts = [
        f"{p} test photos of {n} people" for p, n in zip(tested.photos, tested.people, strict=True)
    ]
    start = f"First {counts[0]}, second {counts[1]}. "
    common = len(tested.common)
    if tested.paired:
        return start + (
            f"**Paired**: compared photo by photo on the {common} that both test, and every number "
            "is a mean over these."
        )
    return start + (
        f"**Not paired**: {common} photos and {tested.common_people} names of people are in both, "
        "too few photos to compare one by one; each run's people are drawn apart from the "
        "other's, as if the two had nobody in common."
    )


def _name(network: str, first: Run, second: Run) -> str:
    """A network's title; on the source the black-box attack is the white-box one."""
    sources = [run.study.source == network for run in (first, second)]
    if all(sources):
        return f"{title_of(network)} (source: white-box)"
    if any(sources):
        return (
            f"{title_of(network)} (source of the {'first' if sources[0] else 'second'}: white-box)"
        )
    return title_of(network)


def _column(cell: Mapping[Any, Any]) -> str:
    return f"ε = {cell['epsilon']:g}" if "epsilon" in cell else "VID"


def _cell(cell: Mapping[Any, Any], as_percent: bool) -> str:
    show = percent if as_percent else number
    change = interval(cell["difference"], cell["low"], cell["high"], as_percent=as_percent)
    return f"{show(cell['first'])} → {show(cell['second'])}: {change}"
