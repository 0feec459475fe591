"""The report on several attacks: their table, the bracket, and the checks of each attack."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd

from gradcam_adv.attacks.names import TITLES
from gradcam_adv.models.backbones import title
from gradcam_adv.plots import style
from gradcam_adv.report import drawing, gain
from gradcam_adv.report.text import counted, interval, number, percent, rows_of
from gradcam_adv.study import comparison, sanity
from gradcam_adv.study.attacks import BLACK_BOX, NOISE, WHITE_BOX, conditions_of, draw_of
from gradcam_adv.study.plan import ArmPlan
from gradcam_adv.study.tables import select

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Tables = dict[str, pd.DataFrame]


def derived(plan: ArmPlan, summary: Tables) -> Tables:
    """The tables "attacks", of a study with several, and "checks", of the tables that are there."""
    study, found = plan.study, {}
    conditions = conditions_of(study)
    if study.further_attacks and {"accuracy", "mod", "gain"} <= summary.keys():
        found["attacks"] = comparison.attacks(
            summary["accuracy"], summary["mod"], summary["gain"], conditions
        )
    if {"predictions", "zero_gradients"} <= summary.keys():
        predictions = pd.concat([summary["predictions"], *_further_draws(plan)], ignore_index=True)
        people = len(plan.photos.identities)
        found["checks"] = sanity.checks(
            predictions, summary["zero_gradients"], conditions, study.source, people
        )
    return found


def _further_draws(plan: ArmPlan) -> Iterator[pd.DataFrame]:
    """Each network's predictions under the further draws of random signs, if there are any."""
    if plan.study.noise_draws > 1:
        for network in plan.study.networks:
            table = plan.evaluate[network].predictions()
            again = table["attack"].map(draw_of) > 1
            yield table[again & table["epsilon"].isin(plan.study.epsilons)]


def rows(plan: ArmPlan, attacks: pd.DataFrame) -> list[dict[str, str]]:
    """Each network, attack and threat model at each epsilon; on the source both are white-box."""
    return [
        {
            "Network": title(row.network),
            "Attack": TITLES[row.attack],
            "Made on": "itself" if row.threat == WHITE_BOX else title(plan.study.source),
            "ε": f"{row.epsilon:g}",
            "Accuracy, %": interval(
                row.accuracy, row.accuracy_low, row.accuracy_high, as_percent=True
            ),
            "MOD": interval(row.mod, row.mod_low, row.mod_high),
            "Gain over noise": gain.ends(row.gain, row.gain_low, row.gain_high, ".1f"),
            "Noise's MOD": number(row.mod_noise),
            "Unrelated": number(row.unrelated),
        }
        for row in rows_of(
            _once(plan, plan.headline(attacks)).sort_values(
                ["network", "threat", "epsilon"], key=_in_order_of(plan), kind="stable"
            )
        )
    ]


def _in_order_of(plan: ArmPlan) -> Any:
    """Sorts networks as the study has them, and white-box before black-box."""
    order = {name: i for i, name in enumerate((*plan.study.networks, WHITE_BOX, BLACK_BOX))}
    return lambda column: column.map(order) if column.dtype.kind not in "if" else column


def _once(plan: ArmPlan, table: pd.DataFrame) -> pd.DataFrame:
    """Without the source's black-box rows, which are its white-box rows once more."""
    return table[(table["network"] != plan.study.source) | (table["threat"] == WHITE_BOX)]


def sentences(plan: ArmPlan, bracket: pd.DataFrame) -> list[str]:
    """Whether each step of the bracket holds, and where it clearly does not."""
    table = _once(plan, plan.headline(bracket))
    return [
        _sentence(threat, lower, upper, of_step)
        for (threat, lower, upper), of_step in table.groupby(
            ["threat", "lower", "upper"], sort=False
        )
    ]


def _sentence(threat: Any, lower: Any, upper: Any, steps: pd.DataFrame) -> str:
    up, down = steps[steps["low"] > 0], steps[steps["high"] < 0]
    unclear = len(steps) - len(up) - len(down)
    below, above = TITLES.get(lower, lower), TITLES[upper]
    said = f"{below} ≤ {above}, {threat}: "
    if len(up) == len(steps):
        return f"{said}holds on every network at every ε ({len(steps)} of {len(steps)})."
    parts = [f"{above} clearly moves heatmaps further in {len(up)} of {len(steps)} cases"]
    if len(down):
        parts.append(f"clearly less far in {len(down)} ({', '.join(_places(down))})")
    if unclear:
        parts.append(f"{unclear} not clear")
    return f"{said}{'does not hold everywhere: ' if len(down) else ''}{', '.join(parts)}."


def _places(steps: pd.DataFrame) -> Iterator[str]:
    for network, of_network in steps.groupby("network", sort=False):
        levels = ", ".join(f"{epsilon:g}" for epsilon in of_network["epsilon"])
        yield f"{title(str(network))} at ε = {levels}"


def figure(plan: ArmPlan, attacks: pd.DataFrame, bracket: pd.DataFrame) -> Figure:
    """MOD of every white-box attack against epsilon, with noise and unrelated photos."""
    networks = plan.study.networks
    table = select(plan.headline(attacks), threat=WHITE_BOX)
    drawn, (axes,) = drawing.panels(networks, plan.study.source, (2.8 + 2.8 * len(networks), 4.2))
    for axis, network in zip(axes, networks, strict=True):
        of_network = select(table, network=network)
        first = select(of_network, attack=plan.study.own_attack)
        style.curve(axis, first, "mod_noise", NOISE, band=False)
        for attack in plan.study.attack:
            own = select(of_network, attack=attack)
            own = own.rename(columns={"mod_low": "low", "mod_high": "high"})
            style.curve(axis, own, "mod", TITLES[attack])
        style.unrelated_level(axis, first["unrelated"].iloc[0])
        axis.set_xlabel("ε")
        axis.locator_params(axis="x", nbins=3)
        axis.grid(axis="y", alpha=0.3)
    axes[0].set_ylabel("MOD (mean NISSIM)")
    axes[0].set_ylim(bottom=0)
    steps = select(plan.headline(bracket), threat=WHITE_BOX)
    clear, back = int((steps["low"] > 0).sum()), int((steps["high"] < 0).sum())
    heading = (
        f"From noise to the strongest attack, white-box: in {clear} of {len(steps)} steps heatmaps "
        f"clearly move further, in {back} clearly less far"
    )
    return drawing.finished(drawn, heading, axes[-1:])


def check_rows(checks: pd.DataFrame) -> list[dict[str, str]]:
    """Every check, the failed ones first."""
    order = {sanity.FAILED: 0, sanity.NOT_JUDGED: 1, sanity.PASSED: 2}
    table = checks.sort_values("verdict", key=lambda column: column.map(order), kind="stable")
    return [
        {
            "Check": row.check,
            "Network": _network(row.network),
            "Attack": TITLES.get(row.attack, "–"),
            "Compared with": TITLES.get(row.than, row.than) or "–",
            "ε": "–" if pd.isna(row.epsilon) else f"{row.epsilon:g}",
            "In numbers": _numbers(row),
            "Result": f"{row.verdict}: {row.why}",
        }
        for row in rows_of(table)
    ]


def _network(name: str) -> str:
    return "all" if name == "all" else title(name)


def _numbers(row: Any) -> str:
    """Points of accuracy that change; accuracy; or a share of zeros."""
    if pd.isna(row.value):
        return "–"
    unit = "%" if row.check in (sanity.CHANCE, sanity.GRADIENTS) else "points"
    digits = 3 if row.check == sanity.GRADIENTS else 1
    sign = "+" if unit == "points" and row.value > 0 else ""
    low, high = (percent(end, digits) for end in (row.low, row.high))
    return f"{sign}{percent(row.value, digits)} {unit} [{low}, {high}]"


def check_sentence(checks: pd.DataFrame) -> str:
    """How many checks passed, and which failed."""
    verdicts = checks["verdict"]
    passed = int((verdicts == sanity.PASSED).sum())
    not_judged = int((verdicts == sanity.NOT_JUDGED).sum())
    failed = "; ".join(warning(row) for row in rows_of(sanity.failures(checks)))
    return (
        f"{passed} of {counted(len(checks), 'check')} passed, {not_judged} not judged, "
        f"{len(checks) - passed - not_judged} failed{f': {failed}' if failed else ''}."
    )


def warning(row: Any) -> str:
    """A failed check in one line."""
    at = f" at ε = {row.epsilon:g}" if row.check != sanity.GRADIENTS else ""
    return f"{TITLES[row.attack]} on {title(row.network)} fails “{row.check}”{at} ({_numbers(row)})"
