"""The run's report, Markdown and a page: what it rests on, both arms, and how they compare."""

from __future__ import annotations

import dataclasses
import math
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from gradcam_adv import (
    artifacts,
    datasets,
    figures,
    layer_sheets,
    page,
    paper,
    scoring,
    sections,
    sources,
    study,
    tables,
    viewer,
)
from gradcam_adv.sections import interval, markdown, select, title_of
from gradcam_adv.setting import Setting
from gradcam_adv.study import Arm

# How many left-out photos the page itself names; the CSV has all.
LISTED = 20


def write(
    settings: dict[Arm, Setting], data: Path, folder: Path, seconds: pd.DataFrame
) -> list[Path]:
    """Write ``report.md``, ``report.html``, ``tables`` and ``figures`` into the run's folder.

    Args:
        settings: by arm of the study.
        data: folder of the tables photos, identities and excluded, before any face is looked for.
        folder: of the run.
        seconds: columns arm, stage, task, seconds.
    """
    summaries = {arm: _summary(setting) for arm, setting in settings.items()}
    files = []
    for arm, summary in summaries.items():
        files += artifacts.write_tables(folder / "tables" / arm, **summary)
        files += _copy_scores(settings[arm], folder / "tables" / arm)
        caveat = sections.caveat(settings[arm])
        drawn = folder / "figures" / arm
        files += figures.write_all(settings[arm], drawn, summary, caveat)
        files += layer_sheets.write_all(settings[arm], drawn, summary["predictions"], caveat)
    common = _read_all(data) | _compared(settings, summaries)
    common["identities"] = _identities(next(iter(settings.values())), common["identities"])
    files += artifacts.write_tables(folder / "tables", **common)
    parts = _parts(settings, summaries, common, seconds)
    artifacts.write_text(folder / "report.md", "\n\n".join(parts) + "\n")
    page.write(folder / "report.html", parts, viewer.of_run(settings, summaries))
    return [*files, folder / "report.md", folder / "report.html"]


def _copy_scores(setting: Setting, folder: Path) -> list[Path]:
    """Every photo's own NISSIM and the pairs of the ceiling, one network at a time."""
    files = []
    for name, of in (("nissim", "nissim-*"), ("ceiling", "ceiling")):
        path = folder / f"{name}.csv"
        artifacts.write_parts(
            path, (scoring.scores(setting, network, of) for network in setting.study.networks)
        )
        files.append(path)
    return files


def _read_all(folder: Path) -> dict[str, pd.DataFrame]:
    return {path.stem: artifacts.read_table(path) for path in sorted(folder.glob("*.csv"))}


def _identities(setting: Setting, made: pd.DataFrame) -> pd.DataFrame:
    """All identities as they are listed now, with what came of the chosen ones."""
    known = made.set_index("identity")
    table = setting.listing.identities.set_index("identity")
    of_chosen = known.index[known["usable"].notna()].intersection(table.index)
    table["usable"] = known["usable"].reindex(table.index)
    table.loc[of_chosen, ["chosen", "reason"]] = known.loc[of_chosen, ["chosen", "reason"]]
    return table.reset_index()


def _summary(setting: Setting) -> dict[str, pd.DataFrame]:
    """All tables of one arm by name."""
    keys = ["evaluate/summary", "score/summary"]
    if setting.arm == "aligned":  # which has fewer photos than there are, and their faces
        keys.append("data")
    summary: dict[str, pd.DataFrame] = {}
    for key in keys:
        summary |= _read_all(setting.folders[key])
    return summary | sections.beside_paper(setting, summary)


def _compared(
    settings: dict[Arm, Setting], summaries: dict[Arm, dict[str, pd.DataFrame]]
) -> dict[str, pd.DataFrame]:
    """What alignment changes, on the photos that both arms have; nothing for a single arm."""
    if len(settings) < 2:
        return {}
    seed = settings["plain"].study.seed
    plain, aligned = summaries["plain"], summaries["aligned"]
    keys = ["network", "attack", "epsilon"]

    def right(summary: dict[str, pd.DataFrame]) -> pd.DataFrame:
        predicted = summary["predictions"]
        return predicted.assign(right=predicted["predicted"] == predicted["label"])

    # One network at a time, which bounds the memory.
    mod = [
        tables.paired(
            scoring.scores(settings["plain"], network),
            scoring.scores(settings["aligned"], network),
            [*keys, "target", "size"],
            "nissim",
            seed,
        )
        for network in settings["plain"].study.networks
    ]
    return {
        "arms_accuracy": tables.paired(right(plain), right(aligned), keys, "right", seed),
        "arms_mod": pd.concat(mod, ignore_index=True),
    }


def _parts(
    settings: dict[Arm, Setting],
    summaries: dict[Arm, dict[str, pd.DataFrame]],
    common: dict[str, pd.DataFrame],
    seconds: pd.DataFrame,
) -> list[str]:
    setting = next(iter(settings.values()))
    parts = [
        f"# Run {setting.study.name}",
        f"A reproduction of {paper.CITATION}.",
        *_banner(settings),
    ]
    for arm, summary in summaries.items():
        parts += sections.of_arm(settings[arm], summary)
        parts += layer_sheets.section(settings[arm], sections.caveat(settings[arm]))
    return [
        *parts,
        *_arms(settings, common),
        "# About this run",
        *_readings(setting),
        *_photos(common, summaries),
        *_times(seconds),
        *_citations(setting),
    ]


def _banner(settings: dict[Arm, Setting]) -> list[str]:
    setting = next(iter(settings.values()))
    options = setting.study
    origins = {
        "imagenet": "ImageNet, Keras' own file",
        "file": "from a file given by the user",
        "random": "random, batch norm calibrated on the training photos",
    }
    weights = [
        f"- {title_of(name)}: {origins[w.origin]}"
        + (f" ({w.path.name})" if w.path is not None else "")
        for name, w in setting.weights.items()
    ]
    rests = [f"> - {sections.caveat(own)}" for own in settings.values()]
    lines = [
        "> **What these numbers rest on.**\n>\n" + "\n".join(rests),
        "Weights of the frozen bases:\n\n" + "\n".join(weights),
        f"Split train/validation/test {'/'.join(f'{share:g}' for share in options.split)}, "
        f"{options.epochs} epochs of the head, seed {options.seed}; black-box attack made on "
        f"{title_of(options.source)}, so that network's own row is white-box. "
        "The paper: 50 people of VGGFace2, ImageNet weights, 296 test photos without and 257 with "
        "preprocessing (why fewer is not said), black-box attack made on ResNet50.",
    ]
    if options.source != "resnet50":
        lines.append(
            "**The attack is another one than the paper's**: made on "
            f"{title_of(options.source)}, so the paper's numbers beside this run's are for "
            "orientation only."
        )
    if options.image_size < 224:
        lines.append(
            f"**Small profile**: {options.image_size} pixels instead of 224 and "
            f"{options.examples} example photo{'s' * (options.examples > 1)} with heatmaps of "
            "every layer, to be done in minutes on two cores."
        )
    if options.photos == "orl":
        lines.append(f"Photos: {sources.ORL_CREDIT}.")
    changed = [
        f"{field.name} = {getattr(options.readings, field.name)}"
        for field in dataclasses.fields(options.readings)
        if getattr(options.readings, field.name) != field.default
    ]
    if changed:
        lines.append(f"**Readings other than the defaults**: {', '.join(changed)}.")
    return lines


def _arms(settings: dict[Arm, Setting], compared: dict[str, pd.DataFrame]) -> list[str]:
    if len(settings) < 2:
        return []
    readings = settings["plain"].study.readings
    accuracy = select(compared["arms_accuracy"], attack="black-box")
    mod = select(
        compared["arms_mod"],
        attack="black-box",
        target=readings.explained_class,
        size=readings.heatmap_size,
    )
    photos = int(accuracy["photos"].iloc[0])
    ranges = "> " + "; ".join(sections.caveat(setting) for setting in settings.values())
    return [
        "# What alignment changes",
        f"On the {photos} test photos that both arms have ({len(settings['plain'].test)} plain, "
        f"{len(settings['aligned'].test)} aligned): aligned less plain, photo by photo, [95 % "
        "bootstrap interval over identities], and how many photos went up and down. An interval "
        "that holds 0 does not show a difference, nor that there is none; and each arm's heads "
        "were trained once, with one seed, which no interval here counts in.",
        "## Accuracy under the black-box attack, percentage points",
        ranges,
        markdown(_differences(settings["plain"], accuracy, as_percent=True)),
        "## MOD under the black-box attack",
        ranges,
        markdown(_differences(settings["plain"], mod, as_percent=False)),
    ]


def _differences(
    setting: Setting, compared: pd.DataFrame, as_percent: bool
) -> list[dict[str, str]]:
    rows = []
    for network in setting.study.networks:
        row = {"Network": title_of(network)}
        for _, cell in select(compared, network=network).iterrows():
            shown = interval(cell["difference"], cell["low"], cell["high"], as_percent=as_percent)
            shown += f" ↑{cell['up']} ↓{cell['down']}"
            row[f"ε = {cell['epsilon']:g}"] = shown
        rows.append(row)
    return rows


def _readings(setting: Setting) -> list[str]:
    rows = []
    for field in dataclasses.fields(study.Readings):
        chosen = getattr(setting.study.readings, field.name)
        others = [c for c in study.reading_choices(field.name) if c != chosen]
        rows.append(
            {
                "Reading": field.name,
                "Question": field.metadata["question"],
                "This run": chosen,
                "Also offered": ", ".join(others) or "–",
                "Not offered yet": field.metadata["unoffered"] or "–",
            }
        )
    return [
        "## How the paper is read",
        "Each is a key of `[readings]` in the study file.",
        markdown(rows),
    ]


def _photos(
    common: dict[str, pd.DataFrame], summaries: dict[Arm, dict[str, pd.DataFrame]]
) -> list[str]:
    """Who was chosen, what lies close together, and what was left out."""
    identities, photos = common["identities"], common["photos"]
    grouped, noted = photos[photos["group"] != ""], photos[photos["note"] != ""]
    usable = int(identities.loc[identities["chosen"], "usable"].sum())
    near = "no photos of one identity are near-duplicates"
    if len(grouped):
        near = (
            f"{grouped['group'].nunique()} groups of near-duplicates of one identity, "
            f"{len(grouped)} photos in all, are each kept in one split"
        )
    parts = [
        "## Photos",
        f"{int(identities['chosen'].sum())} of {len(identities)} identities were chosen; "
        "tables/identities.csv says which, and why not the others. Of their "
        f"{usable} usable photos {len(photos)} are used"
        + (", the others beyond max_photos" if len(photos) < usable else "")
        + f"; {near} (perceptual hashes that differ in at most "
        f"{datasets.NEAR_DUPLICATE_BITS} of 64 bits).",
        *_left_out("Left out", "tables/excluded.csv", common["excluded"]),
    ]
    if "aligned" in summaries:
        parts += _left_out(
            "Left out of the aligned arm alone",
            "tables/aligned/excluded.csv",
            summaries["aligned"]["excluded"],
        )
    if len(noted):
        rows = noted[["photo", "note"]].head(LISTED).to_dict("records")
        parts += [f"Used, with a note: {len(noted)} (tables/photos.csv).", markdown(rows)]
        parts += _more(len(noted))
    return parts


def _left_out(what: str, file: str, excluded: pd.DataFrame) -> list[str]:
    if excluded.empty:
        return [f"{what}: no photo."]
    rows = excluded[["photo", "reason"]].head(LISTED).to_dict("records")
    return [f"{what}: {len(excluded)} photos ({file}).", markdown(rows), *_more(len(excluded))]


def _more(count: int) -> list[str]:
    return [f"... and {count - LISTED} more."] if count > LISTED else []


def _times(seconds: pd.DataFrame) -> list[str]:
    """How long each stage took; what the aligned arm alone needs is counted as its own."""
    faces = seconds["task"].eq("faces") | (
        seconds["arm"].eq("aligned") & seconds["task"].eq("data")
    )
    own = seconds.assign(
        arm=seconds["arm"].mask(faces, "aligned"), stage=seconds["stage"].mask(faces, "faces")
    )
    shown = own.groupby(["stage", "arm"], sort=False)["seconds"].sum().unstack()
    rows = [
        {"Stage": stage} | {arm: "–" if math.isnan(s) else f"{s:.0f}" for arm, s in row.items()}
        for stage, row in shown.iterrows()
    ]
    parts = ["## Time", "Seconds of each stage when it was last run:", markdown(rows)]
    if faces.any():
        share = own.loc[faces, "seconds"].sum() / own.loc[own["arm"] == "aligned", "seconds"].sum()
        parts.append(
            f"Finding and aligning faces took {100 * share:.0f} % of the aligned arm; faces that "
            "an earlier run had found cost it nothing."
        )
    return parts


def _citations(setting: Setting) -> list[str]:
    lines = [
        f"- The paper, MOD and VID: {paper.CITATION}. {paper.PLACE}.",
        f"- The software: gradcam-adv {version('gradcam-adv')}, MIT licence; the study "
        f"{setting.study.name} with seed {setting.study.seed}, its manifest.json beside this "
        "report for all else that a reader needs to do it again.",
        f"- The photos: {setting.listing.title}, under terms of their own.",
    ]
    return ["## How to cite", "\n".join(lines)]
