"""The bracket: does each attack of a study move heatmaps at least as far as the one below it?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from gradcam_adv.runs.records import Names
from gradcam_adv.study import comparison
from gradcam_adv.study.attacks import of_study
from gradcam_adv.study.stages.network_task import SummaryTask
from gradcam_adv.study.stages.score import Score, with_further


@dataclass(frozen=True, eq=False, kw_only=True)
class Bracket(SummaryTask):
    """The steps of the bracket, over all networks of an arm.

    Attributes:
        conditions: as of :func:`gradcam_adv.study.attacks.conditions_of`.
    """

    kind = "bracket"
    stage = "score"
    names = Names(r"bracket\.csv")

    # Each network's own scores, and those under transferred and further attacks.
    networks: Mapping[str, tuple[Score, ...]]
    conditions: Mapping[str, tuple[str, str]]

    def summarize(self) -> dict[str, pd.DataFrame]:
        parts = []
        for scores in self.networks.values():  # one at a time, which bounds the memory
            nissim = of_study(with_further(scores), scores[0].evaluate.levels)
            parts.append(comparison.bracket(nissim, self.conditions))
        return {"bracket": pd.concat(parts, ignore_index=True)}
