"""The report on the gain: how many times larger noise must be to do what the attack does."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.ticker import FuncFormatter

from gradcam_adv.models.backbones import title
from gradcam_adv.plots import style
from gradcam_adv.report import drawing
from gradcam_adv.report.text import by_epsilon, by_value, percent, rows_of
from gradcam_adv.study.attacks import BLACK_BOX, CONTROLS, MIRRORED, NOISE, OTHER_PHOTO, WHITE_BOX
from gradcam_adv.study.plan import ArmPlan
from gradcam_adv.study.settings import Study
from gradcam_adv.study.tables import select

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def control_names(study: Study) -> dict[str, str]:
    """What the controls are called: two are made of what the study's attack adds, FGSM signs."""
    added = "signs" if study.own_attack == "fgsm" else "perturbation"
    return {NOISE: "noise", MIRRORED: f"mirrored {added}", OTHER_PHOTO: f"another photo's {added}"}


def rows(plan: ArmPlan, gain: pd.DataFrame) -> list[dict[str, str]]:
    """Each network, attack, control and class: a cell per epsilon."""
    names, written = control_names(plan.study), []
    for network in plan.study.networks:
        for attack in (WHITE_BOX, BLACK_BOX):
            # On the source both attacks are the same.
            if attack == BLACK_BOX and network == plan.study.source:
                continue
            for control in CONTROLS:
                table = select(_shown(plan, gain), network=network, attack=attack, control=control)
                for target, of_target in table.groupby("target", sort=False):
                    about = {"Network": title(network), "Attack": attack}
                    about |= {"Over": names[control], "Class": str(target)}
                    written.append(about | by_epsilon(of_target, cell))
    levels = sorted({key for row in written for key in row if key.startswith("ε")}, key=_size)
    keys = ["Network", "Attack", "Over", "Class", *levels]
    return [{key: row.get(key, "–") for key in keys} for row in written]


def _size(heading: str) -> float:
    return float(heading.removeprefix("ε = "))


def half_shift_rows(plan: ArmPlan, half_shift: pd.DataFrame) -> list[dict[str, str]]:
    return [
        {
            "Network": title(row.network),
            "Attack": row.attack,
            "Class": row.target,
            "Attack's": half(row, "half_shift"),
            "Noise's": half(row, "noise"),
            "Ratio": _ratio(row),
        }
        for row in rows_of(_shown(plan, half_shift))
        if not (row.attack == BLACK_BOX and row.network == plan.study.source)
    ]


def draw_rows(plan: ArmPlan, draws: pd.DataFrame) -> list[dict[str, str]]:
    """MOD of noise at each epsilon, and the range of its draws; nothing for a single draw."""
    return [
        {"Network": title(network), "Class": target}
        | by_epsilon(of_target, lambda row: f"{row.mod:.3f} ({row.least:.3f}–{row.greatest:.3f})")
        for network, of_network in by_value(_shown(plan, draws[draws["draws"] > 1]), "network")
        for target, of_target in by_value(of_network, "target")
    ]


def order_rows(plan: ArmPlan, order: pd.DataFrame) -> list[dict[str, str]]:
    """Of every two networks the share of draws in which the first has the greater gain."""
    order = plan.headline(order)
    return [
        {"Networks": f"{title(first)} above {title(second)}"}
        | by_epsilon(
            select(order, network=first, other_network=second), lambda row: f"{100 * row.share:.0f}"
        )
        for first, second in itertools.combinations(plan.study.networks, 2)
    ]


def spectrum(plan: ArmPlan, shares: pd.DataFrame) -> str:
    """Each network's share of low frequencies, then that of random signs."""

    def shown(name: str, row: Any) -> str:
        return f"{name} {percent(row.low_frequency)} % [{percent(row.low)}, {percent(row.high)}]"

    own = [shown(title(row.network), row) for row in rows_of(select(shares, attack=WHITE_BOX))]
    noise = next(rows_of(select(shares, attack=NOISE)))
    return ", ".join([*own, shown("random signs", noise)])


def _shown(plan: ArmPlan, table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the size that the study reads, of every class."""
    return select(table, size=plan.study.readings.heatmap_size)


def cell(row: Any) -> str:
    """A gain with its interval, such as "6.8 [5.9, 7.8]", or "> 3" with the bound."""
    if math.isinf(row.gain):
        low = "" if math.isinf(row.low) else f" [{row.low:.1f}, ∞)"
        return f"> {row.most / row.epsilon:.3g}{low}"
    return ends(row.gain, row.low, row.high, ".1f")


def half(row: Any, name: str) -> str:
    """A half-shift epsilon with its interval, of the attack ("half_shift") or of "noise"."""
    value, low, high = (getattr(row, f"{name}{end}") for end in ("", "_low", "_high"))
    if name == "half_shift" and value < row.least:
        return f"< {row.least:g}"
    return ends(value, low, high, ".2g")


def _ratio(row: Any) -> str:
    """Of noise's half-shift epsilon by the attack's; a bound where the attack's is a bound."""
    if row.half_shift < row.least:
        return f"> {row.noise / row.least:.1f}" if math.isfinite(row.noise) else "–"
    return ends(row.ratio, row.ratio_low, row.ratio_high, ".1f")


def ends(value: float, low: float, high: float, form: str) -> str:
    """A number with its interval, whose ends may be infinite or unknown."""

    def shown(number: float) -> str:
        return "–" if math.isnan(number) else "∞" if math.isinf(number) else format(number, form)

    return f"{shown(value)} [{shown(low)}, {shown(high)}{')' if math.isinf(high) else ']'}"


def figure(
    plan: ArmPlan, gain: pd.DataFrame, curves: pd.DataFrame, half_shift: pd.DataFrame
) -> Figure:
    """MOD of the white-box attack and its controls against epsilon; below it the gain."""
    networks, names = plan.study.networks, control_names(plan.study)
    size = 2.8 + 2.6 * len(networks), 6.4
    drawn, axes = drawing.panels(networks, plan.study.source, size, rows=2)
    unrelated = select(plan.headline(half_shift), attack=WHITE_BOX).set_index("network")
    for (upper, lower), network in zip(axes.T, networks, strict=True):
        of_network = select(plan.headline(curves), network=network)
        for attack, kind in {WHITE_BOX: "attack", **names}.items():
            style.curve(upper, select(of_network, attack=attack), "mod", kind)
        style.unrelated_level(upper, unrelated["unrelated"][network])
        own = select(plan.headline(gain), network=network, attack=WHITE_BOX)
        for control in CONTROLS:
            style.curve(lower, select(own, control=control), "gain", names[control])
        lower.axhline(1, color="black", linewidth=0.8)
        lower.set_xscale("log")
        lower.set_yscale("log")
        lower.set_xlabel("ε")
        for axis in (lower.xaxis, lower.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
    axes[0, 0].set_ylabel("MOD (mean NISSIM)")
    axes[0, 0].set_ylim(bottom=0)
    axes[1, 0].set_ylabel("gain over")
    for axis in axes.flat:
        axis.grid(alpha=0.3)
    return drawing.finished(drawn, _finding(plan, gain), axes[:, -1])


def _finding(plan: ArmPlan, gain: pd.DataFrame) -> str:
    epsilon = min(plan.study.attacked_epsilons)
    own = select(plan.headline(gain), attack=WHITE_BOX, control=NOISE, epsilon=epsilon)
    each = ", ".join(f"{title(r.network)} {cell(r).partition(' [')[0]}" for r in rows_of(own))
    return (
        f"Noise must be so many times larger to move the heatmaps as far as an attack of "
        f"ε = {epsilon:g}: {each}"
    )
