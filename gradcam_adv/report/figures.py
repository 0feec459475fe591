"""The figures of an arm, drawn from the run's tables and files; no network runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.ticker import MaxNLocator

from gradcam_adv.models.backbones import title
from gradcam_adv.plots import depth, style
from gradcam_adv.report import attacks, curves, drawing, gain, sheets, transfer
from gradcam_adv.report.example_photos import photo_of
from gradcam_adv.report.text import UNRELATED, counted, rows_of
from gradcam_adv.study.attacks import BLACK_BOX, NOISE
from gradcam_adv.study.plan import ArmPlan
from gradcam_adv.study.tables import select

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Aligned faces in one figure.
CROPS_SHOWN = 40


def write_all(
    plan: ArmPlan, folder: Path, summary: dict[str, pd.DataFrame], caveat: str
) -> list[Path]:
    """Draw every figure of an arm; the files."""
    predictions = summary["predictions"]
    drawn = {
        "figure_1": sheets.shift_on_examples(plan, predictions, summary["mod"]),
        "gain": gain.figure(plan, summary["gain"], summary["gain_curves"], summary["half_shift"]),
        "curves": curves.accuracy_and_mod(plan, summary["accuracy"], summary["mod"]),
        "transfer": transfer.matrix(plan, summary["transfer"], summary["accuracy"]),
        "figure_2": successful_attack(plan, predictions),
        "figure_4": nissim_density(plan, summary["vid"], summary["mod"]),
        "figure_5": sheets.black_box_heatmaps(plan, predictions),
        "depth_profile": depth_profile(plan, summary["depth"]),
    }
    if "attacks" in summary:
        drawn["bracket"] = attacks.figure(plan, summary["attacks"], summary["bracket"])
    if plan.arm == "aligned":
        drawn["crops"] = aligned_faces(plan)
    return drawing.save(drawn, folder, caveat)


def successful_attack(plan: ArmPlan, predictions: pd.DataFrame) -> Figure:
    """Figure 2: photo, amplified perturbation, perturbed photo, with the source's predictions.

    The perturbation as a share of its largest value; that of FGSM is the sign of the gradient.

    The first test photo that the source gets right when clean and wrong at the smallest epsilon at
    which the attack on any such photo succeeds; if none succeeds, the first photo.
    """
    source, people, test = plan.study.source, plan.people, plan.photos.test
    attacked = select(predictions, network=source, attack=BLACK_BOX).query("epsilon > 0")
    fooled = attacked.query("predicted_clean == label and predicted != label")
    succeeded = len(fooled) > 0
    case = (fooled.sort_values("epsilon", kind="stable") if succeeded else attacked).iloc[0]

    row = int(test.index[test["photo"] == case["photo"]][0])
    epsilon = [case["epsilon"]]
    made = plan.evaluate[source].perturbations(BLACK_BOX, test.iloc[[row]], row, epsilon)
    ((added,),) = made.values()
    largest = max(np.abs(added).max(), np.finfo(np.float32).tiny)
    what = "perturbation, amplified\nat"
    if plan.study.own_attack == "fgsm":
        what = "sign of the gradient\nadded times"
    pictures = (
        (
            photo_of(plan, source, row, BLACK_BOX, 0.0),
            f"photo: {people[case['label']]}\npredicted {people[case['predicted_clean']]}",
        ),
        ((added / largest + 1) / 2, f"{what} ε = {case['epsilon']:g}"),
        (
            photo_of(plan, source, row, BLACK_BOX, case["epsilon"]),
            f"perturbed photo\npredicted {people[case['predicted']]}",
        ),
    )
    figure, axes = plt.subplots(1, 3, figsize=(9, 4.2))
    for axis, (picture, label) in zip(axes, pictures, strict=True):
        axis.imshow(picture, vmin=0, vmax=1)
        axis.set_title(label, fontsize=10, parse_math=False)
        axis.axis("off")
    outcome = "takes the person for somebody else" if succeeded else "makes no mistake yet"
    figure.suptitle(f"At ε = {case['epsilon']:g} {title(source)} {outcome}", fontsize=12)
    figure.subplots_adjust(left=0.02, right=0.98, top=0.8, bottom=0.02, wspace=0.05)
    return figure


def aligned_faces(plan: ArmPlan) -> Figure:
    """Up to 40 aligned faces, spread evenly over the test set."""
    test = plan.photos.test
    shown = np.linspace(0, len(test) - 1, min(CROPS_SHOWN, len(test))).astype(int)
    crops = plan.photos.pixels(test.iloc[shown])
    columns = min(8, len(crops))
    lines = -(-len(crops) // columns)
    size = (1.3 * columns, 1.3 * lines + 0.8)
    figure, axes = plt.subplots(lines, columns, figsize=size, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, crop in zip(axes.flat, crops, strict=False):
        axis.imshow(crop)
    figure.suptitle("Aligned faces of the test set", fontsize=12)
    figure.tight_layout(pad=0.3)
    return figure


def depth_profile(plan: ArmPlan, mod: pd.DataFrame) -> Figure:
    """MOD of the example photos by depth: where in each network attention begins to shift."""
    networks, mod = plan.study.networks, select(mod, attack=BLACK_BOX)
    size = 2 + 2.8 * len(networks), 3.9
    figure, (axes,) = drawing.panels(networks, plan.study.source, size, sharex=False)
    for axis, network in zip(axes, networks, strict=True):
        of_network = select(mod, network=network)
        depth.draw(axis, of_network)
        depth.draw_controls(axis, of_network)
        axis.set_xlabel("layer, from the pixels to the end")
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes[0].set_ylabel("MOD (mean NISSIM)")
    axes[0].set_ylim(bottom=0)
    of_attack = select(mod, epsilon=mod["epsilon"].max())
    furthest = of_attack.loc[of_attack.groupby("network", sort=False)["mod"].idxmax()]
    where = ", ".join(f"{title(r.network)} at {r.layer}" for r in rows_of(furthest))
    examples = counted(int(mod["photos"].max()), "example photo")
    level = f"{examples}, black-box, ε = {mod['epsilon'].max():g}"
    heading = f"Attention shifts most: {where} ({level})"
    return drawing.finished(figure, heading, axes[-1:])


def nissim_density(plan: ArmPlan, vid: pd.DataFrame, mod: pd.DataFrame) -> Figure:
    """Figure 4: the density of NISSIM for each network and epsilon, VID printed beside it.

    With its controls: the density under noise of the largest epsilon, and unrelated photos.
    """
    networks, levels = plan.study.networks, plan.study.attacked_epsilons
    vids, unrelated = (
        select(plan.headline(table), attack=BLACK_BOX)
        .drop_duplicates("network")
        .set_index("network")[value]
        for table, value in ((vid, "vid"), (mod, "unrelated"))
    )
    size = 2 + 2.8 * len(networks), 3.9
    figure, (axes,) = drawing.panels(networks, plan.study.source, size, sharey=False)
    furthest = [unrelated.max()]
    for axis, network in zip(axes, networks, strict=True):
        scored = plan.headline(plan.score[network].of_study())
        # Noise only of the largest: twice as many curves could not be told apart.
        noise = select(scored, attack=NOISE, epsilon=levels[-1])["nissim"]
        attacked = [select(scored, attack=BLACK_BOX, epsilon=e)["nissim"] for e in levels]
        furthest += [sample.max() for sample in (noise, *attacked)]
        colours = style.shades(len(levels))
        for level, sample, colour in zip(levels, attacked, colours, strict=True):
            _density(
                axis, sample, color=colour, fill=True, alpha=0.08, linewidth=1.8,
                label=f"ε = {level:g}",
            )  # fmt: skip
        _density(
            axis, noise, color=style.NOISE, linestyle="--", linewidth=1.8,
            label=f"noise, ε = {levels[-1]:g}",
        )  # fmt: skip
        axis.axvline(unrelated[network], color=style.UNRELATED, linestyle=":", label=UNRELATED)
        below = f"VID = {vids[network]:.4f}" if network in vids else "VID –"
        axis.set_title(f"{axis.get_title()}\n{below}", fontsize=10)
        axis.set_xlabel("NISSIM")
        axis.set_ylabel("")
    axes[0].set_ylabel("density")
    axes[0].set_xlim(0, min(1, 1.25 * max(furthest) + 0.02))
    drawing.legend_at_the_right(axes[-1])
    heading = "How far heatmaps shift under the black-box attack"
    if len(vids) > 1:
        least, most = (title(str(found)) for found in (vids.idxmin(), vids.idxmax()))
        heading += f": over ε it varies least on {least} and most on {most}"
    return drawing.finished(figure, heading)


def _density(axis: Axes, sample: pd.Series, **style: Any) -> None:
    if np.ptp(sample) > 0:
        sns.kdeplot(x=sample, ax=axis, clip=(0, 1), **style)
    else:  # the density of equal values can't be drawn
        line = {key: style[key] for key in ("color", "linestyle", "label") if key in style}
        axis.axvline(sample.iloc[0], **line)
