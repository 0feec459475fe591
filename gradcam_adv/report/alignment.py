"""What alignment changes: the two arms compared photo by photo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from gradcam_adv.models.backbones import title
from gradcam_adv.report.text import by_epsilon, interval, number, with_noise
from gradcam_adv.study import differences
from gradcam_adv.study.plan import ArmPlan
from gradcam_adv.study.settings import Arm
from gradcam_adv.study.tables import select

Tables = dict[str, pd.DataFrame]


def compared(arms: Mapping[Arm, ArmPlan], summaries: Mapping[Arm, Tables]) -> Tables:
    """What alignment changes, on the photos that both arms have; empty for a single arm."""
    if len(arms) < 2:
        return {}
    plain, aligned = summaries["plain"], summaries["aligned"]
    keys = ["network", "attack", "epsilon"]

    def right(summary: Tables) -> pd.DataFrame:
        predicted = summary["predictions"]
        return predicted.assign(right=predicted["predicted"] == predicted["label"])

    mods = []
    for network in arms["plain"].study.networks:  # one at a time, which bounds the memory
        unaligned, cropped = (arms[arm].of_study(network) for arm in ("plain", "aligned"))
        mods.append(differences.paired(unaligned, cropped, [*keys, "target", "size"], "nissim"))
    mod = pd.concat(mods, ignore_index=True)
    of_maps = ["network", "target", "size"]
    for arm, summary in summaries.items():
        unrelated = summary["mod"].drop_duplicates(of_maps)[[*of_maps, "unrelated"]]
        mod = mod.merge(unrelated.rename(columns={"unrelated": f"unrelated_{arm}"}), on=of_maps)
    return {
        "arms_accuracy": differences.paired(
            right(plain), right(aligned), keys, "right", answers=True
        ),
        "arms_mod": mod,
    }


def section(arms: Mapping[Arm, ArmPlan], compared: Tables) -> dict[str, Any]:
    """What the page shows of :func:`compared`; nothing for a single arm."""
    if len(arms) < 2:
        return {}
    readings = arms["plain"].study.readings
    accuracy = compared["arms_accuracy"]
    mod = select(compared["arms_mod"], target=readings.explained_class, size=readings.heatmap_size)
    return dict(
        photos=int(accuracy["photos"].iloc[0]),
        tested={arm: len(plan.photos.test) for arm, plan in arms.items()},
        accuracy=_differences(arms["plain"], accuracy, as_percent=True),
        mod=_differences(arms["plain"], mod, as_percent=False),
    )


def _differences(plan: ArmPlan, compared: pd.DataFrame, as_percent: bool) -> list[dict[str, str]]:
    """Each network at each epsilon, and below it noise; unrelated photos if there are any."""

    def shown(row: Any) -> str:
        change = interval(row.difference, row.low, row.high, as_percent)
        return f"{change} ↑{row.up} ↓{row.down}"

    rows = []
    for name, changes in with_noise(compared, {n: title(n) for n in plan.study.networks}):
        rows.append({"Network": name} | by_epsilon(changes, shown))
        if "unrelated_plain" in changes:
            plain, aligned = changes[["unrelated_plain", "unrelated_aligned"]].iloc[0]
            rows[-1]["Unrelated"] = f"{number(plain)} → {number(aligned)}"
    return rows
