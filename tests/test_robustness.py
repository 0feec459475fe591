"""MOD and VID of any model: the numbers of the single functions, in batches, with controls."""

import itertools

import keras
import numpy as np
import pandas as pd
import pytest
from skimage.metrics import structural_similarity

from gradcam_adv import (
    FGSM,
    PGD,
    GradCAM,
    RandomSigns,
    dissimilarity,
    layer_names,
    metrics,
    perturb,
)
from gradcam_adv.explain import resize
from gradcam_adv.robustness import batches

LAYERS = ["conv_a", "relu_b"]


def measure(model, images, labels=None, **options):
    return dissimilarity(model, images, labels, **{"epsilons": [0.1], "verbose": 0} | options)


@pytest.fixture(scope="module")
def predicted(small_cnn, images):
    return small_cnn.predict(images, verbose=0).argmax(axis=1)


@pytest.fixture(scope="module")
def usual(small_cnn, images):
    """With all defaults but the one epsilon."""
    return measure(small_cnn, images)


@pytest.fixture(scope="module")
def other_cnn(small_cnn):
    """The same network with other weights."""
    keras.utils.set_random_seed(8)
    return keras.models.clone_model(small_cnn)


def nissim_at_input(model, images, attacked, layer="relu_b", targets=None):
    """NISSIM of one layer, by Grad-CAM and scikit-image."""
    explain = GradCAM(model, layer)
    before, after = (resize(explain(x, targets)[layer], 24) for x in (images, attacked))
    return [
        (1 - structural_similarity(a, b, data_range=1)) / 2
        for a, b in zip(before.astype(float), after.astype(float), strict=True)
    ]


def test_numbers_are_those_of_the_single_functions(small_cnn, images, labels):
    options = {"epsilons": [0.1, 0.02], "layers": LAYERS, "batch_size": 4}
    result = measure(small_cnn, images, labels, **options)
    perturbations = FGSM(small_cnn)(images, labels, [0.1, 0.02])
    for epsilon in (0.02, 0.1):
        attacked = perturb(images, perturbations[epsilon])
        for name in LAYERS:
            expected = nissim_at_input(small_cnn, images, attacked, name)
            rows = result.nissim.query("layer == @name and epsilon == @epsilon")
            assert rows["image"].tolist() == list(range(11))
            np.testing.assert_allclose(rows["nissim"], expected, atol=1e-5)
            mod = result.mod.query("layer == @name and epsilon == @epsilon")
            assert mod["mod"].item() == pytest.approx(np.mean(expected), abs=1e-5)
            assert mod["images"].item() == 11
        rows = result.images.query("epsilon == @epsilon")
        predicted = small_cnn.predict(attacked, verbose=0).argmax(axis=1)
        assert rows["predicted"].tolist() == predicted.tolist()
        assert rows["label"].tolist() == labels.tolist()
        np.testing.assert_allclose(rows["psnr"], metrics.psnr(images, attacked))
    both = result.nissim.query("layer == 'relu_b'").pivot(
        index="epsilon", columns="image", values="nissim"
    )
    vid = result.vid.set_index("layer").loc["relu_b"]
    assert vid["vid"] == pytest.approx(both.std(ddof=0).mean())
    assert (vid["levels"], vid["images"]) == (2, 11)


def test_the_last_layer_and_the_paper_s_epsilons_are_the_defaults(small_cnn, images):
    result = dissimilarity(small_cnn, images[:2], verbose=0)
    assert result.mod["layer"].tolist() == ["relu_b"] * 4
    assert result.mod["epsilon"].tolist() == [0.01, 0.05, 0.075, 0.1]


def test_depth_is_the_position_in_the_network(small_cnn, images):
    result = measure(small_cnn, images, layers="all")
    names = layer_names(small_cnn)
    assert result.vid.sort_values("depth")["layer"].tolist() == names
    assert measure(small_cnn, images, layers=names[3]).vid["depth"].tolist() == [3]
    first = measure(small_cnn, images, layers=0)
    assert (first.vid["layer"].item(), first.vid["depth"].item()) == (names[0], 0)


def test_without_labels_the_predicted_class_is_attacked(small_cnn, images, predicted, usual):
    given = measure(small_cnn, images, predicted)
    pd.testing.assert_frame_equal(given.images, usual.images)
    pd.testing.assert_frame_equal(given.nissim, usual.nissim)
    assert usual.images["label"].tolist() == predicted.tolist()
    assert usual.images["predicted_clean"].tolist() == predicted.tolist()


def test_the_class_of_the_clean_image_can_be_explained_on_both(small_cnn, images):
    # Logits around zero on these images, so that some predictions flip.
    unsure = keras.models.clone_model(small_cnn)
    unsure.set_weights(small_cnn.get_weights())
    head = unsure.get_layer("logits")
    kernel, bias = head.get_weights()
    head.set_weights([kernel, bias - small_cnn.predict(images, verbose=0).mean(axis=0)])
    free = measure(unsure, images, epsilons=[0.0001, 0.2])
    fixed = measure(unsure, images, epsilons=[0.0001, 0.2], targets="clean")
    flipped = free.images.eval("predicted != predicted_clean").to_numpy()
    assert flipped.any() and not flipped.all()
    difference = np.abs(free.nissim["nissim"] - fixed.nissim["nissim"]).to_numpy()
    assert difference[~flipped].max() < 1e-6
    assert difference[flipped].max() > 1e-3


def test_given_classes_and_functions_of_the_logits(small_cnn, images, labels, predicted):
    given = measure(small_cnn, images, targets=labels, batch_size=4)
    attacked = perturb(images, FGSM(small_cnn)(images, predicted, [0.1])[0.1])
    expected = nissim_at_input(small_cnn, images, attacked, targets=labels)
    np.testing.assert_allclose(given.nissim["nissim"], expected, rtol=0, atol=1e-5)
    third = measure(small_cnn, images, targets=lambda logits: logits[:, 3])
    same = measure(small_cnn, images, targets=np.full(11, 3))
    np.testing.assert_allclose(third.nissim["nissim"], same.nissim["nissim"], rtol=0, atol=1e-6)


def control(result, name, epsilon=None):
    """NISSIM of one control by image."""
    rows = result.controls[result.controls["control"] == name]
    if epsilon is not None:
        rows = rows[rows["epsilon"] == epsilon]
    return rows.sort_values(["layer", "epsilon", "image"])["nissim"].to_numpy()


def test_noise_and_the_mirrored_perturbation_are_those_of_the_single_functions(
    small_cnn, images, labels
):
    result = measure(small_cnn, images, labels, epsilons=[0.1, 0.02], batch_size=4)
    sizes = [0.02, 0.1, 0.2, 0.3]
    noise = RandomSigns()(images, None, sizes)
    signs = FGSM(small_cnn)(images, labels, [0.02, 0.1])
    for size in sizes:
        expected = nissim_at_input(small_cnn, images, perturb(images, noise[size]))
        np.testing.assert_allclose(control(result, "noise", size), expected, rtol=0, atol=1e-5)
        if size <= 0.1:
            mod = result.mod.query("epsilon == @size").squeeze()
            assert mod["mod_noise"] == pytest.approx(np.mean(expected), abs=1e-5)
            mirrored = perturb(images, signs[size][:, :, ::-1])
            expected = nissim_at_input(small_cnn, images, mirrored)
            found = control(result, "mirrored", size)
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
            assert mod["mod_mirrored"] == pytest.approx(np.mean(expected), abs=1e-5)
    assert sorted(result.controls.query("control == 'mirrored'")["epsilon"].unique()) == [0.02, 0.1]
    of_attack = result.controls.query("control == 'noise' and epsilon <= 0.1")
    by_level = of_attack.pivot(index="epsilon", columns="image", values="nissim")
    assert result.vid["vid_noise"].item() == pytest.approx(by_level.std(ddof=0).mean())


@pytest.mark.parametrize("candidates", [64, 3])
def test_unrelated_images_are_of_other_classes_out_of_the_whole_set(
    monkeypatch, small_cnn, images, labels, candidates
):
    monkeypatch.setattr(batches, "CANDIDATES", candidates)
    result = measure(small_cnn, images, labels, batch_size=4)
    clean = resize(GradCAM(small_cnn)(images)["relu_b"], 24)
    attacked = perturb(images, FGSM(small_cnn)(images, labels, [0.1])[0.1])
    moved = resize(GradCAM(small_cnn)(attacked)["relu_b"], 24)
    # Each value is one that a mean over others of another label can have.
    between = np.array([[float(metrics.nissim(a, b)) for b in clean] for a in clean])
    with_attacked = np.array([[float(metrics.nissim(a, b)) for b in clean] for a in moved])
    drawn, of_one_class = set(), set()
    for name, matrix in (("unrelated", between), ("unrelated_attacked", with_attacked)):
        rows = result.controls[result.controls["control"] == name]
        for image, value in zip(rows["image"], rows["nissim"], strict=True):
            others = np.flatnonzero(labels != labels[image])
            possible = {
                some: matrix[image, list(some)].mean()
                for count in (range(1, 6) if name == "unrelated" else (1,))
                for some in itertools.combinations(others, count)
            }
            near = [some for some, mean in possible.items() if abs(mean - value) < 1e-5]
            assert near, (name, image)
            if len(near) == 1:
                drawn |= set(near[0])
                if name == "unrelated" and labels[image] == 4:
                    of_one_class.add(near[0])
    assert len(drawn) <= candidates
    # Not all images of a class are compared with the same others.
    assert len(of_one_class) > 1 or candidates == 3
    mod = result.mod.squeeze()
    assert mod["unrelated_images"] == len(control(result, "unrelated"))
    assert mod["unrelated"] == pytest.approx(control(result, "unrelated").mean())
    assert mod["unrelated_attacked"] == pytest.approx(control(result, "unrelated_attacked").mean())


def test_the_gain_is_that_of_the_curves(small_cnn, images, labels):
    groups = np.arange(11) // 2
    options = {"epsilons": [0.02, 0.1], "noise_epsilons": [0.005, 0.5], "groups": groups}
    result = measure(small_cnn, images, labels, layers=LAYERS, **options)
    for layer in LAYERS:
        of_layer = result.controls[result.controls["layer"] == layer]
        attack = result.nissim.query("layer == @layer").pivot(
            index="epsilon", columns="image", values="nissim"
        )
        curves = {
            name: of_layer[of_layer["control"] == name].pivot(
                index="epsilon", columns="image", values="nissim"
            )
            for name in ("noise", "mirrored")
        }
        assert list(curves["noise"].index) == [0.005, 0.02, 0.1, 0.5]
        for name in curves:
            curve = curves[name]
            rows = result.gain.query("layer == @layer and control == @name")
            expected = metrics.gain(attack, [0.02, 0.1], curve, curve.index, groups)
            np.testing.assert_allclose(rows["gain"], expected.gain)
            np.testing.assert_allclose(rows["low"], expected.low)
            np.testing.assert_allclose(rows["high"], expected.high)
            np.testing.assert_allclose(rows["equivalent"], expected.gain * [0.02, 0.1])
        half = result.half_shift.set_index("layer").loc[layer]
        unrelated = of_layer.query("control == 'unrelated'").set_index("image")["nissim"]
        assert half["images"] == 11 and half["unrelated"] == pytest.approx(unrelated.mean())
        curve = curves["noise"]
        expected = metrics.half_shift(
            attack, attack.index, curve, curve.index, unrelated.sort_index(), groups
        )
        for name in ("attack", "noise", "ratio"):
            shown = half[[name, f"{name}_low", f"{name}_high"]].astype(float)
            np.testing.assert_allclose(shown, getattr(expected, name))


def test_an_attack_that_is_the_noise_has_a_gain_of_one(small_cnn, images):
    gain = measure(small_cnn, images, attack=RandomSigns()).gain.set_index("control")
    assert gain.loc["noise", ["gain", "low", "high"]].tolist() == pytest.approx([1, 1, 1])


def test_no_number_depends_on_the_batch_size(small_cnn, images):
    measured = [measure(small_cnn, images, layers="all", batch_size=size) for size in (1, 3, 11)]
    keys = ["control", "layer", "epsilon", "image"]
    for other in measured[1:]:
        for name, by in (("nissim", keys[1:]), ("controls", keys)):
            tables = [
                vars(m)[name].set_index(by)["nissim"].sort_index() for m in (measured[0], other)
            ]
            pd.testing.assert_series_equal(*tables, rtol=0, atol=1e-4)


@pytest.mark.parametrize("candidates", [64, 4])
def test_controls_do_not_depend_on_the_order_of_the_images(
    monkeypatch, small_cnn, images, labels, candidates
):
    """Also of images sorted by class, in batches of which each has one class only."""
    monkeypatch.setattr(batches, "CANDIDATES", candidates)
    order = np.argsort(labels)
    first = measure(small_cnn, images, labels, batch_size=4).controls
    then = measure(small_cnn, images[order], labels[order], batch_size=2).controls
    then["image"] = order[then["image"].astype(int)]
    tables = [
        t.set_index(["control", "epsilon", "image"])["nissim"].sort_index() for t in (first, then)
    ]
    pd.testing.assert_series_equal(*tables, rtol=0, atol=1e-4)


def test_images_of_one_class_have_no_unrelated_ones(small_cnn, images):
    result = measure(small_cnn, images, np.full(11, 2))
    assert set(result.controls["control"]) == {"noise", "mirrored"}
    assert result.mod[["unrelated", "unrelated_attacked"]].isna().all(axis=None)
    assert result.mod["unrelated_images"].tolist() == [0]
    assert result.mod["mod_noise"].notna().all()
    assert len(result.half_shift) == 0
    assert result.gain["gain"].notna().all()


def test_without_controls(small_cnn, images, usual):
    result = measure(small_cnn, images, controls=False)
    empty = ["empty_clean", "empty_perturbed"]
    columns = ["layer", "depth", "epsilon", "images", "mod", *empty, "both_empty"]
    assert list(result.mod.columns) == columns
    assert list(result.nissim.columns) == ["image", "layer", "epsilon", "nissim", *empty, "depth"]
    assert [len(t) for t in (result.controls, result.gain, result.half_shift)] == [0, 0, 0]
    pd.testing.assert_frame_equal(result.mod, usual.mod[result.mod.columns])
    pd.testing.assert_frame_equal(result.vid, usual.vid[result.vid.columns])


def test_native_size(small_cnn, images, predicted):
    result = measure(small_cnn, images, layers="relu_b", size="native")
    attacked = perturb(images, FGSM(small_cnn)(images, predicted, [0.1])[0.1])
    maps = [GradCAM(small_cnn, "relu_b")(x)["relu_b"] for x in (images, attacked)]
    np.testing.assert_allclose(result.nissim["nissim"], metrics.nissim(*maps), atol=1e-5)


class Watched:
    """Images on the disk; notes how many are read at a time."""

    def __init__(self, path):
        self.array = np.load(path, mmap_mode="r")
        self.read = []

    def __len__(self):
        return len(self.array)

    def __getitem__(self, rows: slice):
        self.read.append(len(self.array[rows]))
        return self.array[rows]


def test_images_on_the_disk_are_read_batch_by_batch(
    monkeypatch, small_cnn, images, usual, tmp_path
):
    np.save(tmp_path / "images.npy", images)
    watched = Watched(tmp_path / "images.npy")
    found = measure(small_cnn, watched, controls=False, batch_size=4)
    assert watched.read == [4, 4, 3]
    np.testing.assert_allclose(found.mod["mod"], usual.mod["mod"], rtol=0, atol=1e-5)
    # The candidates for unrelated images are chosen by the content of all, and read first.
    monkeypatch.setattr(batches, "CANDIDATES", 3)
    watched = Watched(tmp_path / "images.npy")
    from_disk = measure(small_cnn, watched, batch_size=4)
    assert watched.read == [4, 4, 3, 1, 1, 1, 4, 4, 3]
    in_memory = measure(small_cnn, images, batch_size=4)
    pd.testing.assert_frame_equal(from_disk.nissim, in_memory.nissim)


@pytest.mark.parametrize(("verbose", "bar"), [(1, True), (0, False), ("auto", False)])
def test_verbose_decides_on_the_bar(small_cnn, images, capsys, verbose, bar):
    measure(small_cnn, images, controls=False, verbose=verbose)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert ("dissimilarity: 100%" in captured.err) == bar
    assert bool(captured.err) == bar


# Attacks of other kinds.


def test_an_attack_made_with_another_model_is_a_transfer_attack(
    small_cnn, other_cnn, images, labels, usual
):
    result = measure(small_cnn, images, labels, attack=FGSM(other_cnn))
    attacked = perturb(images, FGSM(other_cnn)(images, labels, [0.1])[0.1])
    expected = nissim_at_input(small_cnn, images, attacked)
    np.testing.assert_allclose(result.nissim["nissim"], expected, rtol=0, atol=1e-5)
    predicted = small_cnn.predict(attacked, verbose=0).argmax(axis=1)
    assert result.images["predicted"].tolist() == predicted.tolist()
    # The control is the same noise.
    np.testing.assert_array_equal(control(result, "noise"), control(usual, "noise"))


def test_an_attack_of_the_user_s_own(small_cnn, images, predicted):
    asked = []

    def brighten(images, labels, epsilons):
        asked.append((images.dtype, labels.tolist(), list(epsilons)))
        return {epsilon: np.full(images.shape, epsilon / 2) for epsilon in epsilons}

    options = {"epsilons": [0.3, 0.1], "controls": False, "batch_size": 8}
    result = measure(small_cnn, images, attack=brighten, **options)
    assert asked == [
        (np.float32, predicted[:8].tolist(), [0.1, 0.3]),
        (np.float32, predicted[8:].tolist(), [0.1, 0.3]),
    ]
    for epsilon in (0.1, 0.3):
        brighter = np.clip(images + epsilon / 2, 0, 1)
        own = result.images.query("epsilon == @epsilon")
        np.testing.assert_allclose(own["psnr"], metrics.psnr(images, brighter), rtol=1e-5)
        expected = nissim_at_input(small_cnn, images, brighter)
        rows = result.nissim.query("epsilon == @epsilon")
        np.testing.assert_allclose(rows["nissim"], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("perturbation", "message"),
    [
        (np.zeros((11, 24, 24)), r"perturbation of the shape .*Received: shape \(11, 24, 24\)"),
        (np.full((11, 24, 24, 3), np.nan), "finite perturbation on image 0"),
    ],
)
def test_refuses_what_an_attack_of_the_user_s_own_gives(small_cnn, images, perturbation, message):
    with pytest.raises(ValueError, match=message):
        measure(small_cnn, images, attack=lambda *_: {0.1: perturbation}, batch_size=11)


# Explainers of other kinds.


def test_an_explainer_of_the_user_s_own(small_cnn, images, predicted):
    asked = []

    def brightness(images, targets):
        asked.append(targets)
        return {"mean": images.mean(axis=-1), "relu_a": images.max(axis=-1)}

    options = {"controls": False, "batch_size": 11}
    result = measure(small_cnn, images, explainer=brightness, **options)
    attacked = perturb(images, FGSM(small_cnn, batch_size=11)(images, predicted, [0.1])[0.1])
    after = small_cnn.predict(attacked, verbose=0).argmax(axis=1)
    assert [targets.tolist() for targets in asked] == [predicted.tolist(), after.tolist()]
    assert result.images["predicted"].tolist() == after.tolist()
    expected = metrics.nissim(images.mean(axis=-1), attacked.mean(axis=-1))
    rows = result.nissim.query("layer == 'mean'")
    np.testing.assert_allclose(rows["nissim"], expected, rtol=0, atol=1e-5)
    # A layer of the model has its position there, another name its position in the dict.
    assert result.vid.set_index("layer")["depth"].to_dict() == {"mean": 0, "relu_a": 2}
    # What is explained can be said as for Grad-CAM.
    asked.clear()
    measure(small_cnn, images, explainer=brightness, targets="clean", **options)
    measure(small_cnn, images, explainer=brightness, targets=np.arange(11) % 5, **options)
    measure(small_cnn, images, explainer=brightness, targets=np.sum, **options)
    *classes, clean, attacked = asked
    assert [targets.tolist() for targets in classes] == [
        *[predicted.tolist()] * 2,
        *[(np.arange(11) % 5).tolist()] * 2,
    ]
    assert clean is attacked is np.sum


class WithLogits:
    """An explainer that also gives logits; here they say that every image is of class 2."""

    layers = ("plane",)

    def __init__(self, maps=None):
        self.maps = maps
        self.asked = []

    def __call__(self, images, targets):
        raise AssertionError("maps_and_logits is there")

    def maps_and_logits(self, images, classes, score=None):
        self.asked.append((classes.tolist(), score))
        maps = images[:, None, :, :, 0] if self.maps is None else self.maps
        return {"plane": maps}, np.eye(5)[np.full(len(images), 2)]


def test_an_explainer_that_gives_logits_makes_the_predictions(small_cnn, images):
    explain = WithLogits()
    result = measure(small_cnn, images, explainer=explain, controls=False, batch_size=11)
    assert (result.images[["label", "predicted_clean", "predicted"]] == 2).all(axis=None)
    assert explain.asked == [([[-1]] * 11, None)] * 2
    attacked = perturb(images, FGSM(small_cnn)(images, np.full(11, 2), [0.1])[0.1])
    expected = metrics.nissim(images[..., 0], attacked[..., 0])
    np.testing.assert_allclose(result.nissim["nissim"], expected, rtol=0, atol=1e-5)


WRONG_HEATMAPS = [
    (np.zeros((11, 8, 8)), "a dict of heatmaps by layer. Received: ndarray"),
    ({}, "a dict of heatmaps by layer. Received: dict"),
    ({"a": np.zeros((11, 8))}, r"11 heatmaps \(N, h, w\) .*Received: shape \(11, 8\) of layer 'a'"),
    ({"a": np.zeros((10, 8, 8))}, r"11 heatmaps .*Received: shape \(10, 8, 8\) of layer 'a'"),
    ({"a": np.full((11, 8, 8), 2.0)}, r"heatmaps of layer 'a' with values in \[0, 1\].* to 2"),
]


@pytest.mark.parametrize(("heatmaps", "message"), WRONG_HEATMAPS)
def test_refuses_what_an_explainer_of_the_user_s_own_gives(small_cnn, images, heatmaps, message):
    with pytest.raises(ValueError, match=f"Expected .*{message}"):
        measure(small_cnn, images, explainer=lambda images, targets: heatmaps, batch_size=11)


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        (np.zeros((11, 8, 8)), r"11 heatmaps \(N, h, w\) .*Received: shape \(11, 8\) of .*'plane'"),
        (np.full((11, 1, 8, 8), -1.0), r"heatmaps of layer 'plane' with values .*from -1"),
    ],
)
def test_refuses_wrong_maps_of_an_explainer_that_gives_logits(small_cnn, images, maps, message):
    with pytest.raises(ValueError, match=f"Expected .*{message}"):
        measure(small_cnn, images, explainer=WithLogits(maps), batch_size=11)


REFUSED = {
    "epsilons above 0, at most 1. Received: \\[\\]": {"epsilons": []},
    "epsilons above 0, at most 1. Received: \\[0, 0.1\\]": {"epsilons": [0, 0.1]},
    "epsilons above 0, at most 1. Received: \\[nan\\]": {"epsilons": [float("nan")]},
    "epsilons as a list of numbers. Received: 0.1": {"epsilons": 0.1},
    "targets as None .*Received: 'true'": {"targets": "true"},
    "targets as 11 integers.*Received: shape \\(2,\\)": {"targets": [1, 2]},
    "epsilons above 0, at most 1. Received: \\[0.1, 2\\]": {"noise_epsilons": [2]},
    "groups of shape \\(11,\\), one per image. Received: shape \\(2,\\)": {
        "groups": ["ann", "bob"]
    },
    "size as one of input, native. Received: 'small'": {"size": "small"},
    "labels as 11 integers": {"labels": [1, 2]},
    "at least one layer. Received: none": {"layers": []},
    "batch_size as a whole number above 0. Received: 0": {"batch_size": 0},
    "verbose as 'auto', 0 or 1. Received: 2": {"verbose": 2},
    "layers with the default explainer only. Received: layers = 'all' and an explainer": {
        "layers": "all",
        "explainer": WithLogits(),
    },
    r"7 x 7 or more .*Received: tiny with 6 x 6": {"size": "native", "layers": "tiny"},
}


@pytest.mark.parametrize("message", REFUSED)
def test_refuses(small_cnn, images, message):
    model = small_cnn
    if "tiny" in message:
        x = keras.layers.AveragePooling2D(2, name="tiny")(small_cnn.get_layer("relu_b").output)
        x = keras.layers.GlobalAveragePooling2D()(x)
        model = keras.Model(small_cnn.inputs, keras.layers.Dense(2)(x))
    with pytest.raises(ValueError, match=message):
        measure(model, images, **REFUSED[message])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda images: images[:0], "at least one image"),
        (lambda images: images[:, 1:], r"shape \(N, 24, 24, 3\). Received: shape \(11, 23, 24, 3"),
        (lambda images: (255 * images).astype(np.uint8), "images as floats in"),
    ],
)
def test_refuses_images(small_cnn, images, change, message):
    with pytest.raises(ValueError, match=message):
        measure(small_cnn, change(images))


def test_a_targeted_attack_needs_the_classes_to_move_to(small_cnn, images, labels):
    attack = PGD(small_cnn, steps=2, targeted=True, batch_size=4)
    with pytest.raises(ValueError, match="Expected labels, the classes to move to, .*none"):
        measure(small_cnn, images, attack=attack)
    result = measure(small_cnn, images, labels, attack=attack, controls=False)
    assert (result.images["logit"] > result.images["logit_clean"]).mean() > 0.5
