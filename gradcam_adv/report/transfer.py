"""The transfer matrix: accuracy and MOD of each network under the attack made on each."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.patches import Rectangle

from gradcam_adv.paper import tables as paper
from gradcam_adv.report.cells import caveat, interval, markdown, number, percent, select, title_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gradcam_adv.study.setting import Setting

NOISE, CLEAN, CEILING = "random-sign noise", "clean photos", "unrelated photos (ceiling)"
# The frames of the white-box attacks: an orange that no colour of cividis comes near.
FRAME = "#d55e00"


def section(setting: Setting, summary: dict[str, pd.DataFrame]) -> list[str]:
    """Both matrices with their controls below, the paper's values in the row that it prints.

    Args:
        setting: of the arm.
        summary: tables by name; "transfer" as of :func:`gradcam_adv.study.tables.transfer` with
            the columns paper_accuracy and paper_mod, "accuracy" for the controls.
    """
    table = summary["transfer"]
    noise, clean = _controls_of_accuracy(table, summary["accuracy"])
    of_networks = table.drop_duplicates("network")
    accuracy = [
        *_rows(setting, table, _accuracy, lambda cell: percent(cell["paper_accuracy"])),
        _control(NOISE, noise, _accuracy),
        _control(CLEAN, clean, _accuracy),
    ]
    mod = [
        *_rows(setting, table, _mod, lambda cell: number(cell["paper_mod"])),
        _control(NOISE, of_networks, lambda cell: number(cell["mod_noise"])),
        _control(CEILING, of_networks, lambda cell: number(cell["ceiling"])),
    ]
    return [
        "## Transfer: the attack made on each network, given to each",
        _explanation(setting, table),
        "### Accuracy, %",
        f"> {caveat(setting)}",
        "Each cell: `this run [95 % Wilson interval]`.",
        markdown(accuracy),
        "### MOD",
        f"> {caveat(setting)}",
        "Each cell: `this run [95 % bootstrap interval over identities]`. A MOD is to be read "
        "between that of noise and the ceiling of its column.",
        markdown(mod),
    ]


def _explanation(setting: Setting, table: pd.DataFrame) -> str:
    source, printed = title_of(setting.study.source), title_of(paper.SOURCE)
    sentences = [
        "A row is the network that the attack was made on, a column the one that it was given to, "
        f"at ε = {table['epsilon'].iloc[0]:g}, the largest of this study. On the diagonal the "
        f"attack is white-box; the row of {source}, the study's source, is the black-box attack "
        f"of the tables above. The paper prints one row of this matrix, that of {printed}, its "
        "source:"
    ]
    if paper.SOURCE in setting.study.networks:
        sentences.append("there the paper's value stands first, `paper | this run`.")
    else:
        sentences.append("a network that this run does not have.")
    if len(table) < len(setting.study.networks) ** 2:
        sentences.append("A dash: an attack that this study leaves out.")
    return " ".join(sentences)


def _accuracy(cell: pd.Series) -> str:
    return interval(cell["accuracy"], cell["low"], cell["high"], as_percent=True)


def _mod(cell: pd.Series) -> str:
    return interval(cell["mod"], cell["mod_low"], cell["mod_high"])


def _rows(
    setting: Setting,
    table: pd.DataFrame,
    shown: Callable[[pd.Series], str],
    printed: Callable[[pd.Series], str],
) -> list[dict[str, str]]:
    rows = []
    for source in setting.study.networks:
        row = dict.fromkeys(map(title_of, setting.study.networks), "–")
        for _, cell in select(table, source=source).iterrows():
            beside = f"{printed(cell)} | " if source == paper.SOURCE else ""
            row[title_of(cell["network"])] = beside + shown(cell)
        rows.append({"Attack made on": title_of(source)} | row)
    return rows


def _control(name: str, table: pd.DataFrame, shown: Callable[[pd.Series], str]) -> dict[str, str]:
    """A row of a control, from a table with a row a network."""
    return {"Attack made on": f"– {name}"} | {
        title_of(cell["network"]): shown(cell) for _, cell in table.iterrows()
    }


def _controls_of_accuracy(
    table: pd.DataFrame, accuracy: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of noise of the matrix's epsilon, and those of clean photos; one a network."""
    noise = select(accuracy, attack="noise", epsilon=table["epsilon"].iloc[0])
    return noise, select(accuracy, attack="black-box", epsilon=0)


def matrix(setting: Setting, table: pd.DataFrame, accuracy: pd.DataFrame) -> Figure:
    """Accuracy and MOD side by side, a row the attack's source, a column the network attacked.

    Args:
        setting: of the arm.
        table: of :func:`gradcam_adv.study.tables.transfer`.
        accuracy: of :func:`gradcam_adv.study.tables.accuracy`, for the controls.
    """
    networks = setting.study.networks
    noise, clean = _controls_of_accuracy(table, accuracy)
    of_networks = table.drop_duplicates("network")
    width, height = 7 + 1.9 * len(networks), 3 + 0.5 * len(networks)
    figure, (left, right) = plt.subplots(1, 2, figsize=(width, height))
    controls = {NOISE: (noise, "accuracy"), CLEAN: (clean, "accuracy")}
    _draw(left, _grid(setting, table, "accuracy", controls), "accuracy", ".2f", largest=1)
    controls = {NOISE: (of_networks, "mod_noise"), CEILING: (of_networks, "ceiling")}
    _draw(right, _grid(setting, table, "mod", controls), "MOD (mean NISSIM)", ".3f")
    left.set_ylabel("attack made on")
    title = (
        f"The attack made on each network, given to each, at ε = {table['epsilon'].iloc[0]:g} "
        "(framed: white-box)"
    )
    figure.suptitle(textwrap.fill(title, int(9 * width)), fontsize=12)
    figure.tight_layout(rect=(0, 0.45 / height, 1, 1))
    return figure


def _grid(
    setting: Setting,
    table: pd.DataFrame,
    value: str,
    controls: dict[str, tuple[pd.DataFrame, str]],
) -> pd.DataFrame:
    """``value`` by source and network, NaN where there is no such pair; below it the controls.

    Args:
        setting: of the arm.
        table: columns source, network and ``value``.
        value: a column.
        controls: by name of the row, a table with a row a network, and its column.
    """
    networks = list(setting.study.networks)
    grid = table.pivot(index="source", columns="network", values=value)
    grid = grid.reindex(index=networks, columns=networks).rename(index=title_of)
    for name, (control, column) in controls.items():
        grid.loc[name] = control.set_index("network")[column]
    return grid.rename(columns=title_of)


def _draw(
    axis: Axes, grid: pd.DataFrame, title: str, digits: str, largest: float | None = None
) -> None:
    sns.heatmap(
        grid, ax=axis, cmap="cividis", vmin=0, vmax=largest, annot=True, fmt=digits,
        annot_kws={"fontsize": 10}, linewidths=0.5,
    )  # fmt: skip
    axis.set_facecolor("lightgrey")  # where there is no such pair
    axis.set_title(title, fontsize=11)
    axis.set(xlabel="given to", ylabel="")
    plt.setp(axis.get_xticklabels(), rotation=30, ha="right", rotation_mode="anchor")
    plt.setp(axis.get_yticklabels(), rotation=0)
    count = len(grid.columns)
    axis.axhline(count, color="black", linewidth=2)  # below it the controls
    for place in range(count):
        axis.add_patch(
            Rectangle(
                (place, place), 1, 1, fill=False, edgecolor=FRAME, linewidth=2.5, clip_on=False,
                zorder=3,
            )
        )  # fmt: skip
