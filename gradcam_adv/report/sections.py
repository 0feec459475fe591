"""One arm's part of the report in Markdown: the paper's tables beside this run's."""

from __future__ import annotations

import math

import pandas as pd

from gradcam_adv.metrics import nissim as metrics
from gradcam_adv.paper import tables as paper
from gradcam_adv.report import attention, transfer
from gradcam_adv.report.cells import (
    NOISE_ROW,
    caveat,
    headline_rows,
    interval,
    markdown,
    name_of_row,
    number,
    percent,
    select,
    title_of,
)
from gradcam_adv.study import tables
from gradcam_adv.study.config import Arm
from gradcam_adv.study.setting import FROM, Setting

ARMS: dict[Arm, str] = {"plain": "Photos as they are", "aligned": "Aligned and cropped faces"}
# The paper's table of accuracies that an arm is held against, with its number.
ACCURACIES: dict[Arm, tuple[int, pd.DataFrame]] = {
    "plain": (1, paper.TABLE_1),
    "aligned": (2, paper.TABLE_2),
}


def of_arm(setting: Setting, summary: dict[str, pd.DataFrame]) -> list[str]:
    """All sections of one arm."""
    return [
        f"# {ARMS[setting.arm]}",
        *_accuracy(setting, summary),
        *_psnr(setting, summary),
        *_mod(setting, summary),
        *transfer.section(setting, summary),
        *_controls(setting, summary),
        *attention.section(setting, summary),
        *_vid(setting, summary),
        *_depth(setting, summary["depth"]),
        *_figures(setting),
    ]


def beside_paper(setting: Setting, summary: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The arm's table of accuracies, Table 3 and the transfer matrix, by name.

    The paper's values stand beside this run's.
    """
    number, accuracies = ACCURACIES[setting.arm]
    headline = headline_rows(setting, summary["mod"])
    return {
        f"table_{number}": _beside_paper(setting, summary["accuracy"], accuracies, "accuracy"),
        "table_3": _beside_paper(setting, headline, paper.TABLE_3, "mod"),
        "transfer": _transfer(setting, summary["accuracy"], headline, accuracies),
    }


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


def _transfer(
    setting: Setting, accuracy: pd.DataFrame, mod: pd.DataFrame, accuracies: pd.DataFrame
) -> pd.DataFrame:
    """The transfer matrix with the paper's value of each pair; the paper has one source."""
    study = setting.study
    table = tables.transfer(accuracy, mod, study.networks, study.source)
    for value, printed in (("accuracy", accuracies), ("mod", paper.TABLE_3)):
        table[f"paper_{value}"] = [
            paper.printed(printed, network, epsilon) if source == paper.SOURCE else None
            for source, network, epsilon in zip(
                table["source"], table["network"], table["epsilon"], strict=True
            )
        ]
    return table


def _accuracy(setting: Setting, summary: dict[str, pd.DataFrame]) -> list[str]:
    rows = []
    for network in setting.study.networks:
        row = {"Network": name_of_row(setting, network)}
        for _, cell in select(
            summary[f"table_{ACCURACIES[setting.arm][0]}"], network=network
        ).iterrows():
            shown = interval(cell["accuracy"], cell["low"], cell["high"], as_percent=True)
            row[f"ε = {cell['epsilon']:g}"] = f"{percent(cell['paper'])} | {shown}"
        rows.append(row)
    white = []
    for network in setting.study.networks:
        row = {"Network": title_of(network)}
        own = select(summary["accuracy"], network=network, attack="white-box")
        for _, cell in own.iterrows():
            row[f"ε = {cell['epsilon']:g}"] = interval(
                cell["accuracy"], cell["low"], cell["high"], as_percent=True
            )
        white.append(row)
    zero = summary["zero_gradients"]
    shares = ", ".join(
        f"{title_of(network)} {100 * share:.3f} %"
        for network, share in zip(zero["network"], zero["zero_gradient"], strict=True)
    )
    number, _ = ACCURACIES[setting.arm]
    return [
        f"## Table {number}: accuracy under the black-box attack, %",
        f"> {caveat(setting)}",
        "Each cell: `paper | this run [95 % Wilson interval]`. Intervals that overlap can't be "
        "told apart on this many photos.",
        markdown(rows),
        "### Accuracy under the white-box attack, % (the paper prints no such table)",
        f"> {caveat(setting)}",
        markdown(white),
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
        row = {"Perturbed set": f"{attack}, {title_of(network)}"}
        for _, cell in select(summary["psnr"], network=network, attack=attack).iterrows():
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
        markdown(rows),
    ]


def _mod(setting: Setting, summary: dict[str, pd.DataFrame]) -> list[str]:
    parts = [
        "## Table 3: MOD under the black-box attack",
        f"> {caveat(setting)}",
        "Each cell: `paper | this run [95 % bootstrap interval over identities]`; below it the "
        "MOD of random-sign noise of the same ε. The ceiling is the mean NISSIM between clean "
        "heatmaps of photos of different people: a MOD is to be read between those two. The paper "
        "does not say on which of its two sets it computed its Table 3.",
        markdown(_mod_rows(setting, summary, "black-box")),
        "### MOD under the white-box attack (the paper prints no such table)",
        f"> {caveat(setting)}",
        markdown(_mod_rows(setting, summary, "white-box")),
    ]
    return parts


def _mod_rows(
    setting: Setting, summary: dict[str, pd.DataFrame], attack: str
) -> list[dict[str, str]]:
    rows = []
    headline = select(headline_rows(setting, summary["mod"]), attack=attack)
    for network in setting.study.networks:
        own = select(headline, network=network)
        title = name_of_row(setting, network) if attack == "black-box" else title_of(network)
        shown, noise = {"Network": title}, {"Network": NOISE_ROW}
        for _, cell in own.iterrows():
            column = f"ε = {cell['epsilon']:g}"
            shown[column] = interval(cell["mod"], cell["low"], cell["high"])
            if attack == "black-box":
                printed = paper.printed(paper.TABLE_3, network, cell["epsilon"])
                shown[column] = f"{'–' if printed is None else f'{printed:.4f}'} | {shown[column]}"
            noise[column] = number(cell["mod_noise"])
        if len(own):
            shown["Ceiling"] = noise["Ceiling"] = number(own["ceiling"].iloc[0])
        rows += [shown, noise]
    mean = {"Network": "Mean shift"}
    for epsilon, cells in headline.groupby("epsilon"):
        column = f"ε = {epsilon:g}"
        mean[column] = number(cells["mod"].mean())
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
    for _, cell in headline_rows(setting, mod).iterrows():
        if cell["epsilon"] == 0 or cell["attack"].startswith(FROM):
            continue
        same = select(mod, **{key: cell[key] for key in keys})
        clean_class = select(same, target="clean", size=size)
        native = select(same, target=headline, size="native")
        rows.append(
            {
                "Network": title_of(cell["network"]),
                "Attack": cell["attack"],
                "ε": f"{cell['epsilon']:g}",
                f"MOD, class {headline}": number(cell["mod"]),
                "noise": number(cell["mod_noise"]),
                "ceiling": number(cell["ceiling"]),
                "MOD, clean photo's class": number(_first(clean_class, "mod")),
                "noise, clean photo's class": number(_first(clean_class, "mod_noise")),
                "flipped": f"{number(cell['mod_flipped'])} (n={cell['flipped']})",
                "not flipped": f"{number(cell['mod_unflipped'])} "
                f"(n={cell['photos'] - cell['flipped']})",
                "native size": number(_first(native, "mod")),
                "native noise": number(_first(native, "mod_noise")),
                "native ceiling": number(_first(native, "ceiling")),
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
        "position that speaks for the class; two empty ones count as the same. The same of the "
        f"transfer matrix in `tables/{setting.arm}/mod.csv`.",
        markdown(rows),
    ]


def _first(table: pd.DataFrame, column: str) -> float:
    return float(table[column].iloc[0]) if len(table) else float("nan")


def _vid(setting: Setting, summary: dict[str, pd.DataFrame]) -> list[str]:
    rows = []
    headline = headline_rows(setting, summary["vid"])
    for network in setting.study.networks:
        row = {"Network": title_of(network)}
        for attack in ("black-box", "white-box", "noise"):
            for _, cell in select(headline, network=network, attack=attack).iterrows():
                row[attack] = interval(cell["vid"], cell["low"], cell["high"])
        rows.append(row)
    return [
        "## VID (the paper's Figure 4 is a picture we don't have)",
        f"> {caveat(setting)}",
        "For each photo the standard deviation of its NISSIM over the levels of attack, then the "
        "mean over photos [95 % bootstrap interval over identities].",
        markdown(rows),
    ]


def _depth(setting: Setting, depth: pd.DataFrame) -> list[str]:
    own = select(depth, attack="black-box")
    rows = []
    for network in setting.study.networks:
        of_network = select(own, network=network)
        last = int(of_network["depth"].max())
        for place in sorted({round(share * last / 4) for share in range(5)}):
            cells = select(of_network, depth=place).sort_values("epsilon")
            row = {"Network": title_of(network), "Layer": f"{cells['layer'].iloc[0]} ({place + 1})"}
            for _, cell in cells.iterrows():
                row[f"ε = {cell['epsilon']:g}"] = f"{cell['mod']:.3f} ({cell['mod_noise']:.3f})"
            rows.append(row | {"Ceiling": number(cells["ceiling"].iloc[0])})
    photos = int(own["photos"].max())
    return [
        "## Depth profile: where the focus begins to shift",
        f"> {caveat(setting)}",
        f"MOD of the {photos} example photo{'s' * (photos != 1)} under the black-box attack, in "
        "brackets that of random-sign noise; the ceiling is that of example photos of different "
        "people; "
        f"here at five places of each network, in `tables/{setting.arm}/depth.csv` at every layer. "
        "So few photos show a course, not a value: for MOD of all layers over a whole set of "
        "images see `gradcam-adv score --model`.",
        markdown(rows),
        "![MOD of the example photos by layer, for each network and epsilon]"
        f"(figures/{setting.arm}/depth_profile.png)",
    ]


def _figures(setting: Setting) -> list[str]:
    pictures = {
        "Figure 1: the shift, seen on examples": (
            "figure_1",
            "Heatmaps of test photos, clean and attacked, with the outlines of their regions and "
            "the way of the centroid",
        ),
        "Accuracy and MOD along ε": (
            "curves",
            "Accuracy and MOD of each network against epsilon with their intervals, MOD with that "
            "of noise and its ceiling",
        ),
        "Transfer of the attack": (
            "transfer",
            "Accuracy and MOD of each network under the attack made on each, with those of noise, "
            "of clean photos and of unrelated ones",
        ),
        "Figure 2: an attack": (
            "figure_2",
            "A photo, the amplified perturbation, the perturbed photo and the predictions",
        ),
        "Figure 4: density of NISSIM": (
            "figure_4",
            "Density of NISSIM for each network and epsilon, with VID, that of noise and the "
            "ceiling",
        ),
        "Figure 5: heatmaps under the black-box attack": (
            "figure_5",
            "The last layer's heatmap of one photo, for each network and epsilon",
        ),
    }
    if setting.arm == "aligned":
        pictures["The aligned faces"] = ("crops", "Aligned and cropped faces of the test set")
    parts = []
    for heading, (name, alternative) in pictures.items():
        picture = f"![{alternative}](figures/{setting.arm}/{name}.png)"
        parts += [f"## {heading}", f"> {caveat(setting)}", picture]
    return parts
