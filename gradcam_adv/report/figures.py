"""The run's figures, drawn from its tables and files, never from a model."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib

matplotlib.use("Agg")  # figures go to files, on machines without a screen as well

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from gradcam_adv.files import artifacts
from gradcam_adv.models import backbones
from gradcam_adv.plots import depth as profiles
from gradcam_adv.report import curves, sheets, transfer
from gradcam_adv.report.cells import headline_rows, name_of_row, select
from gradcam_adv.study.setting import signs_of, slice_of
from gradcam_adv.study.stages.score import scores

CROPS_SHOWN = 40

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gradcam_adv.study.setting import Setting


def write_all(
    setting: Setting, folder: Path, summary: dict[str, pd.DataFrame], caveat: str
) -> list[Path]:
    """Draw every figure of an arm; the files."""
    predictions = summary["predictions"]
    drawn = {
        "figure_1": sheets.shift_on_examples(setting, predictions, summary["mod"]),
        "curves": curves.accuracy_and_mod(setting, summary["accuracy"], summary["mod"]),
        "transfer": transfer.matrix(setting, summary["transfer"], summary["accuracy"]),
        "figure_2": successful_attack(setting, predictions),
        "figure_4": nissim_density(setting, summary["vid"], summary["mod"]),
        "figure_5": sheets.black_box_heatmaps(setting, predictions),
    }
    drawn["depth_profile"] = depth_profile(setting, summary["depth"])
    if setting.arm == "aligned":
        drawn["crops"] = aligned_faces(setting)
    return save(drawn, folder, caveat)


def save(drawn: Mapping[str, Figure], folder: Path, caveat: str) -> list[Path]:
    """Write figures by name as PNG and SVG, ``caveat`` at the foot of each, and close them."""
    files = []
    for name, figure in drawn.items():
        # Some 18 letters of this size are an inch wide.
        foot = textwrap.fill(caveat, min(110, int(18 * figure.get_figwidth())))
        figure.text(0.01, 0.005, foot, fontsize=7, va="bottom", parse_math=False)
        _settle(figure)
        for suffix in (".png", ".svg"):
            path = folder / f"{name}{suffix}"
            # A fixed salt and no date: equal runs give equal files.
            with (
                artifacts.whole_file(path) as temporary,
                plt.rc_context({"svg.hashsalt": "gradcam-adv"}),
            ):
                figure.savefig(temporary, dpi=150, metadata=_undated(suffix))
            files.append(path)
        plt.close(figure)
    return files


def _settle(figure: Figure) -> None:
    """Leave the axes where the layout puts them, rounded.

    The solver of constrained layouts gives other last digits in other processes, and names in SVG
    files are hashes of positions.
    """
    if figure.get_layout_engine() is None:
        return
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        left, bottom, width, height = axes.get_position(original=True).bounds
        axes.set_position((round(left, 5), round(bottom, 5), round(width, 5), round(height, 5)))


def _undated(suffix: str) -> dict[str, None]:
    return {"Date": None} if suffix == ".svg" else {}


def successful_attack(setting: Setting, predictions: pd.DataFrame) -> Figure:
    """Figure 2: photo, amplified perturbation, perturbed photo, with the source's predictions.

    The first test photo that the source network knows when clean and misses at the lowest
    epsilon at which any such photo is missed; the first photo where no attack succeeds.
    """
    source = setting.study.source
    own = predictions[(predictions["network"] == source) & (predictions["attack"] == "black-box")]
    known = own[(own["epsilon"] > 0) & (own["predicted_clean"] == own["label"])]
    fooled = known[known["predicted"] != known["label"]].sort_values("epsilon", kind="stable")
    succeeded = len(fooled) > 0
    case = fooled.iloc[0] if succeeded else own[own["epsilon"] > 0].iloc[0]

    test = setting.test
    row = int(test.index[test["photo"] == case["photo"]][0])
    name, rows, place = slice_of(setting, row)
    signs = signs_of(setting, "black-box", source, name, rows)[place]
    exact = setting.pixels(rows.iloc[place])
    clean = setting.read_again(exact)
    perturbed = setting.perturb(source, exact, signs, case["epsilon"])

    names = setting.people
    figure, axes = plt.subplots(1, 3, figsize=(9, 4.2))
    pictures = (
        (clean[0], f"photo: {names[case['label']]}\npredicted {names[case['predicted_clean']]}"),
        ((signs[0] + 1) / 2, f"sign of the gradient\nadded times ε = {case['epsilon']:g}"),
        (perturbed[0], f"perturbed photo\npredicted {names[case['predicted']]}"),
    )
    for axis, (picture, title) in zip(axes, pictures, strict=True):
        axis.imshow(picture, vmin=0, vmax=1)
        axis.set_title(title, fontsize=10, parse_math=False)
        axis.axis("off")
    outcome = "A successful attack" if succeeded else "No attack succeeded; one example"
    figure.suptitle(f"{outcome} on {backbones.BACKBONES[source].title}", fontsize=12)
    figure.subplots_adjust(left=0.02, right=0.98, top=0.8, bottom=0.08, wspace=0.05)
    return figure


def depth_profile(setting: Setting, depth: pd.DataFrame) -> Figure:
    """Where in each network the focus begins to shift: mean NISSIM of the example photos by depth.

    Args:
        setting: of the arm.
        depth: of :func:`gradcam_adv.study.tables.depth`.
    """
    networks = setting.study.networks
    own = depth[depth["attack"] == "black-box"]
    figure, axes = plt.subplots(
        1, len(networks), figsize=(2 + 2.8 * len(networks), 3.9), sharey=True, squeeze=False
    )
    for axis, network in zip(axes[0], networks, strict=True):
        of_network = own[own["network"] == network]
        profiles.draw(axis, of_network)
        profiles.draw_controls(axis, of_network)
        own_attack = " (source: white-box)" if network == setting.study.source else ""
        axis.set_title(f"{backbones.BACKBONES[network].title}{own_attack}", fontsize=10)
        axis.set_xlabel("layer, from the pixels to the end")
        axis.set_ylabel("MOD (mean NISSIM)" if axis is axes[0, 0] else "")
    axes[0, 0].set_ylim(bottom=0)
    axes[0, -1].legend(fontsize=9, loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False)
    photos = int(own["photos"].max())
    figure.suptitle(
        f"MOD along the depth, black-box attack, {photos} example photo{'s' * (photos != 1)}",
        fontsize=12,
    )
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    return figure


def aligned_faces(setting: Setting) -> Figure:
    """Up to 40 aligned faces, spread evenly over the test set."""
    rows = setting.test.iloc[
        np.linspace(0, len(setting.test) - 1, min(CROPS_SHOWN, len(setting.test))).astype(int)
    ]
    crops = setting.pixels(rows)
    columns = min(8, len(crops))
    lines = -(-len(crops) // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(1.3 * columns, 1.3 * lines + 0.8), squeeze=False
    )
    for axis in axes.flat:
        axis.axis("off")
    for axis, crop in zip(axes.flat, crops, strict=False):
        axis.imshow(crop)
    figure.suptitle("Aligned faces of the test set", fontsize=12)
    figure.tight_layout(rect=(0, 0.06, 1, 1), pad=0.3)
    return figure


def nissim_density(setting: Setting, vid: pd.DataFrame, mod: pd.DataFrame) -> Figure:
    """Figure 4: the density of NISSIM for each network and epsilon, VID printed beside it.

    With its controls: the density under noise of the largest epsilon, and the ceiling of MOD.

    Args:
        setting: of the arm.
        vid: of :func:`gradcam_adv.study.tables.vid`.
        mod: of :func:`gradcam_adv.study.tables.mod`, for the ceilings.
    """
    networks, levels = setting.study.networks, setting.study.attacked_epsilons

    def shown(table: pd.DataFrame) -> pd.DataFrame:
        own = select(headline_rows(setting, table), attack="black-box")
        return own.drop_duplicates("network").set_index("network")

    vids, ceilings = shown(vid)["vid"], shown(mod)["ceiling"]
    figure, axes = plt.subplots(
        1, len(networks), figsize=(2 + 2.8 * len(networks), 3.9), sharex=True, squeeze=False
    )
    palette = sns.color_palette("viridis_r", len(levels))
    furthest = ceilings.max()
    for axis, network in zip(axes[0], networks, strict=True):
        scored = headline_rows(setting, scores(setting, network))
        for level, colour in zip(levels, palette, strict=True):
            own = select(scored, attack="black-box", epsilon=level)["nissim"]
            furthest = max(furthest, own.max())
            _density(
                axis, own, color=colour, fill=True, alpha=0.15, linewidth=1.8,
                label=f"ε = {level:g}",
            )  # fmt: skip
        # Of the largest alone, as many curves again could not be told apart.
        noise = select(scored, attack="noise", epsilon=levels[-1])["nissim"]
        furthest = max(furthest, noise.max())
        _density(
            axis, noise, color=profiles.NOISE, linestyle="--", linewidth=1.2,
            label=f"random-sign noise, ε = {levels[-1]:g}",
        )  # fmt: skip
        axis.axvline(
            ceilings[network], color=profiles.CEILING, linestyle=":",
            label="unrelated photos (ceiling)",
        )  # fmt: skip
        below = f"VID = {vids[network]:.4f}" if network in vids else "VID –"
        axis.set_title(f"{name_of_row(setting, network)}\n{below}", fontsize=10)
        axis.set_xlabel("NISSIM")
        axis.set_ylabel("density" if axis is axes[0, 0] else "")
    axes[0, 0].set_xlim(0, min(1, 1.25 * furthest + 0.02))
    axes[0, -1].legend(fontsize=9, loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False)
    figure.suptitle(
        f"NISSIM under the black-box attack from {backbones.BACKBONES[setting.study.source].title}",
        fontsize=12,
    )
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    return figure


def _density(axis: Axes, sample: pd.Series, **style: Any) -> None:
    if np.ptp(sample) > 0:
        sns.kdeplot(x=sample, ax=axis, clip=(0, 1), **style)
    else:  # a density of equal values is a spike that can't be drawn
        line = {key: style[key] for key in ("color", "linestyle", "label") if key in style}
        axis.axvline(sample.iloc[0], **line)
