"""The run's report, Markdown and a page: what it rests on, both arms, and how they compare."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pandas as pd

from gradcam_adv.data import sources
from gradcam_adv.files import artifacts
from gradcam_adv.paper import seeds
from gradcam_adv.paper import tables as paper
from gradcam_adv.report import (
    about,
    attention,
    curves,
    figures,
    layer_sheets,
    page,
    reading_figures,
    reading_sections,
    reading_summary,
    sections,
    verdicts,
    viewer,
)
from gradcam_adv.report.cells import (
    NOISE_ROW,
    caveat,
    escaped,
    interval,
    markdown,
    number,
    select,
    title_of,
)
from gradcam_adv.study import tables
from gradcam_adv.study.config import Arm
from gradcam_adv.study.setting import Setting
from gradcam_adv.study.stages import score as scoring


def write(
    settings: dict[Arm, Setting],
    data: Path,
    folder: Path,
    seconds: pd.DataFrame,
    extra: dict[str, Path],
) -> list[Path]:
    """Write ``report.md``, ``report.html``, ``tables`` and ``figures`` into the run's folder.

    Args:
        settings: by arm of the study.
        data: folder of the tables photos, identities and excluded, before any face is looked for.
        folder: of the run.
        seconds: columns arm, stage, task, seconds.
        extra: folders of the tables over "seeds" and "readings", where there are such.
    """
    summaries = {arm: _summary(setting) for arm, setting in settings.items()}
    files = []
    for arm, summary in summaries.items():
        files += artifacts.write_tables(folder / "tables" / arm, **summary)
        files += _copy_scores(settings[arm], folder / "tables" / arm)
        drawn = folder / "figures" / arm
        shown = caveat(settings[arm])
        files += figures.write_all(settings[arm], drawn, summary, shown)
        files += layer_sheets.write_all(settings[arm], drawn, summary["predictions"], shown)
    common = _read_all(data) | _compared(settings, summaries)
    for place in extra.values():
        common |= _read_all(place)
    files += _draw_extra(settings, common, folder / "figures")
    common["claims"] = verdicts.judged(settings, summaries)
    common["identities"] = _identities(next(iter(settings.values())), common["identities"])
    files += artifacts.write_tables(folder / "tables", **common)
    parts = _parts(settings, summaries, common, seconds)
    artifacts.write_text(folder / "report.md", "\n\n".join(parts) + "\n")
    page.write(folder / "report.html", parts, viewer.of_run(settings, summaries))
    return [*files, folder / "report.md", folder / "report.html"]


def _draw_extra(
    settings: dict[Arm, Setting], common: dict[str, pd.DataFrame], folder: Path
) -> list[Path]:
    """The figures over the seeds and over the readings, where the run has such."""
    source = next(iter(settings.values())).study.source
    files = []
    if "seeds" in common:
        for arm, setting in settings.items():
            across, each = (select(common[name], arm=arm) for name in ("seeds", "seeds_each"))
            drawn = {"seeds": curves.across_seeds(across, each, source)}
            files += figures.save(drawn, folder / arm, caveat(setting))
    if "readings" in common:
        files += reading_figures.write_all(
            common["readings"],
            common["readings_distances"],
            folder,
            caveat=f"{_caveats(settings)}, but where a reading says otherwise",
            source=source,
        )
    return files


def _caveats(settings: dict[Arm, Setting]) -> str:
    return "; ".join(caveat(setting) for setting in settings.values())


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
    keys = ["evaluate/summary", "score/summary", "layers/summary"]
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
    mod = pd.concat(
        [
            tables.paired(
                scoring.scores(settings["plain"], network),
                scoring.scores(settings["aligned"], network),
                [*keys, "target", "size"],
                "nissim",
                seed,
            )
            for network in settings["plain"].study.networks
        ],
        ignore_index=True,
    )
    of_maps = ["network", "target", "size"]
    for arm, summary in summaries.items():
        ceilings = summary["mod"].drop_duplicates(of_maps)[[*of_maps, "ceiling"]]
        mod = mod.merge(ceilings.rename(columns={"ceiling": f"ceiling_{arm}"}), on=of_maps)
    return {
        "arms_accuracy": tables.paired(right(plain), right(aligned), keys, "right", seed),
        "arms_mod": mod,
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
        "# In short",
        *(
            f"- {sections.ARMS[arm]}. {attention.in_short(settings[arm], summary)}"
            for arm, summary in summaries.items()
        ),
        *_readings_in_short(setting, common),
        *verdicts.section(settings, common["claims"]),
    ]
    for arm, summary in summaries.items():
        parts += sections.of_arm(settings[arm], summary)
        parts += layer_sheets.section(settings[arm], caveat(settings[arm]))
    return [
        *parts,
        *_arms(settings, common),
        *_seeds(settings, common),
        *_readings(settings, common),
        "# About this run",
        *about.readings(setting),
        *about.photos(common, summaries),
        *about.times(seconds),
        *about.citations(setting),
    ]


def _readings_in_short(setting: Setting, common: dict[str, pd.DataFrame]) -> list[str]:
    if "readings" not in common:
        return []
    weights = setting.weights.items()
    sentence = reading_summary.sentence(
        common["readings_distances"],
        common["readings_verdicts"],
        other_data=setting.study.other_data,
        random=[network for network, chosen in weights if chosen.origin == "random"],
        source=setting.study.source,
    )
    return [
        sentence,
        "![How far each reading's accuracy and MOD are from the paper's]"
        "(figures/readings_distances.png)",
    ]


def _seeds(settings: dict[Arm, Setting], common: dict[str, pd.DataFrame]) -> list[str]:
    if "seeds" not in common:
        return []
    study = next(iter(settings.values())).study
    caveats = [caveat(setting) for setting in settings.values()]
    return seeds.section(
        study.seeds, common["seeds"], common["seeds_verdicts"], caveats, study.source
    )


def _readings(settings: dict[Arm, Setting], common: dict[str, pd.DataFrame]) -> list[str]:
    if "readings" not in common:
        return []
    study = next(iter(settings.values())).study
    return reading_sections.section(
        common["readings"],
        common["readings_distances"],
        common["readings_verdicts"],
        caveat=f"{_caveats(settings)}, but where a reading says otherwise",
        other_data=study.other_data,
        source=study.source,
    )


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
        + (f" ({escaped(w.path.name)})" if w.path is not None else "")
        for name, w in setting.weights.items()
    ]
    rests = [f"> - {caveat(own)}" for own in settings.values()]
    lines = [
        "> **What these numbers rest on.**\n>\n" + "\n".join(rests),
        "Weights of the frozen bases:\n\n" + "\n".join(weights),
        f"Split train/validation/test {'/'.join(f'{share:g}' for share in options.split)}, "
        f"{options.epochs} epochs of the head with seed {options.seeds[0]}, all other chance with "
        f"seed {options.seed}; black-box attack made on {title_of(options.source)}, so that "
        "network's own row is white-box. "
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
    accuracy = compared["arms_accuracy"]
    mod = select(compared["arms_mod"], target=readings.explained_class, size=readings.heatmap_size)
    photos = int(accuracy["photos"].iloc[0])
    ranges = f"> {_caveats(settings)}"
    return [
        "# What alignment changes",
        f"On the {photos} test photos that both arms have ({len(settings['plain'].test)} plain, "
        f"{len(settings['aligned'].test)} aligned): aligned less plain, photo by photo, [95 % "
        "bootstrap interval over identities], and how many photos went up and down. Below each "
        "network the same of random-sign noise of the same ε: what changes there as well is not "
        "the attack's. An interval that holds 0 does not show a difference, nor that there is "
        "none; and these are the heads of one training, with one seed, which no interval here "
        "counts in.",
        "## Accuracy under the black-box attack, percentage points",
        ranges,
        markdown(_differences(settings["plain"], accuracy, as_percent=True)),
        "## MOD under the black-box attack",
        ranges,
        "The ceiling, from plain to aligned: the mean NISSIM between clean heatmaps of photos of "
        "different people, of each arm's own test photos.",
        markdown(_differences(settings["plain"], mod, as_percent=False)),
    ]


def _differences(
    setting: Setting, compared: pd.DataFrame, as_percent: bool
) -> list[dict[str, str]]:
    """Each network at each epsilon, and below it what noise changes; ceilings where there are."""
    rows = []
    for network in setting.study.networks:
        for attack, name in (("black-box", title_of(network)), ("noise", NOISE_ROW)):
            row = {"Network": name}
            own = select(compared, network=network, attack=attack)
            for _, cell in own.iterrows():
                ends = cell["low"], cell["high"]
                shown = interval(cell["difference"], *ends, as_percent=as_percent)
                row[f"ε = {cell['epsilon']:g}"] = f"{shown} ↑{cell['up']} ↓{cell['down']}"
            if "ceiling_plain" in own:
                plain, aligned = own[["ceiling_plain", "ceiling_aligned"]].iloc[0]
                row["Ceiling"] = f"{number(plain)} → {number(aligned)}"
            rows.append(row)
    return rows
