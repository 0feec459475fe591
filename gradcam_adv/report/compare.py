"""Comparing two finished runs: how accuracy, MOD and VID differ, in tables and in Markdown."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from gradcam_adv.files import hashes, read, write
from gradcam_adv.models import backbones
from gradcam_adv.models.backbones import title
from gradcam_adv.report import archive
from gradcam_adv.report.text import (
    by_epsilon,
    interval,
    number,
    percent,
    render,
    rows_of,
    with_noise,
)
from gradcam_adv.runs.records import MANIFEST
from gradcam_adv.study import differences, paths
from gradcam_adv.study.attacks import of_study
from gradcam_adv.study.columns import read_table
from gradcam_adv.study.config import parse
from gradcam_adv.study.settings import Arm, Study
from gradcam_adv.study.shifts import deviations
from gradcam_adv.study.tables import select

# Runs are compared photo by photo if at least this share of each run's test photos is in both;
# otherwise a difference would depend on a few photos though each run has many.
SHARE_IN_COMMON = 0.5
CONDITION = ["network", "attack", "epsilon"]
OF_PHOTO = ["photo", "identity", *CONDITION]


@dataclass(frozen=True)
class Run:
    """A run whose report is finished.

    Attributes:
        folder: of the run, or where its archive is unpacked.
        given: the folder or the archive, as it was given.
        study: what it did.
        weights: by network, where its weights come from, such as "random" or "file 0a1b2c3d".
        report: folder of the report's own manifest.
        files: what that manifest says of each file of the report.
    """

    folder: Path
    given: Path
    study: Study
    weights: dict[str, str]
    report: Path
    files: dict[str, Any]

    def table(self, name: str, keys: list[str], values: Sequence[str] = ()) -> pd.DataFrame:
        """A table of the report by its path in ``tables``, such as "plain/predictions.csv".

        The columns ``keys`` tell its rows apart; ``values`` are the others that are needed.

        Raises:
            ValueError: it is gone, not as the report wrote it, or without these columns.
        """
        path = self.folder / "tables" / name
        key = os.path.relpath(path, self.report)
        if not hashes.is_unchanged(path, self.files.get(key)):
            raise ValueError(
                f"Expected {path} as the run's report wrote it (gradcam-adv report writes it "
                "again). Received: another file or none"
            )
        table = read_table(path, needed=(*keys, *values))
        if table.duplicated(keys).any():
            raise ValueError(
                f"Expected rows of {path} that differ in {', '.join(keys)}. Received: some twice"
            )
        return table


@dataclass(frozen=True)
class Tested:
    """The test photos of one arm: how many each run has and of how many people, and what both have.

    A photo is common to both if it is the same file with the same person.
    """

    photos: tuple[int, int]
    people: tuple[int, int]
    common: frozenset[str]
    common_people: int

    @property
    def paired(self) -> bool:
        return len(self.common) >= SHARE_IN_COMMON * max(self.photos)


@dataclass(frozen=True)
class Comparison:
    """Two runs and how they differ.

    Attributes:
        runs: the first and the second.
        tested: by arm of both, their test photos.
        settings: columns setting, first, second; what differs between the two studies.
        accuracy: one row per arm, network, attack (with noise, the control) and epsilon of both
            runs: first, second, difference (second less first), low, high (its 95 % interval
            over identities), photos_first, photos_second, paired.
        mod: the same, each run by its own readings.
        vid: the same without epsilon, over the epsilons that both runs have; no row if these are
            fewer than two.
    """

    runs: tuple[Run, Run]
    tested: dict[Arm, Tested]
    settings: pd.DataFrame
    accuracy: pd.DataFrame
    mod: pd.DataFrame
    vid: pd.DataFrame

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The four by name."""
        return {name: getattr(self, name) for name in ("settings", "accuracy", "mod", "vid")}

    def write(self, folder: Path) -> list[Path]:
        """Write the four tables as CSV, under names that no table of a run has; the files."""
        named = {f"compared_{name}": table for name, table in self.tables.items()}
        return write.tables(folder, **named)


@contextlib.contextmanager
def opened_run(path: Path) -> Iterator[Run]:
    """A run by its folder, such as ``runs/quick``, or by its archive, which is unpacked meanwhile.

    Raises:
        ValueError: it is neither, or the run's report is not finished.
    """
    if path.is_file():
        with archive.unpacked(path) as folder:
            yield replace(open_run(folder), given=path)
    else:
        yield open_run(path)


def open_run(folder: Path) -> Run:
    """A run by its folder; ValueError if it is none, or the run's report is not finished."""
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(
            f"Expected the folder of a run, such as runs/quick. Received: {folder}, which has no "
            f"{MANIFEST} (a run gets it when it ends)"
        )
    manifest = read.json(path)
    for key in ("study", "weights", "tasks"):
        if not isinstance(manifest.get(key), dict):
            raise ValueError(f"Expected the manifest of a run in {path}. Received: no table {key}")
    if "report" not in manifest["tasks"]:
        raise ValueError(
            "Expected a run with a finished report (gradcam-adv report STUDY makes it). "
            f"Received: {folder}"
        )
    report = folder / str(manifest["tasks"]["report"])
    try:
        # A key that was not set is null in a manifest.
        content = paths.from_run(manifest["study"], folder)
        study = parse({k: v for k, v in content.items() if v is not None})
        weights = {name: _origin(manifest["weights"].get(name)) for name in study.networks}
        files = read.json(report / MANIFEST).get("files", {})
        if not isinstance(files, dict):
            raise ValueError(f"Expected a table files in {report / MANIFEST}")
    except (ValueError, OSError) as error:
        raise ValueError(
            f"Expected a whole run of this version of gradcam-adv. Received: {folder}: {error}"
        ) from None
    return Run(folder, folder, study, weights, report, files)


def _origin(weights: object) -> str:
    sha256 = weights.get("sha256") if isinstance(weights, dict) else None
    if not (isinstance(weights, dict) and "origin" in weights and isinstance(sha256, str | None)):
        raise ValueError(f"Expected the origin of weights. Received: {weights!r}")
    return f"{weights['origin']} {sha256[:8]}" if sha256 else str(weights["origin"])


def compare_runs(first: Path, second: Path) -> Comparison:
    """Compare two runs by their folders or archives.

    Raises:
        ValueError: as :func:`opened_run`, or the two have no arm, no network or no level of attack
            (epsilon above 0) in common.
    """
    with opened_run(first) as one, opened_run(second) as other:
        return _compared((one, other))


def _compared(runs: tuple[Run, Run]) -> Comparison:
    one, other = (run.study for run in runs)
    keys: dict[str, tuple[tuple[Any, ...], tuple[Any, ...]]] = {
        "an arm": (one.arms, other.arms),
        "a network": (one.networks, other.networks),
        "an epsilon above 0": (one.attacked_epsilons, other.attacked_epsilons),
    }
    for what, of_both in keys.items():
        if not set.intersection(*map(set, of_both)):
            shown = " and ".join(", ".join(map(str, found)) for found in of_both)
            raise ValueError(f"Expected two runs with {what} in common. Received: {shown}")
    tested: dict[Arm, Tested] = {}
    parts: dict[str, list[pd.DataFrame]] = {"accuracy": [], "mod": [], "vid": []}
    for arm in (arm for arm in one.arms if arm in other.arms):
        common = {*one.epsilons} & {*other.epsilons}
        values, others = (_of_photos(run, arm, common) for run in runs)
        tested[arm] = _tested(runs, values["accuracy"], others["accuracy"])
        for name, found in parts.items():
            answers = name == "accuracy"
            difference = _difference(values[name], others[name], tested[arm], answers)
            found.append(difference.assign(arm=arm))
    return Comparison(
        runs, tested, _settings(*runs), **{name: _in_order(p) for name, p in parts.items()}
    )


def _tested(runs: tuple[Run, Run], *predictions: pd.DataFrame) -> Tested:
    first, second = (
        table[["photo", "identity"]]
        .drop_duplicates()
        .merge(run.table("photos.csv", ["photo"], ["sha256"])[["photo", "sha256"]], on="photo")
        for run, table in zip(runs, predictions, strict=True)
    )
    for run, photos in zip(runs, (first, second), strict=True):
        if photos.empty:
            raise ValueError(f"Expected test photos in the tables of {run.given}. Received: none")
    people, others = set(first["identity"]), set(second["identity"])
    return Tested(
        photos=(len(first), len(second)),
        people=(len(people), len(others)),
        common=frozenset(first.merge(second, on=["photo", "identity", "sha256"])["photo"]),
        common_people=len(people & others),
    )


def _of_photos(run: Run, arm: Arm, common: set[float]) -> dict[str, pd.DataFrame]:
    """By name of the number, its values per photo in the column value, VID over common epsilons."""
    readings = run.study.readings
    predicted = run.table(f"{arm}/predictions.csv", OF_PHOTO, ["label", "predicted"])
    right = (predicted["predicted"] == predicted["label"]).astype(float)
    table = run.table(f"{arm}/nissim.csv", [*OF_PHOTO, "target", "size"], ["nissim"])
    table = of_study(table, run.study.epsilons)
    nissim = select(table, target=readings.explained_class, size=readings.heatmap_size)
    epsilons = [epsilon for epsilon in run.study.vid_epsilons if epsilon in common]
    # A VID of 0 over one epsilon would be no finding.
    spread = deviations(nissim, epsilons if len(epsilons) > 1 else ())
    return {
        "accuracy": predicted.assign(value=right),
        "mod": nissim.rename(columns={"nissim": "value"}),
        "vid": spread.rename(columns={"deviation": "value"}),
    }


def _difference(
    first: pd.DataFrame, second: pd.DataFrame, tested: Tested, answers: bool
) -> pd.DataFrame:
    keys = [key for key in CONDITION if key in first]
    first, second = (table[[*keys, "photo", "identity", "value"]] for table in (first, second))
    if not tested.paired:
        found = differences.unpaired(first, second, keys, "value", answers=answers)
        return found.assign(paired=False)
    common = first[first["photo"].isin(tested.common)]
    names = "first", "second"
    table = differences.paired(common, second, keys, "value", names, answers=answers)
    return table.assign(photos_first=table["photos"], photos_second=table["photos"], paired=True)


def _in_order(parts: list[pd.DataFrame]) -> pd.DataFrame:
    table = pd.concat(parts, ignore_index=True)
    keys = [key for key in CONDITION if key in table]
    numbers = ["first", "second", "difference", "low", "high", "photos_first", "photos_second"]
    return table[["arm", *keys, *numbers, "paired"]]


def _settings(first: Run, second: Run) -> pd.DataFrame:
    """Columns setting, first, second: keys of the studies, and weights of common networks."""

    def shown(value: object) -> str:
        if isinstance(value, tuple):
            return ", ".join(map(str, value))
        return "–" if value is None else str(value)

    one, other = _flat(first), _flat(second)
    rows = [
        (key, shown(value), shown(other[key]))
        for key, value in one.items()
        if key in other and value != other[key]
    ]
    return pd.DataFrame(rows, columns=["setting", "first", "second"])


def _flat(run: Run) -> dict[str, Any]:
    options = asdict(run.study)
    attacks = options.pop("attack")
    options["attack"] = tuple(map(_attack, attacks, attacks.values()))  # their order counts
    readings = {f"readings.{key}": value for key, value in options.pop("readings").items()}
    return options | readings | {f"weights of {name}": w for name, w in run.weights.items()}


def _attack(name: str, settings: Mapping[str, Any]) -> str:
    """Such as "pgd (steps = 20)"."""
    said = ", ".join(f"{key} = {value}" for key, value in settings.items())
    return f"{name} ({said})" if said else name


def describe(comparison: Comparison) -> str:
    """The comparison in Markdown: what the runs are, what differs, and the black-box attack."""
    runs = comparison.runs
    first, second = (run.study for run in runs)
    mod = comparison.mod[comparison.mod["epsilon"] > 0]
    shown = {
        arm: {
            "accuracy": _shown(comparison.accuracy, arm, runs, partial(_cell, as_percent=True)),
            "mod": _shown(mod, arm, runs, _cell),
            "vid": _shown(comparison.vid, arm, runs, _cell),
        }
        for arm in comparison.tested
    }
    parts = render(
        "compared",
        runs=runs,
        first=first,
        second=second,
        weights=[_weights(run) for run in runs],
        units=_units(first, second),
        epsilons=[f"{epsilon:g}" for epsilon in first.epsilons if epsilon in second.epsilons],
        has_vid=not comparison.vid.empty,
        alone={
            "networks": _alone(first.networks, second.networks),
            "arms": _alone(first.arms, second.arms),
        },
        settings=comparison.settings.rename(columns=str.capitalize),
        arms=comparison.tested,
        tables=shown,
    )
    return "\n\n".join(parts)


def _weights(run: Run) -> str:
    """Where the weights are from, and in brackets of which networks."""
    by_origin: dict[str, list[str]] = {}
    for network, origin in run.weights.items():
        by_origin.setdefault(origin, []).append(title(network))
    return "; ".join(
        f"{'RANDOM' if origin == 'random' else origin} ({', '.join(networks)})"
        for origin, networks in by_origin.items()
    )


def _units(first: Study, second: Study) -> list[str]:
    """The networks for which an epsilon of 1 changes pixels by different amounts, and these."""
    changed = []
    for network in first.networks:
        one, other = (
            backbones.epsilon_unit(
                network, study.readings.epsilon_unit, study.readings.preprocessing
            )
            for study in (first, second)
        )
        if network in second.networks and one != other:
            changed.append(f"{title(network)} {one:.3g} and {other:.3g}")
    return changed


def _alone(names: Sequence[str], others: Sequence[str]) -> list[str]:
    """What only one of the two has."""
    return [name for name in (*names, *others) if not (name in names and name in others)]


def _shown(
    table: pd.DataFrame, arm: Arm, runs: tuple[Run, Run], show: Callable[[Any], str]
) -> list[dict[str, str]]:
    """Each network under the attack, and below it under random signs."""
    table = select(table, arm=arm)
    names = {network: _name(network, *runs) for network in table["network"].unique()}
    return [
        {"Network": name}
        | (by_epsilon(cells, show) if "epsilon" in table else {"VID": show(next(rows_of(cells)))})
        for name, cells in with_noise(table, names)
    ]


def _name(network: str, first: Run, second: Run) -> str:
    """A network's title; on the source the black-box attack is the white-box one."""
    sources = [run.study.source == network for run in (first, second)]
    if all(sources):
        return f"{title(network)} (source: white-box)"
    if any(sources):
        return f"{title(network)} (source of the {'first' if sources[0] else 'second'}: white-box)"
    return title(network)


def _cell(row: Any, as_percent: bool = False) -> str:
    show = percent if as_percent else number
    change = interval(row.difference, row.low, row.high, as_percent)
    return f"{show(row.first)} → {show(row.second)}: {change}"
