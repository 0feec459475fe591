"""The attacks of a study by name, and which of them each network gets at which epsilons."""

from __future__ import annotations

import pandas as pd

from gradcam_adv.study.config import Study

# Made on the study's source, and given to every network. On the source it is the white-box attack.
BLACK_BOX = "black-box"
# Made on the network that gets it.
WHITE_BOX = "white-box"
# Random signs, the control.
NOISE = "noise"
# "from X": made on network X, neither the source nor the network that gets it.
FROM = "from "


def attacks_on(study: Study, network: str) -> dict[str, tuple[float, ...]]:
    """Every attack on a network, with the epsilons at which it is evaluated and scored."""
    names = [BLACK_BOX, NOISE]
    if network != study.source and "white-box" in study.attacks:
        names.insert(1, WHITE_BOX)
    levels = dict.fromkeys(names, study.epsilons)
    if "transfer" in study.attacks:
        others = [other for other in study.networks if other not in (network, study.source)]
        levels |= {f"{FROM}{other}": study.epsilons[-1:] for other in others}
    return levels


def makers_of(study: Study, network: str) -> dict[str, str]:
    """By attack on a network, the network on which it is made; random signs need none."""
    by_name = {BLACK_BOX: study.source, WHITE_BOX: network}
    names = [name for name in attacks_on(study, network) if name != NOISE]
    return {name: by_name.get(name) or name.removeprefix(FROM) for name in names}


def with_alias(table: pd.DataFrame) -> pd.DataFrame:
    """A table of the source's attacks, with the black-box rows once more as white-box ones."""
    white_box = table[table["attack"] == BLACK_BOX].assign(attack=WHITE_BOX)
    return pd.concat([table, white_box], ignore_index=True)


def condition_key(attack: str, epsilon: float) -> str:
    """The name of a condition's array, such as "clean" or "black-box 0.05"."""
    return "clean" if attack == "clean" else f"{attack} {epsilon!r}"


def named_under(condition: str, rows: pd.DataFrame) -> list[str]:
    """How errors name the photos of ``rows`` under a condition: "ann/3.jpg, black-box 0.05"."""
    return [f"{photo}, {condition}" for photo in rows["photo"]]
