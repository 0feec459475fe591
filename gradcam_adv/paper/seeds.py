"""How much hangs on the seed of the heads' training: a study's numbers and verdicts, seed by seed.

The photos and their split are the same with every seed, so no interval here is for other photos to
train on. Two intervals stand beside a mean over the seeds, and each answers a question of its own:

- the bootstrap over identities, ``low`` and ``high``: what other people on the test photos would
  give, under the trainings that were made;
- Student's t over the seeds, ``t_low`` and ``t_high``: what other trainings would give, on the test
  photos that there are. With few seeds it is wide, and can leave [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from gradcam_adv import statistics
from gradcam_adv.paper import judge as claims
from gradcam_adv.report.cells import (
    interval,
    markdown,
    marked_source,
    number,
    percent,
    select,
    title_of,
)
from gradcam_adv.report.sections import ARMS

# What tells apart the rows over which a quantity is a mean.
_ROW = ("identity", "photo", "pair")
# How often each verdict was reached, by the column of its count.
_VERDICTS = {
    "holds": claims.HOLDS,
    "fails": claims.FAILS,
    "unknown": claims.UNKNOWN,
    "not_judged": claims.NOT_JUDGED,
}


def across(
    seeds: Mapping[int, Mapping[str, pd.DataFrame]],
    bootstrap_seed: int,
    *,
    with_zero: bool = False,
) -> pd.DataFrame:
    """One arm's numbers under the black-box attack, and those of noise, over all seeds.

    Args:
        seeds: by seed of the training, the tables of the arm by name:

            - predictions: columns network, attack, epsilon, photo, identity, label, predicted;
            - nissim: columns network, attack, epsilon, photo, identity, nissim; one row a photo,
              of the target class and size that are to be read;
            - ceiling: columns network, photo, identity, nissim; one row a pair of unrelated
              photos, of the same class and size.
        bootstrap_seed: of the bootstrap.
        with_zero: count the clean photos (epsilon 0) among the levels of VID.

    Returns:
        One row a quantity, network and epsilon: quantity ("accuracy", "mod", "mod_noise", "vid",
        "vid_noise" or "ceiling"), network, epsilon (NaN of VID and the ceiling), seeds (how
        many), photos, mean over the seeds, low, high (bootstrap over identities of the photos'
        means over the seeds: for other people under these trainings), least, greatest (of the
        seeds' values), spread (their sample standard deviation), t_low, t_high (Student's t over
        the seeds' values: for other trainings on these photos). Of one seed spread, t_low and
        t_high are NaN; of one identity low and high are.

    Raises:
        ValueError: no seed, or a photo that one seed has and another has not.
    """
    rows = []
    for quantity, network, epsilon, values in _conditions(seeds, with_zero):
        photos = values.index.get_level_values("photo")
        identities = values.index.get_level_values("identity")
        by_seed = values.mean()
        rows.append(
            (
                *(quantity, network, epsilon, len(by_seed), photos.nunique(), by_seed.mean()),
                *statistics.bootstrap_mean_interval(
                    values.mean(axis=1), identities, bootstrap_seed
                ),
                *(by_seed.min(), by_seed.max(), by_seed.std(ddof=1)),
                *statistics.t_mean_interval(by_seed),
            )
        )
    columns = [
        *("quantity", "network", "epsilon", "seeds", "photos", "mean", "low", "high"),
        *("least", "greatest", "spread", "t_low", "t_high"),
    ]
    return pd.DataFrame(rows, columns=columns)


def each(
    seeds: Mapping[int, Mapping[str, pd.DataFrame]], *, with_zero: bool = False
) -> pd.DataFrame:
    """The value of each seed, of which :func:`across` gives the mean.

    Args:
        seeds: as for :func:`across`.
        with_zero: as for :func:`across`.

    Returns:
        Columns quantity, network, epsilon, seed, value.

    Raises:
        ValueError: as :func:`across`.
    """
    rows = [
        (quantity, network, epsilon, seed, value)
        for quantity, network, epsilon, values in _conditions(seeds, with_zero)
        for seed, value in values.mean().items()
    ]
    return pd.DataFrame(rows, columns=["quantity", "network", "epsilon", "seed", "value"])


def _conditions(
    seeds: Mapping[int, Mapping[str, pd.DataFrame]], with_zero: bool
) -> list[tuple[str, str, float, pd.DataFrame]]:
    """Quantity, network, epsilon, and the values: one row a photo (or pair), a column a seed."""
    if not seeds:
        raise ValueError("Expected the tables of one seed or more. Received: none")
    by_seed = {seed: _quantities(tables, with_zero) for seed, tables in seeds.items()}
    found = []
    for quantity in next(iter(by_seed.values())):
        wide = _side_by_side(quantity, {seed: own[quantity] for seed, own in by_seed.items()})
        keys = [key for key in ("network", "epsilon") if key in wide.index.names]
        for key, values in wide.groupby(level=keys, sort=False):
            condition: dict[str, Any] = dict(zip(keys, key, strict=True))
            found.append((quantity, condition["network"], condition.get("epsilon", np.nan), values))
    return found


def _quantities(tables: Mapping[str, pd.DataFrame], with_zero: bool) -> dict[str, pd.Series]:
    """By quantity the values of which it is the mean, indexed by condition and photo (or pair)."""
    attacked = select(tables["predictions"], attack="black-box")
    nissim = tables["nissim"]
    levels = nissim if with_zero else nissim[nissim["epsilon"] > 0]
    of_photo = ["network", "identity", "photo"]
    deviation = levels.groupby(["attack", *of_photo], sort=False)["nissim"].std(ddof=0)
    ceiling = tables["ceiling"]
    pair = ceiling.groupby(["network", "photo"], sort=False).cumcount()
    values = {
        "accuracy": attacked.assign(value=attacked["predicted"] == attacked["label"]),
        "mod": select(nissim, attack="black-box").rename(columns={"nissim": "value"}),
        "mod_noise": select(nissim, attack="noise").rename(columns={"nissim": "value"}),
        "vid": select(deviation.reset_index(name="value"), attack="black-box"),
        "vid_noise": select(deviation.reset_index(name="value"), attack="noise"),
        # A photo is in several pairs, the same ones with every seed.
        "ceiling": ceiling.assign(pair=pair).rename(columns={"nissim": "value"}),
    }
    keys = ("network", "epsilon", *_ROW)
    return {
        quantity: table.set_index([key for key in keys if key in table])["value"].astype(float)
        for quantity, table in values.items()
    }


def _side_by_side(quantity: str, by_seed: Mapping[int, pd.Series]) -> pd.DataFrame:
    """A column a seed; ValueError names a photo that one of them lacks."""
    wide = pd.concat(by_seed, axis=1)
    lacking = np.argwhere(wide.isna().to_numpy())
    if len(lacking):
        row, column = lacking[0]
        place = dict(zip(wide.index.names, wide.index[row], strict=True))
        level = f" at ε = {place['epsilon']:g}" if "epsilon" in place else ""
        raise ValueError(
            f"Expected {quantity} of the same photos with every seed. Received: {place['photo']} "
            f"on {place['network']}{level} is missing with seed {wide.columns[column]}"
        )
    return wide


def verdict_counts(by_seed: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    """How often each claim came to each verdict.

    Args:
        by_seed: by seed of the training, a table of the columns of :class:`claims.Verdict`.

    Returns:
        One row a claim and arm of the run: claim, says, arm, seeds (how many), holds, fails,
        unknown, not_judged (with how many seeds), by_seed (the verdicts in the order of the
        seeds, such as "0: holds; 1: can't be told").

    Raises:
        ValueError: no seed, or a claim that one seed has a verdict on and another has not.
    """
    if not by_seed:
        raise ValueError("Expected the verdicts of one seed or more. Received: none")
    keys = ["claim", "arm"]
    runs = {seed: select(table, on="run").set_index(keys) for seed, table in by_seed.items()}
    wide = pd.concat({seed: table["verdict"] for seed, table in runs.items()}, axis=1)
    lacking = np.argwhere(wide.isna().to_numpy())
    if len(lacking):
        row, column = lacking[0]
        claim, arm = wide.index[row]
        raise ValueError(
            "Expected a verdict on the same claims with every seed. Received: none on "
            f"{claim} ({arm}) with seed {wide.columns[column]}"
        )
    counts = {name: (wide == verdict).sum(axis=1) for name, verdict in _VERDICTS.items()}
    texts = wide.apply(lambda row: "; ".join(f"{seed}: {v}" for seed, v in row.items()), axis=1)
    first = next(iter(runs.values()))
    table = pd.DataFrame(
        {"says": first["says"], "seeds": len(by_seed), **counts, "by_seed": texts}
    ).loc[first.index]
    return table.reset_index()[["claim", "says", "arm", "seeds", *_VERDICTS, "by_seed"]]


def section(
    seeds: Sequence[int],
    table: pd.DataFrame,
    verdicts: pd.DataFrame,
    caveats: Sequence[str],
    source: str,
) -> list[str]:
    """The report's part on the seeds, in Markdown; nothing for a single seed.

    Args:
        seeds: of the trainings; the rest of the report is the first one's.
        table: of :func:`across` with the column arm.
        verdicts: of :func:`verdict_counts`.
        caveats: what the numbers of each arm rest on, in the order of the arms in ``table``.
        source: the network on which the black-box attack is made.
    """
    if len(seeds) < 2:
        return []
    rests = "\n".join(f"> - {caveat}" for caveat in caveats)
    parts = [
        "# How much hangs on the seed",
        rests,
        f"The heads were trained {len(seeds)} times, with the seeds {', '.join(map(str, seeds))} "
        "(initialization, order of the photos, dropout), on the same photos and split, with the "
        f"same random signs. Everywhere else this report shows the run of seed {seeds[0]}.",
        _in_short(table, verdicts),
        "Each cell: `mean over the seeds [95 % bootstrap interval over identities]; seeds least–"
        "greatest [95 % t interval over the seeds]`. The first interval is for other people under "
        "these trainings, the second for other trainings on these photos; neither has the chance "
        "of the other in it, and none that of another split. A t interval of few seeds is wide and "
        "can leave what is possible; one without width, where all seeds agree, is no certainty. "
        "Noise and ceiling stand beside MOD, for another training moves these as well.",
    ]
    for arm, caveat in zip(table["arm"].unique(), caveats, strict=True):
        own = select(table, arm=arm)
        parts += [
            f"## {ARMS[arm]}",
            f"> {caveat}",
            markdown(_by_level(own, source)),
            "### VID",
            f"> {caveat}",
            markdown(_by_network(own, source)),
            "### Accuracy and MOD along ε",
            f"> {caveat}",
            "![Accuracy and MOD of each network against epsilon, a line a seed and their mean, MOD "
            f"with that of noise and its ceiling](figures/{arm}/seeds.png)",
        ]
    return [
        *parts,
        "## The verdicts with each seed",
        rests,
        "Each seed's run is judged on its own, by the same rules. Seeds disagree where a claim is "
        "clear with one of them and not so, or clearly otherwise, with another; a seed whose run "
        "has nothing to judge a claim by is not counted there. All are judged without the "
        "white-box attack, which only the first has; so p is corrected after Holm for fewer "
        "verdicts than those on the run above, which can make one clear here that is not there.",
        markdown(_verdict_rows(verdicts)),
    ]


def _in_short(table: pd.DataFrame, verdicts: pd.DataFrame) -> str:
    """How far seeds lie apart at most, and how many verdicts hang on them."""
    several = verdicts[verdicts["seeds"] - verdicts["not_judged"] > 1]
    disagreed = [cell for _, cell in several.iterrows() if _disagree(cell)]
    which = "; ".join(f"{cell['says'].rstrip('.')} ({cell['arm']})" for cell in disagreed)
    of = f"of {len(several)} verdicts that more than one seed judges"
    change = f"None {of} changes with the seed"
    if disagreed:
        change = f"**{len(disagreed)} {of} change with the seed**: {which}"
    accuracy, mod, vid = (
        _furthest(select(table, quantity=quantity), points=quantity == "accuracy")
        for quantity in ("accuracy", "mod", "vid")
    )
    return (
        f"**From one seed to another** accuracy differs by up to {accuracy}, MOD by up to {mod} "
        f"and VID by up to {vid}. Differences between networks or arms that are no greater than "
        f"that can be those of a training. {change}."
    )


def _furthest(rows: pd.DataFrame, *, points: bool) -> str:
    """The greatest distance of two seeds, where it is, and how wide the other interval is there."""
    cell = max(rows.to_dict("records"), key=lambda row: row["greatest"] - row["least"])

    def shown(value: float) -> str:
        return f"{percent(value)} points" if points else number(value)

    level = "" if np.isnan(cell["epsilon"]) else f", ε = {cell['epsilon']:g}"
    return (
        f"{shown(cell['greatest'] - cell['least'])} ({title_of(cell['network'])}, "
        f"{cell['arm']}{level}; the interval over identities is "
        f"{shown(cell['high'] - cell['low'])} wide there)"
    )


def _cell(rows: pd.DataFrame, *, as_percent: bool = False) -> str:
    """The one row of a quantity as text."""
    show = percent if as_percent else number
    (cell,) = rows.to_dict("records")
    return (
        f"{interval(cell['mean'], cell['low'], cell['high'], as_percent)}; seeds "
        f"{show(cell['least'])}–{show(cell['greatest'])} "
        f"[{show(cell['t_low'])}, {show(cell['t_high'])}]"
    )


def _by_level(table: pd.DataFrame, source: str) -> list[dict[str, str]]:
    rows = []
    for network in table["network"].unique():
        own = select(table, network=network)
        ceiling = _cell(select(own, quantity="ceiling"))
        for epsilon in select(own, quantity="accuracy")["epsilon"]:
            level = select(own, epsilon=epsilon)
            # Photos that nothing was added to have no distance from themselves.
            mod, noise = (
                _cell(select(level, quantity=quantity)) if epsilon else "0"
                for quantity in ("mod", "mod_noise")
            )
            rows.append(
                {
                    "Network": marked_source(network, source),
                    "ε": f"{epsilon:g}",
                    "Accuracy, %": _cell(select(level, quantity="accuracy"), as_percent=True),
                    "MOD": mod,
                    "MOD of random-sign noise": noise,
                    "Ceiling of MOD": ceiling,
                }
            )
    return rows


def _by_network(table: pd.DataFrame, source: str) -> list[dict[str, str]]:
    return [
        {
            "Network": marked_source(network, source),
            "VID": _cell(select(table, network=network, quantity="vid")),
            "VID of random-sign noise": _cell(select(table, network=network, quantity="vid_noise")),
        }
        for network in table["network"].unique()
    ]


def _verdict_rows(verdicts: pd.DataFrame) -> list[dict[str, str]]:
    return [
        {
            "Claim": cell["says"],
            "Arm": cell["arm"],
            "The seeds": _agreement(cell),
            "Verdict with each seed": cell["by_seed"],
        }
        for _, cell in verdicts.iterrows()
    ]


def _disagree(cell: pd.Series) -> bool:
    return int((cell[["holds", "fails", "unknown"]] > 0).sum()) > 1


def _agreement(cell: pd.Series) -> str:
    """In words, for a table shows no marks."""
    judged = cell["seeds"] - cell["not_judged"]
    if judged == 0:
        return "do not judge it"
    if judged == 1:
        return "one judges it"
    of = "" if judged == cell["seeds"] else f" ({judged} of {cell['seeds']} judge it)"
    if not _disagree(cell):
        return f"agree{of}"
    if cell["holds"] and cell["fails"]:
        return f"DISAGREE: opposite verdicts{of}"
    return f"DISAGREE: clear with {cell['holds'] + cell['fails']} of {judged}{of}"
