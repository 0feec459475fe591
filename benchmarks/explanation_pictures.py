"""Pictures of the explanation attack: photos before and after, and their heatmaps.

``python -m benchmarks.explanation_pictures PHOTOS WEIGHTS OUT PICTURE`` trains heads as
``benchmarks.explanation_attack`` does, with the same OUT. Of each network it shows the photos of
the first people that are answered rightly, whatever the attack then does.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from benchmarks.explanation_attack import (
    EPSILONS,
    NETWORKS,
    SIDE,
    STEPS,
    listed,
    trained,
)
from gradcam_adv import (
    ExplanationAttack,
    GradCAM,
    backends,
    machine,
    metrics,
    perturb,
    predict_logits,
)
from gradcam_adv.data import photos
from gradcam_adv.explain import resize
from gradcam_adv.models import backbones
from gradcam_adv.plots import overlay, sheet

EPSILON = EPSILONS[0]
# Of each network.
SHOWN = 2


def main() -> None:
    source, own, out, picture = sys.argv[1], *map(Path, sys.argv[2:5])
    backends.configure(machine.cores())
    out.mkdir(parents=True, exist_ok=True)
    people = listed(source)
    attacked = people[people["purpose"] == "attack"]
    images = photos.decode_all(attacked["path"], SIDE)
    names = attacked["name"].to_numpy()
    tiles, labels, captions = [], [], []
    for network in NETWORKS:
        model = trained(network, people, own, out)
        answers = predict_logits(model, images).argmax(axis=1)
        first = np.flatnonzero(answers == np.arange(len(names)))[:SHOWN]
        clean = images[first]
        moved = perturb(
            clean, ExplanationAttack(model, steps=STEPS)(clean, first, [EPSILON])[EPSILON]
        )
        explain = GradCAM(model)
        before, after = (
            resize(next(iter(explain(pixels).values())), SIDE) for pixels in (clean, moved)
        )
        distances = metrics.nissim(before, after)
        said = names[answers[first]], names[predict_logits(model, moved).argmax(axis=1)]
        for row, photo in enumerate(first):
            maps = overlay([clean[row]] * 2, [before[row], after[row]])
            tiles.append([clean[row], moved[row], *maps])
            labels.append(backbones.title(network))
            texts = [f"answer: {of[row]}" for of in said]
            captions.append([*texts, "", f"NISSIM {distances[row]:.2f}"])
            print(network, names[photo], *texts, captions[-1][-1])
    columns = ["photo", f"attacked, ε = {255 * EPSILON:.0f}/255", "heatmap before", "heatmap after"]
    figure = sheet(np.array(tiles), labels, columns, "The answer stays, the heatmap goes", captions)
    figure.savefig(picture, dpi=90, bbox_inches="tight")


if __name__ == "__main__":
    main()
