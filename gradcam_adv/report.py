"""The run's report in Markdown: the paper's tables beside this run's, with what they rest on."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from gradcam_adv import artifacts, backbones, datasets, figures, metrics, paper, study
from gradcam_adv.setting import Setting

# How many left-out photos the page itself names; the CSV has all.
LISTED = 20


def write(setting: Setting, folder: Path, seconds: pd.Series[float]) -> list[Path]:
    """Write ``report.md``, ``tables/*.csv`` and ``figures/*`` into the run's folder."""
    evaluated = setting.folders["evaluate/summary"]
    scored = setting.folders["score/summary"]
    summary = {
        path.stem: artifacts.read_table(path)
        for path in (*sorted(evaluated.glob("*.csv")), *sorted(scored.glob("*.csv")))
    }
    summary["photos"] = setting.table
    summary["excluded"] = artifacts.read_table(setting.folders["data"] / "excluded.csv")
    summary["table_1"] = _beside_paper(setting, summary["accuracy"], paper.TABLE_1, "accuracy")
    headline = _headline(setting, summary["mod"])
    summary["table_3"] = _beside_paper(setting, headline, paper.TABLE_3, "mod")
    files = []
    for name, table in summary.items():
        path = folder / "tables" / f"{name}.csv"
        artifacts.write_table(path, table)
        files.append(path)

    files += figures.write_all(setting, folder / "figures", summary, caveat(setting))
    text = _text(setting, summary, seconds)
    artifacts.write_text(folder / "report.md", text)
    return [*files, folder / "report.md"]


def caveat(setting: Setting) -> str:
    """One line on what every number of this run rests on; it stands over each table and figure."""
    table, options = setting.table, setting.study
    people = table["identity"].nunique()
    folder = Path(options.photos).resolve().name
    data = "ORL faces (not VGGFace2)" if options.photos == "orl" else f"photos in {folder}"
    random = [n for n, weights in setting.weights.items() if weights.origin == "random"]
    if not random:
        bases = "pretrained bases"
    elif len(random) == len(options.networks):
        bases = "RANDOM BASES, batch norm calibrated, no ImageNet"
    else:
        bases = f"RANDOM BASES (no ImageNet): {', '.join(random)}"
    return (
        f"{data}, {people} people, {len(table)} photos, "
        f"{len(setting.test)} in the test set; {options.image_size} px; {bases}"
    )


def _beside_paper(
    setting: Setting, measured: pd.DataFrame, printed: pd.DataFrame, value: str
) -> pd.DataFrame:
    """The black-box rows of ``measured`` with the paper's value of the same place beside them."""
    own = measured[measured["attack"] == "black-box"]
    controls = [column for column in ("mod_noise", "ceiling") if column in own]
    rows = own[["network", "epsilon", "photos", value, "low", "high", *controls]].copy()
    rows.insert(
        2,
        "paper",
        [
            paper.printed(printed, network, epsilon)
            for network, epsilon in zip(own["network"], own["epsilon"], strict=True)
        ],
    )
    return rows.assign(source=setting.study.source)


def _headline(setting: Setting, table: pd.DataFrame) -> pd.DataFrame:
    """The rows read as the study's readings say: which class is explained, at which size."""
    readings = setting.study.readings
    own = table[table["target"] == readings.explained_class]
    return own[own["size"] == readings.heatmap_size]


def _text(setting: Setting, summary: dict[str, pd.DataFrame], seconds: pd.Series[float]) -> str:
    parts = [
        f"# Run {setting.study.name}",
        f"A reproduction of {paper.CITATION}.",
        *_banner(setting),
        *_accuracy(setting, summary),
        *_psnr(setting, summary),
        *_mod(setting, summary),
        *_controls(setting, summary),
        *_vid(setting, summary),
        *_figures(setting),
        *_readings(setting),
        *_left_out(summary["excluded"]),
        *_times(seconds),
    ]
    return "\n\n".join(parts) + "\n"


def _banner(setting: Setting) -> list[str]:
    options = setting.study
    origins = {
        "imagenet": "ImageNet, Keras' own file",
        "file": "from a file given by the user",
        "random": "random, batch norm calibrated on the training photos",
    }
    weights = [
        f"- {_title(name)}: {origins[w.origin]}"
        + (f" ({w.path.name})" if w.path is not None else "")
        for name, w in setting.weights.items()
    ]
    lines = [
        f"> **What these numbers rest on.** {caveat(setting)}.",
        "Weights of the frozen bases:\n\n" + "\n".join(weights),
        f"Split train/validation/test {'/'.join(f'{share:g}' for share in options.split)}, "
        f"{options.epochs} epochs of the head, seed {options.seed}; black-box attack made on "
        f"{_title(options.source)}, so that network's own row is white-box. "
        "The paper: 50 people of VGGFace2, ImageNet weights, 296 test photos, black-box attack "
        "made on ResNet50.",
    ]
    if options.source != "resnet50":
        lines.append(
            f"**The attack is another one than the paper's**: made on {_title(options.source)}, so "
            "the paper's numbers beside this run's are for orientation only."
        )
    if options.image_size < 224:
        lines.append(
            f"**Small profile**: {options.image_size} pixels instead of 224 and "
            f"{options.examples} example photos, to be done in minutes on two cores."
        )
    if options.photos == "orl":
        lines.append(f"Photos: {datasets.ORL_CREDIT}.")
    changed = [
        f"{field.name} = {getattr(options.readings, field.name)}"
        for field in dataclasses.fields(options.readings)
        if getattr(options.readings, field.name) != field.default
    ]
    if changed:
        lines.append(f"**Readings other than the defaults**: {', '.join(changed)}.")
    return lines


def _title(network: str) -> str:
    return backbones.BACKBONES[network].title


def _percent(value: float) -> str:
    return "–" if value is None or math.isnan(value) else f"{100 * value:.2f}"


def _number(value: float) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.4f}"


def _interval(value: float, low: float, high: float, percent: bool = False) -> str:
    show = _percent if percent else _number
    return f"{show(value)} [{show(low)}, {show(high)}]"


def _markdown(rows: Sequence[Mapping[Any, Any]]) -> str:
    escaped = pd.DataFrame(rows).map(lambda cell: str(cell).replace("|", r"\|"))
    return str(escaped.to_markdown(index=False, disable_numparse=True))


def _name_of_row(setting: Setting, network: str) -> str:
    title = _title(network)
    return f"{title} (source: white-box)" if network == setting.study.source else title


def _select(table: pd.DataFrame, **values: object) -> pd.DataFrame:
    for column, value in values.items():
        table = table[table[column] == value]
    return table


def _accuracy(setting: Setting, summary: dict[str, pd.DataFrame]) -> list[str]:
    rows = []
    for network in setting.study.networks:
        row = {"Network": _name_of_row(setting, network)}
        for _, cell in _select(summary["table_1"], network=network).iterrows():
            shown = _interval(cell["accuracy"], cell["low"], cell["high"], percent=True)
            row[f"ε = {cell['epsilon']:g}"] = f"{_percent(cell['paper'])} | {shown}"
        rows.append(row)
    white = []
    for network in setting.study.networks:
        row = {"Network": _title(network)}
        own = _select(summary["accuracy"], network=network, attack="white-box")
        for _, cell in own.iterrows():
            row[f"ε = {cell['epsilon']:g}"] = _interval(
                cell["accuracy"], cell["low"], cell["high"], percent=True
            )
        white.append(row)
    zero = summary["zero_gradients"]
    shares = ", ".join(
        f"{_title(network)} {100 * share:.3f} %"
        for network, share in zip(zero["network"], zero["zero_gradient"], strict=True)
    )
    return [
        "## Table 1: accuracy under the black-box attack, %",
        f"> {caveat(setting)}",
        "Each cell: `paper | this run [95 % Wilson interval]`. Intervals that overlap can't be "
        "told apart on this many photos.",
        _markdown(rows),
        "### Accuracy under the white-box attack, % (the paper prints no such table)",
        f"> {caveat(setting)}",
        _markdown(white),
        "Share of pixel values (each of a pixel's three colours counts) whose gradient is exactly "
        f"zero, which FGSM leaves unchanged: {shares}.",
    ]


def _psnr(setting: Setting, summary: dict[str, pd.DataFrame]) -> list[str]:
    # In pixel units one black-box set serves all networks; in network units each gets its own.
    black_box = [("black-box", network) for network in setting.study.networks]
    if setting.study.readings.epsilon_unit == "pixel":
        black_box = [("black-box", setting.study.source)]
    white_box = [("white-box", network) for network in setting.study.networks]
    rows = []
    for attack, network in (*black_box, *white_box):
        row = {"Perturbed set": f"{attack}, {_title(network)}"}
        for _, cell in _select(summary["psnr"], network=network, attack=attack).iterrows():
            finite = math.isfinite(cell["psnr"])
            shown = f"{cell['psnr']:.2f} ± {cell['spread']:.2f}" if finite else "∞"
            if finite and cell["unchanged"]:
                shown += f" ({cell['unchanged']} photos unchanged)"
            row[f"ε = {cell['epsilon']:g}"] = shown
        rows.append(row)
    return [
        "## PSNR of the perturbed sets, dB (the paper's Figure 3 is a picture we don't have)",
        f"> {caveat(setting)}",
        "Mean ± standard deviation over the test photos that the attack changed.",
        _markdown(rows),
    ]


def _mod(setting: Setting, summary: dict[str, pd.DataFrame]) -> list[str]:
    parts = [
        "## Table 3: MOD under the black-box attack",
        f"> {caveat(setting)}",
        "Each cell: `paper | this run [95 % bootstrap interval over identities]`; below it the "
        "MOD of random-sign noise of the same ε. The ceiling is the mean NISSIM between clean "
        "heatmaps of photos of different people: a MOD is to be read between those two.",
        _markdown(_mod_rows(setting, summary, "black-box")),
        "### MOD under the white-box attack (the paper prints no such table)",
        f"> {caveat(setting)}",
        _markdown(_mod_rows(setting, summary, "white-box")),
    ]
    return parts


def _mod_rows(
    setting: Setting, summary: dict[str, pd.DataFrame], attack: str
) -> list[dict[str, str]]:
    rows = []
    headline = _select(_headline(setting, summary["mod"]), attack=attack)
    for network in setting.study.networks:
        own = _select(headline, network=network)
        title = _name_of_row(setting, network) if attack == "black-box" else _title(network)
        shown, noise = {"Network": title}, {"Network": "– random-sign noise"}
        for _, cell in own.iterrows():
            column = f"ε = {cell['epsilon']:g}"
            shown[column] = _interval(cell["mod"], cell["low"], cell["high"])
            if attack == "black-box":
                printed = paper.printed(paper.TABLE_3, network, cell["epsilon"])
                shown[column] = f"{'–' if printed is None else f'{printed:.4f}'} | {shown[column]}"
            noise[column] = _number(cell["mod_noise"])
        if len(own):
            shown["Ceiling"] = noise["Ceiling"] = _number(own["ceiling"].iloc[0])
        rows += [shown, noise]
    mean = {"Network": "Mean shift"}
    for epsilon, cells in headline.groupby("epsilon"):
        column = f"ε = {epsilon:g}"
        mean[column] = _number(cells["mod"].mean())
        if attack == "black-box":
            # The paper's mean is over five networks: it stands beside no other mean.
            five = set(setting.study.networks) == set(paper.TABLE_3.columns)
            known = five and epsilon in paper.TABLE_3_MEAN_SHIFT.index
            shift = f"{paper.TABLE_3_MEAN_SHIFT[epsilon]:.4f}" if known else "–"
            mean[column] = f"{shift} | {mean[column]}"
    return [*rows, mean | {"Ceiling": ""}]


def _controls(setting: Setting, summary: dict[str, pd.DataFrame]) -> list[str]:
    mod = summary["mod"]
    headline = setting.study.readings.explained_class
    size = setting.study.readings.heatmap_size
    keys = ["network", "attack", "epsilon"]
    rows = []
    for _, cell in _headline(setting, mod).iterrows():
        if cell["epsilon"] == 0:
            continue
        same = _select(mod, **{key: cell[key] for key in keys})
        clean_class = _select(same, target="clean", size=size)
        native = _select(same, target=headline, size="native")
        rows.append(
            {
                "Network": _title(cell["network"]),
                "Attack": cell["attack"],
                "ε": f"{cell['epsilon']:g}",
                f"MOD, class {headline}": _number(cell["mod"]),
                "noise": _number(cell["mod_noise"]),
                "ceiling": _number(cell["ceiling"]),
                "MOD, clean photo's class": _number(_first(clean_class, "mod")),
                "noise, clean photo's class": _number(_first(clean_class, "mod_noise")),
                "flipped": f"{_number(cell['mod_flipped'])} (n={cell['flipped']})",
                "not flipped": f"{_number(cell['mod_unflipped'])} "
                f"(n={cell['photos'] - cell['flipped']})",
                "native size": _number(_first(native, "mod")),
                "native noise": _number(_first(native, "mod_noise")),
                "native ceiling": _number(_first(native, "ceiling")),
                "empty clean / perturbed / both": f"{cell['empty_clean']} / "
                f"{cell['empty_perturbed']} / {cell['both_empty']}",
            }
        )
    return [
        "## Controls of MOD",
        f"> {caveat(setting)}",
        "MOD mixes two things: maps that moved, and maps of another class. So it is given for the "
        "class predicted for each image and for the clean photo's predicted class, and split by "
        "whether the prediction flipped. 'Native size' compares the maps as the layer has them, "
        f"where SSIM's {metrics.WINDOW} x {metrics.WINDOW} window fits. Empty maps have no "
        "position that speaks for the class; two empty ones count as the same.",
        _markdown(rows),
    ]


def _first(table: pd.DataFrame, column: str) -> float:
    return float(table[column].iloc[0]) if len(table) else float("nan")


def _vid(setting: Setting, summary: dict[str, pd.DataFrame]) -> list[str]:
    rows = []
    headline = _headline(setting, summary["vid"])
    for network in setting.study.networks:
        row = {"Network": _title(network)}
        for attack in ("black-box", "white-box", "noise"):
            for _, cell in _select(headline, network=network, attack=attack).iterrows():
                row[attack] = _interval(cell["vid"], cell["low"], cell["high"])
        rows.append(row)
    return [
        "## VID (the paper's Figure 4 is a picture we don't have)",
        f"> {caveat(setting)}",
        "For each photo the standard deviation of its NISSIM over the levels of attack, then the "
        "mean over photos [95 % bootstrap interval over identities].",
        _markdown(rows),
    ]


def _figures(setting: Setting) -> list[str]:
    return [
        "## Figure 2: an attack",
        f"> {caveat(setting)}",
        "![A photo, the amplified perturbation, the perturbed photo and the predictions]"
        "(figures/figure_2.png)",
        "## Figure 4: density of NISSIM",
        f"> {caveat(setting)}",
        "![Density of NISSIM for each network and epsilon, with VID](figures/figure_4.png)",
    ]


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
        _markdown(rows),
    ]


def _left_out(excluded: pd.DataFrame) -> list[str]:
    if excluded.empty:
        return ["## Photos left out", "None."]
    rows = excluded[["photo", "reason"]].head(LISTED).to_dict("records")
    more = len(excluded) - LISTED
    parts = ["## Photos left out", f"{len(excluded)} (tables/excluded.csv):", _markdown(rows)]
    return [*parts, f"... and {more} more."] if more > 0 else parts


def _times(seconds: pd.Series[float]) -> list[str]:
    rows = [{"Stage": stage, "Seconds": f"{value:.0f}"} for stage, value in seconds.items()]
    return ["## Time", "Of each stage when it was last run:", _markdown(rows)]
