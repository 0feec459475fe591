"""Two finished runs beside each other: how accuracy, MOD and VID differ, with intervals."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from gradcam_adv.files import artifacts
from gradcam_adv.report.cells import select
from gradcam_adv.study import config as study
from gradcam_adv.study import tables
from gradcam_adv.study.config import Arm, Study
from gradcam_adv.study.setting import FROM

# Of the bootstrap: a comparison belongs to neither run, and so not to the seed of one.
SEED = 0
# Runs are compared photo by photo where at least this share of each one's test photos is in both;
# with fewer, a difference would rest on a few photos though each run has many.
SHARE_IN_COMMON = 0.5
CONDITION = ["network", "attack", "epsilon"]


@dataclass(frozen=True)
class Run:
    """A run whose report is finished.

    Attributes:
        folder: of the run.
        study: what it did.
        weights: by network, where its weights come from, such as "random" or "file 0a1b2c3d".
        report: folder of the report's own manifest.
        files: what that manifest says of each file of the report.
    """

    folder: Path
    study: Study
    weights: dict[str, str]
    report: Path
    files: dict[str, Any]

    def table(self, name: str) -> pd.DataFrame:
        """A table of the report by its path in ``tables``, such as "plain/predictions.csv".

        Raises:
            ValueError: it is gone, or not as the report wrote it.
        """
        path = self.folder / "tables" / name
        key = os.path.relpath(path, self.report)
        facts = {key: self.files[key]} if key in self.files else None
        if facts is None or not artifacts.files_intact(facts, self.report):
            raise ValueError(
                f"Expected {path} as the run's report wrote it (gradcam-adv report writes it "
                "anew). Received: another file or none"
            )
        return artifacts.read_table(path)


@dataclass(frozen=True)
class Tested:
    """The test photos of one arm in both runs.

    Attributes:
        photos: how many the first run has, and the second.
        people: who are on them, the same way.
        common: names of the photos that both have, the same file with the same person.
        common_people: how many people both have, by name.
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
        accuracy: a row an arm, network, attack (noise as well, the control) and epsilon of both
            runs: first, second, difference (second less first), low, high (95 % bootstrap
            interval over identities), photos_first, photos_second, paired.
        mod: the same, each run by its own readings.
        vid: the same without epsilon, over the levels that both runs have; no row where these
            are fewer than two.
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
        return artifacts.write_tables(folder, **named)


def read(folder: Path) -> Run:
    """Open a run by its folder, such as ``runs/quick``.

    Raises:
        ValueError: it is no run's folder, or the run's report is not finished.
    """
    path = folder / artifacts.MANIFEST
    if not path.is_file():
        raise ValueError(
            f"Expected the folder of a run, such as runs/quick. Received: {folder}, which has no "
            f"{artifacts.MANIFEST} (a run gets it when it comes to its end)"
        )
    manifest = artifacts.read_json(path)
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
        # What was not set is null in a manifest, and left out in a study.
        own = study.parse({k: v for k, v in manifest["study"].items() if v is not None})
        weights = {name: _origin(manifest["weights"].get(name)) for name in own.networks}
        files = artifacts.read_json(report / artifacts.MANIFEST).get("files", {})
        if not isinstance(files, dict):
            raise ValueError(f"Expected a table files in {report / artifacts.MANIFEST}")
    except (ValueError, OSError) as error:
        raise ValueError(
            f"Expected a whole run of this version of gradcam-adv. Received: {folder}: {error}"
        ) from None
    return Run(folder, own, weights, report, files)


def _origin(weights: object) -> str:
    if not isinstance(weights, dict) or "origin" not in weights:
        raise ValueError(f"Expected the origin of weights. Received: {weights!r}")
    sha256 = weights.get("sha256")
    return f"{weights['origin']} {sha256[:8]}" if sha256 else str(weights["origin"])


def runs(first: Path, second: Path) -> Comparison:
    """Compare two runs by their folders.

    Raises:
        ValueError: as :func:`read`, or the two have no arm, no network or no level of attack
            (epsilon above 0) in common.
    """
    both = read(first), read(second)
    one, other = (run.study for run in both)
    _in_common("an arm", one.arms, other.arms)
    _in_common("a network", one.networks, other.networks)
    _in_common("an epsilon above 0", one.attacked_epsilons, other.attacked_epsilons)
    tested, parts = {}, []
    for arm in one.arms:
        if arm in other.arms:
            tested[arm], differences = _of_arm(both, arm)
            parts.append({name: t.assign(arm=arm) for name, t in differences.items()})
    whole = {name: _in_order(pd.concat([part[name] for part in parts])) for name in parts[0]}
    return Comparison(both, tested, _settings(*both), **whole)


def _in_common(what: str, first: tuple[Any, ...], second: tuple[Any, ...]) -> None:
    if not set(first) & set(second):
        shown = " and ".join(", ".join(map(str, values)) for values in (first, second))
        raise ValueError(f"Expected two runs with {what} in common. Received: {shown}")


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    keys = [key for key in CONDITION if key in table]
    numbers = ["first", "second", "difference", "low", "high", "photos_first", "photos_second"]
    return table[["arm", *keys, *numbers, "paired"]].reset_index(drop=True)


def _of_arm(both: tuple[Run, Run], arm: Arm) -> tuple[Tested, dict[str, pd.DataFrame]]:
    """The test photos of one arm, and the differences on them by name of the number."""
    predictions = [run.table(f"{arm}/predictions.csv") for run in both]
    tested = _tested(*(_test(*own) for own in zip(both, predictions, strict=True)))
    right = [
        own.assign(value=(own["predicted"] == own["label"]).astype(float)) for own in predictions
    ]
    nissim = [_headline(run, run.table(f"{arm}/nissim.csv")) for run in both]
    levels = set(both[0].study.epsilons) & set(both[1].study.epsilons)
    vid = [_deviations(run, own, levels) for run, own in zip(both, nissim, strict=True)]
    numbers = {
        "accuracy": (right, CONDITION),
        "mod": (nissim, CONDITION),
        "vid": (vid, ["network", "attack"]),
    }
    return tested, {name: _difference(own, keys, tested) for name, (own, keys) in numbers.items()}


def _test(run: Run, predictions: pd.DataFrame) -> pd.DataFrame:
    """Columns photo, identity, sha256 of the photos that were tested."""
    test = predictions[["photo", "identity"]].drop_duplicates()
    return test.merge(run.table("photos.csv")[["photo", "sha256"]], on="photo")


def _tested(first: pd.DataFrame, second: pd.DataFrame) -> Tested:
    people = set(first["identity"]), set(second["identity"])
    return Tested(
        photos=(len(first), len(second)),
        people=(len(people[0]), len(people[1])),
        common=frozenset(first.merge(second, on=["photo", "identity", "sha256"])["photo"]),
        common_people=len(people[0] & people[1]),
    )


def _headline(run: Run, nissim: pd.DataFrame) -> pd.DataFrame:
    """NISSIM of each photo as the run's readings say: of which class, at which size."""
    readings = run.study.readings
    own = select(nissim, target=readings.explained_class, size=readings.heatmap_size)
    return own.rename(columns={"nissim": "value"})


def _deviations(run: Run, nissim: pd.DataFrame, levels: set[float]) -> pd.DataFrame:
    """Each photo's standard deviation of NISSIM over levels, whose mean is VID.

    Without a second level there is no deviation, and no row: so of attacks of the transfer matrix.
    """
    if run.study.readings.vid_levels == "attacked":
        levels = levels - {0.0}
    # One level has no spread: a VID of 0 would be no finding.
    own = nissim[nissim["epsilon"].isin(levels if len(levels) > 1 else ())]
    own = own[~own["attack"].str.startswith(FROM)]
    keys = ["network", "attack", "photo", "identity"]
    return own.groupby(keys, sort=False)["value"].std(ddof=0).reset_index()


def _difference(both: list[pd.DataFrame], keys: list[str], tested: Tested) -> pd.DataFrame:
    first, second = (own[[*keys, "photo", "identity", "value"]] for own in both)
    if not tested.paired:
        return tables.unpaired(first, second, keys, "value", SEED).assign(paired=False)
    common = first[first["photo"].isin(tested.common)]
    table = tables.paired(common, second, keys, "value", SEED, names=("first", "second"))
    return table.assign(photos_first=table["photos"], photos_second=table["photos"], paired=True)


def _settings(first: Run, second: Run) -> pd.DataFrame:
    """Columns setting, first, second: what differs, of the studies' keys and common networks."""
    common = [network for network in first.weights if network in second.weights]
    own, other = _flat(first, common), _flat(second, common)
    rows = [(key, _shown(own[key]), _shown(other[key])) for key in own if own[key] != other[key]]
    return pd.DataFrame(rows, columns=["setting", "first", "second"])


def _flat(run: Run, networks: list[str]) -> dict[str, Any]:
    options = asdict(run.study)
    readings = {f"readings.{key}": value for key, value in options.pop("readings").items()}
    weights = {f"weights of {network}": run.weights[network] for network in networks}
    return options | readings | weights


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "–" if value is None else str(value)
