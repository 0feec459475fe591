"""How far each reading is from the paper's tables, and which cannot be told apart from the nearest.

With the cells c of Tables 1 to 3 at epsilon above 0, the paper's numbers p and this run's q::

    distance^2 = mean over c of (q_c - p_c)^2

Accuracy is a ratio to the clean one; MOD is as it is. A network is compared with the paper's in its
role. Squares of numbers that are known by some photos only are too large by their variance, which
is subtracted; it is the mean by which the draws of people are too large.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from gradcam_adv import statistics
from gradcam_adv.paper import printed, roles
from gradcam_adv.paper.draws import Cells, Draws
from gradcam_adv.study.settings import Arm


def distances(drawn: Mapping[str, Mapping[Arm, Draws]], source: str, people: int) -> pd.DataFrame:
    """The distance of every reading from all cells of the paper's tables that the run has.

    The paper does not say on which photos it computed MOD. So both arms' MOD is compared with
    Table 3, and each of the two counts half. A network that is right on no clean photo of an arm
    under one of the readings has no ratio, and is left out of this arm's accuracy under all.

    Args:
        drawn: of :func:`gradcam_adv.paper.draws.draw`.
        source: the network on which the black-box attack was made.
        people: their number.

    Returns:
        One row per reading: cells (their number), distance, low, high (95 % interval);
        accuracy_cells, accuracy_distance (of Tables 1 and 2), mod_cells, mod_distance (of Table 3);
        farther (distance less that of the nearest reading), farther_low, farther_high (the interval
        of this difference alone, from the same draws of people); p (of being the nearest, corrected
        for their number, of :func:`gradcam_adv.statistics.least_p`) and near: whether the reading
        cannot be told apart from the nearest. NaN if there is nothing to compute from.
    """
    readings = list(drawn)
    accuracy, mod = [], []  # of every cell the differences, (readings, 1 + draws)
    for arm in drawn[readings[0]]:
        of_arm = [drawn[reading][arm] for reading in readings]
        table = printed.ACCURACIES[arm].table
        accuracy += _differences([draws.ratio for draws in of_arm], table / table.loc[0.0], source)
        mod += _differences([draws.mod for draws in of_arm], printed.TABLE_3, source)
    arms = len(drawn[readings[0]])
    weights = np.repeat([1.0, 1 / arms], [len(accuracy), len(mod)])
    squares, of_draws = _squares([*accuracy, *mod], len(readings), weights)
    found = pd.DataFrame({"reading": readings, "cells": len(accuracy) + len(mod) // arms})
    found["distance"] = _root(squares)
    low, high = statistics.percentile_interval(_root(of_draws), people)
    found["low"], found["high"] = low, high
    for name, cells, per_cell in (("accuracy", accuracy, 1), ("mod", mod, arms)):
        found[f"{name}_cells"] = len(cells) // per_cell
        part, _ = _squares(cells, len(readings), np.ones(len(cells)))
        found[f"{name}_distance"] = _root(part)
    nearest = 0 if np.isnan(squares).any() else int(squares.argmin())
    found["farther"] = found["distance"] - found["distance"][nearest]
    apart = _root(of_draws) - _root(of_draws)[:, [nearest]]
    low, high = statistics.percentile_interval(apart, people)
    found["farther_low"], found["farther_high"] = low, high
    found["p"] = statistics.least_p(squares, of_draws, people)
    found["near"] = ~(found["p"] < statistics.SIGNIFICANCE)
    return found


def _differences(by_reading: list[Cells], table: pd.DataFrame, source: str) -> list[np.ndarray]:
    """This run's numbers less the paper's: of each cell that both have, (readings, 1 + draws)."""
    numbers = {
        cell: np.stack([cells[cell] for cells in by_reading])
        for cell in by_reading[0]
        if cell[1] in table.index and all(cell in cells for cells in by_reading)
    }
    unknown = {network for (network, _), of in numbers.items() if not np.isfinite(of[:, 0]).all()}
    of_paper = roles.in_paper(table, {network for network, _ in numbers}, source)
    return [
        of_cell - of_paper[network].loc[epsilon]
        for (network, epsilon), of_cell in numbers.items()
        if epsilon > 0 and network not in unknown
    ]


def _squares(
    cells: list[np.ndarray], readings: int, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The mean squares of the readings, (readings,), and in draws around these, (draws, readings).

    In a small draw a network may be right on no clean photo; such a draw does not count.
    """
    if not cells:
        return np.full(readings, np.nan), np.empty((0, readings))
    squares = np.average(np.square(cells), axis=0, weights=weights)
    measured, drawn = squares[:, 0], squares[:, 1:].T
    drawn = drawn[np.isfinite(drawn).all(axis=1)]
    if not len(drawn):
        return measured, drawn
    too_large = drawn.mean(axis=0) - measured
    return measured - too_large, drawn - 2 * too_large


def _root(squares: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(squares, 0))


def by_distance(distances: pd.DataFrame) -> pd.DataFrame:
    """The nearest first; of several at 0 the one with the largest p, whose square is the least."""
    return distances.sort_values(
        ["distance", "p"], ascending=[True, False], kind="stable", ignore_index=True
    )


def fitting(distances: pd.DataFrame) -> list[str]:
    """The nearest reading and those that cannot be told apart from it, by distance; maybe none."""
    near = distances[distances["near"] & distances["distance"].notna()]
    return list(by_distance(near)["reading"])
