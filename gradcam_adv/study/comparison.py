"""Tables that compare the attacks of a study at the same epsilon.

``conditions`` are those of :func:`gradcam_adv.study.attacks.conditions_of`: by the name of a
condition, its threat model and its attack.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from gradcam_adv.study.attacks import BLACK_BOX, FROM, NOISE, WHITE_BOX
from gradcam_adv.study.differences import paired
from gradcam_adv.study.tables import OF_MAPS, select

Conditions = Mapping[str, tuple[str, str]]

ONE_STEP = ("fgsm",)
ITERATIVE = ("pgd", "mi-fgsm", "pi-fgsm")
ON_MAPS = ("explanation",)
# Each is expected to move heatmaps at least as far as those before it, and these as noise. AutoPGD
# and Square stop at the first wrong answer, so they have no place here.
BRACKET = (ONE_STEP, ITERATIVE, ON_MAPS)


def attacks(
    accuracy: pd.DataFrame, mod: pd.DataFrame, gain: pd.DataFrame, conditions: Conditions
) -> pd.DataFrame:
    """Every attack at every epsilon above 0: what it does to predictions and to heatmaps.

    Args:
        accuracy: of :func:`gradcam_adv.study.answers.accuracy`.
        mod: of :func:`gradcam_adv.study.shifts.mod`.
        gain: of :func:`gradcam_adv.study.gain.by_network`.
        conditions: whose rows the table has, in this order.

    Returns:
        Columns network, attack, threat, epsilon, target, size, photos; accuracy, mod and gain (over
        noise), each with its interval accuracy_low, accuracy_high and so on; mod_noise (of random
        signs of the same epsilon) and unrelated (of unrelated photos).
    """
    keys = ["network", "attack", "epsilon"]
    of_maps = [*keys, "target", "size"]
    table = _named(mod[mod["epsilon"] > 0], "mod")[
        [*of_maps, "photos", "mod", "mod_low", "mod_high", "mod_noise", "unrelated"]
    ]
    right = _named(accuracy, "accuracy")[[*keys, "accuracy", "accuracy_low", "accuracy_high"]]
    worth = _named(select(gain, control=NOISE), "gain")[[*of_maps, "gain", "gain_low", "gain_high"]]
    table = table.merge(right, on=keys).merge(worth, on=of_maps, how="left")
    parts = [
        select(table, attack=name).assign(attack=attack, threat=threat)
        for name, (threat, attack) in conditions.items()
    ]
    columns = ["network", "attack", "threat", "epsilon", "target", "size", "photos"]
    columns += [f"{of}{end}" for of in ("accuracy", "mod", "gain") for end in ("", "_low", "_high")]
    return pd.concat(parts, ignore_index=True)[[*columns, "mod_noise", "unrelated"]]


def transfer(
    accuracy: pd.DataFrame, mod: pd.DataFrame, networks: Sequence[str], source: str
) -> pd.DataFrame:
    """The transfer matrix at the largest epsilon: the attack made on each network, given to each.

    Args:
        accuracy: of :func:`gradcam_adv.study.answers.accuracy`.
        mod: of :func:`gradcam_adv.study.shifts.mod`, the rows of one target and size.
        networks: of the study; rows come in their order.
        source: on which the black-box attack was made.

    Returns:
        One row per source and attacked network, if both tables have the pair: source, network,
        epsilon, photos, right, accuracy, low, high (Wilson), mod, mod_low, mod_high;
        mod_noise and unrelated, which depend on the network alone.
    """
    keys = ["source", "network", "epsilon"]
    right = _by_source(accuracy, source)[[*keys, "photos", "right", "accuracy", "low", "high"]]
    shifted = _by_source(mod, source).rename(columns={"low": "mod_low", "high": "mod_high"})
    shifted = shifted[[*keys, "mod", "mod_low", "mod_high", "mod_noise", "unrelated"]]
    place = {network: i for i, network in enumerate(networks)}
    return right.merge(shifted, on=keys).sort_values(
        ["source", "network"], key=lambda column: column.map(place), ignore_index=True
    )


def _by_source(table: pd.DataFrame, source: str) -> pd.DataFrame:
    """The attacks at the largest epsilon with the network that each was made on, each once."""
    largest = table["epsilon"] == table["epsilon"].max()
    of_study = table["attack"].isin((BLACK_BOX, WHITE_BOX)) | table["attack"].str.startswith(FROM)
    attacks = table[largest & of_study]
    made_on = attacks["attack"].str.removeprefix(FROM)
    made_on = made_on.mask(attacks["attack"] == BLACK_BOX, source)
    made_on = made_on.mask(attacks["attack"] == WHITE_BOX, attacks["network"])
    # The source's attack on itself has both names.
    return attacks.assign(source=made_on).drop_duplicates(["source", "network"])


def _named(table: pd.DataFrame, of: str) -> pd.DataFrame:
    return table.rename(columns={"low": f"{of}_low", "high": f"{of}_high"})


def steps(conditions: Conditions) -> Iterator[tuple[str, str, str]]:
    """The steps of the bracket: a threat model, the lower condition and the upper one."""
    for threat in dict.fromkeys(threat for threat, _ in conditions.values()):
        by_attack = {attack: name for name, (of, attack) in conditions.items() if of == threat}
        ranks = [[by_attack[name] for name in rank if name in by_attack] for rank in BRACKET]
        for below, above in itertools.pairwise([[NOISE], *filter(None, ranks)]):
            for lower, upper in itertools.product(below, above):
                yield threat, lower, upper


def bracket(nissim: pd.DataFrame, conditions: Conditions) -> pd.DataFrame:
    """How much further each attack moves heatmaps than the one below it, photo by photo.

    Args:
        nissim: as of :mod:`gradcam_adv.study.shifts`, of one network or several.
        conditions: the attacks compared.

    Returns:
        Columns threat, lower and upper (noise or the names of attacks), network, target, size,
        epsilon, photos, mod_lower, mod_upper, difference (upper less lower) with its interval low,
        high; up and down (numbers of photos).
    """
    table = nissim[nissim["epsilon"] > 0]
    keys = [*OF_MAPS, "epsilon"]
    parts = []
    for threat, lower, upper in steps(conditions):
        below, above = (
            select(table, attack=name)[[*keys, "photo", "identity", "nissim"]]
            for name in (lower, upper)
        )
        found = paired(below, above, keys, "nissim", ("mod_lower", "mod_upper"))
        names = {"lower": conditions[lower][1] if lower in conditions else lower}
        names |= {"upper": conditions[upper][1]}
        parts.append(found.assign(threat=threat, **names))
    columns = ["threat", "lower", "upper"]
    joined = pd.concat(parts, ignore_index=True)
    return joined[[*columns, *joined.columns.difference(columns, sort=False)]]
