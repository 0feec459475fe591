"""The transfer matrix: accuracy and MOD of each network under the attack made on each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.patches import Rectangle

from gradcam_adv.models.backbones import title
from gradcam_adv.paper import printed
from gradcam_adv.plots import style
from gradcam_adv.report import drawing
from gradcam_adv.report.text import UNRELATED, interval, number, percent, rows_of
from gradcam_adv.study import attacks
from gradcam_adv.study.plan import ArmPlan
from gradcam_adv.study.tables import select

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NOISE, CLEAN = "random-sign noise", "clean photos"


def values(plan: ArmPlan, summary: dict[str, pd.DataFrame]) -> dict[str, Any]:
    """Both matrices with their controls below, and the paper's values in the row that it prints.

    For the template "transfer".
    """
    table = summary["transfer"]
    accuracy, mod = _accuracy_with_controls(table, summary["accuracy"]), _mod_with_controls(table)
    accuracy["shown"] = [
        _beside_paper(row, percent(row.paper_accuracy))
        + interval(row.accuracy, row.low, row.high, as_percent=True)
        for row in rows_of(accuracy)
    ]
    mod["shown"] = [
        number(row.mod)
        if row.source in (NOISE, UNRELATED)
        else _beside_paper(row, number(row.paper_mod))
        + interval(row.mod, row.mod_low, row.mod_high)
        for row in rows_of(mod)
    ]
    return {
        "epsilon": table["epsilon"].iloc[0],
        "has_gaps": len(table) < len(plan.study.networks) ** 2,
        "accuracy": _rows(plan, accuracy),
        "mod": _rows(plan, mod),
    }


def _accuracy_with_controls(table: pd.DataFrame, accuracy: pd.DataFrame) -> pd.DataFrame:
    """The matrix's rows; then noise and clean photos as if they were sources of an attack."""
    noise = select(accuracy, attack=attacks.NOISE, epsilon=table["epsilon"].iloc[0])
    clean = select(accuracy, attack=attacks.BLACK_BOX, epsilon=0)
    return pd.concat([table, noise.assign(source=NOISE), clean.assign(source=CLEAN)])


def _mod_with_controls(table: pd.DataFrame) -> pd.DataFrame:
    """The same with noise and unrelated photos."""
    of_networks = table.drop_duplicates("network")
    noise = of_networks.assign(source=NOISE, mod=of_networks["mod_noise"])
    unrelated = of_networks.assign(source=UNRELATED, mod=of_networks["unrelated"])
    return pd.concat([table, noise, unrelated])


def _beside_paper(row: Any, of_paper: str) -> str:
    return f"{of_paper} | " if row.source == printed.SOURCE else ""


def _rows(plan: ArmPlan, table: pd.DataFrame) -> pd.DataFrame:
    grid = _grid(plan, table, "shown").fillna("–")
    names = [name if name in grid.columns else f"– {name}" for name in grid.index]
    grid.insert(0, "Attack made on", names)
    return grid


def _grid(plan: ArmPlan, table: pd.DataFrame, value: str) -> pd.DataFrame:
    """``value`` by source and network, NaN if there is no such pair; the controls last."""
    titles = {network: title(network) for network in plan.study.networks}
    controls = [source for source in table["source"].unique() if source not in titles]
    grid = table.pivot(index="source", columns="network", values=value)
    grid = grid.reindex(index=[*titles, *controls], columns=list(titles))
    return grid.rename(index=titles, columns=titles)


def matrix(plan: ArmPlan, table: pd.DataFrame, accuracy: pd.DataFrame) -> Figure:
    """Accuracy and MOD side by side; rows are the attack's source, columns the network attacked."""
    networks = plan.study.networks
    width, height = 7 + 1.9 * len(networks), 3 + 0.5 * len(networks)
    figure, (left, right) = plt.subplots(1, 2, figsize=(width, height))
    accuracies = _grid(plan, _accuracy_with_controls(table, accuracy), "accuracy")
    _draw(left, accuracies, "accuracy", ".2f", largest=1)
    _draw(right, _grid(plan, _mod_with_controls(table), "mod"), "MOD (mean NISSIM)", ".3f")
    left.set_ylabel("attack made on")
    own = table["source"] == table["network"]
    at_home, elsewhere = (table.loc[rows, "accuracy"].mean() for rows in (own, ~own))
    heading = (
        f"At ε = {table['epsilon'].iloc[0]:g} mean accuracy is {at_home:.2f} under an attack made "
        "on the network itself (framed)"
    )
    if not own.all():
        heading += f" and {elsewhere:.2f} under one made on another"
    return drawing.finished(figure, heading)


def _draw(
    axis: Axes, grid: pd.DataFrame, heading: str, digits: str, largest: float | None = None
) -> None:
    sns.heatmap(
        grid, ax=axis, cmap="cividis", vmin=0, vmax=largest, annot=True, fmt=digits,
        annot_kws={"fontsize": 10}, linewidths=0.5,
    )  # fmt: skip
    axis.set_facecolor("lightgrey")  # where there is no such pair
    axis.set_title(heading, fontsize=11)
    axis.set(xlabel="given to", ylabel="")
    plt.setp(axis.get_xticklabels(), rotation=30, ha="right", rotation_mode="anchor")
    plt.setp(axis.get_yticklabels(), rotation=0)
    count = len(grid.columns)
    axis.axhline(count, color="black", linewidth=2)  # below it the controls
    frame: Any = {"fill": False, "edgecolor": style.ATTACK, "linewidth": 2.5}
    for place in range(count):
        axis.add_patch(Rectangle((place, place), 1, 1, **frame, clip_on=False, zorder=3))
