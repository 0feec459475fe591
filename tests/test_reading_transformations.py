"""What each reading does to labels, pictures, scores and SSIM: on a few pixels, by hand."""

from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from gradcam_adv.attacks import FGSM, perturb
from gradcam_adv.data import faces, photos
from gradcam_adv.explain.explainer import PREDICTED
from gradcam_adv.explain.gradcam import GradCAM
from gradcam_adv.files import read
from gradcam_adv.metrics import nissim, nissim_variant
from gradcam_adv.models import bases, classifiers
from gradcam_adv.models.backbones import epsilon_unit
from gradcam_adv.study.stages.attack import SignAttack
from gradcam_adv.study.stages.evaluate import Evaluate
from gradcam_adv.study.stages.explain import Explain
from gradcam_adv.study.stages.score import Score

# A photo of 4 x 4 pixels with three equal channels, and signs for it.
PIXELS = np.repeat(np.linspace(0, 1, 16, dtype=np.float32).reshape(1, 4, 4, 1), 3, axis=-1)
SIGNS = np.ones((1, 4, 4, 3), np.float32)
SIGNS[0, 1] = -1
SIGNS[0, 2] = 0


def test_the_tutorial_feeds_every_network_from_minus_1_to_1_and_counts_epsilon_there():
    inputs = keras.Input((4, 4, 3))
    fed = keras.Model(inputs, bases._preprocess("tf", inputs))
    np.testing.assert_allclose(fed(PIXELS), 2 * PIXELS - 1, atol=1e-6)
    size = 0.1 * epsilon_unit("vgg16", "network", "tf")
    attacked = np.asarray(fed(perturb(PIXELS, size * SIGNS)))
    by_hand = np.clip((2 * PIXELS - 1) + 0.1 * SIGNS, -1, 1)
    np.testing.assert_allclose(attacked, by_hand, atol=1e-6)


@pytest.mark.parametrize("preprocessing", ["own", "unit", "tf"])
def test_a_base_has_the_preprocessing_that_the_reading_says(preprocessing):
    from gradcam_adv.models.weights import Weights

    base = bases.build("vgg16", 32, Weights("random"), preprocessing=preprocessing)
    found = [layer for layer in base.layers if layer.name == "preprocessing"]
    assert [layer.scale for layer in found] == {"own": [255.0], "unit": [], "tf": [2.0]}[
        preprocessing
    ]


def test_a_perturbation_stored_as_a_picture_is_never_negative():
    exact = 0.1 * SIGNS
    assert photos.perturbation_as_stored(exact, 0.1, "exact") is exact
    added = photos.perturbation_as_stored(exact, 0.1, "png")
    # 1 is stored as 255, -1 as 0, and 0 as 127.5, which rounds to 128.
    by_hand = np.array([0.1, 0, 0.1 * 128 / 255, 0.1], np.float32)
    np.testing.assert_allclose(added, np.broadcast_to(by_hand[:, None, None], (1, 4, 4, 3)))
    # Of as many 1 as -1 the mean is half the size.
    balanced = np.where(np.arange(4)[:, None, None] % 2, 0.1, -0.1) * np.ones((1, 4, 4, 3))
    assert photos.perturbation_as_stored(balanced, 0.1, "png").mean() == pytest.approx(0.05)
    # A flat picture is the same in JPEG. Of a mixed one only the mean stays.
    flat = np.full((1, 4, 4, 3), 0.1, np.float32)
    np.testing.assert_allclose(photos.perturbation_as_stored(flat, 0.1, "jpeg"), flat)
    mixed = photos.perturbation_as_stored(balanced, 0.1, "jpeg")
    assert mixed.min() >= 0 and mixed.mean() == pytest.approx(0.05, abs=0.002)


def test_what_an_evaluation_adds_goes_through_the_stored_picture():
    evaluate = SimpleNamespace(
        size=lambda epsilon: epsilon / 2,
        stored_perturbation="png",
        stored=lambda images: photos.as_stored(images, "float32"),
    )
    found = Evaluate.attacked(evaluate, PIXELS, {0.1: 0.1 * SIGNS}, 0.2)
    added = np.array([0.1, 0, 0.1 * 128 / 255, 0.1])[:, None, None]
    np.testing.assert_allclose(found, np.clip(PIXELS + added, 0, 1), atol=1e-6)


def test_clean_photos_of_another_loader_have_the_nearest_pixels(tmp_path):
    large = np.arange(64, dtype=np.uint8).reshape(8, 8)
    Image.fromarray(large).convert("RGB").save(tmp_path / "a.png")
    found = photos.decode_all([tmp_path / "a.png"], 4, "nearest")
    # Pixel i of the small photo has its centre at 2 i + 1 of the large one.
    np.testing.assert_allclose(found[0, ..., 0] * 255, large[1::2, 1::2], atol=1e-4)
    smooth = photos.decode_all([tmp_path / "a.png"], 4)
    assert np.abs(smooth - found).max() > 1 / 255
    evaluate = SimpleNamespace(
        clean=SimpleNamespace(pixels=lambda rows: found), stored=lambda images: images
    )
    images = Evaluate.images(evaluate, pd.DataFrame({"photo": ["a.png"]}), 0, smooth, "clean", 0.0)
    assert images is found


def test_crops_of_the_nearest_pixels_have_no_new_values():
    rng = np.random.default_rng(0)
    photo = Image.fromarray(np.where(rng.random((60, 60, 3)) < 0.5, 0, 255).astype(np.uint8))
    fields = dict.fromkeys(faces.Face.__dataclass_fields__, 0.5)
    face = faces.Face(
        **fields
        | {"height": 0.8, "width": 0.6, "left_eye_x": 0.35, "right_eye_x": 0.65, "faces": 1}
    )
    nearest, smooth = (faces.align(photo, face, 16, 0.1, how) for how in ("nearest", "bilinear"))
    assert {*np.unique(nearest)} == {0, 255}
    assert len(np.unique(smooth)) > 10


class Trained:
    """A classifier where a training stands, and the features of its batch size."""

    def __init__(self, model, batch_size=4):
        self._model, self.features = model, SimpleNamespace(batch_size=batch_size)

    def model(self, precision, fold=None):
        return self._model


@pytest.mark.parametrize("attacked_label", ["true", "next", "predicted"])
def test_the_label_that_is_attacked(small_cnn, images, labels, tmp_path, attacked_label):
    classes = [f"person {i}" for i in range(5)]
    attack = SignAttack(
        run=tmp_path,
        arm="plain",
        network="vgg16",
        photos=SimpleNamespace(identities=classes),
        train=Trained(small_cnn),
        attacked_label=attacked_label,
        precision="float32",
    )
    object.__setattr__(attack, "fingerprint", "0" * 64)
    attack.folder.mkdir(parents=True)
    labels = np.where(np.arange(len(labels)) == 0, 4, labels)  # the last one is followed by 0
    rows = pd.DataFrame({"photo": [f"{i}.png" for i in range(len(labels))], "label": labels})
    attack.begin()("0000000", rows, images)
    attacked = {
        "true": labels,
        "next": [{0: 1, 1: 2, 2: 3, 3: 4, 4: 0}[label] for label in labels],
        "predicted": np.asarray(small_cnn(images)).argmax(axis=1),
    }[attacked_label]
    expected = FGSM(small_cnn).signs(images, np.array(attacked))
    np.testing.assert_array_equal(read.array(attack.path("0000000")), expected)


@pytest.fixture(scope="module")
def classifier(small_cnn, images) -> keras.Model:
    """A classifier with a hidden layer, whose largest unit depends on the image."""
    extractor = keras.Model(small_cnn.inputs[0], small_cnn.get_layer("average").output)
    head = classifiers.dense_head(12, 5, seed=1)
    hidden = head.get_layer("hidden")
    kernel, _ = hidden.get_weights()
    hidden.set_weights([kernel, -np.asarray(extractor(images)).mean(axis=0) @ kernel])
    return classifiers.assemble(extractor, head)


def test_the_layer_before_the_logits_is_explained_by_its_largest_unit(classifier, images, labels):
    evaluate = SimpleNamespace(
        train=Trained(classifier), precision="float32", explained_score="hidden", epsilons={},
        network="tiny", alias=False, images=lambda rows, row, exact, attack, epsilon: exact,
    )  # fmt: skip
    model, logits_of = Evaluate.explained_model(evaluate, None)
    hidden = np.asarray(model(images))
    assert hidden.shape == (11, classifiers.HIDDEN_UNITS)
    logits = np.asarray(classifier(images))
    np.testing.assert_allclose(logits_of(hidden), logits, atol=1e-5)

    attacked = images * np.linspace(0, 1, 24, dtype=np.float32)[:, None, None]
    evaluate.epsilons = {"noise": (0.2,)}
    evaluate.perturbations = evaluate.zero_gradient = lambda *_: 0.0
    evaluate.attacked = lambda exact, added, epsilon: attacked
    rows = pd.DataFrame({"photo": range(11), "identity": "ann", "label": labels})
    explain = GradCAM(model, "relu_b", batch_size=4)
    table, maps = Evaluate._evaluated(evaluate, explain, logits_of, 0, rows, images)
    assert table["predicted_clean"].tolist() == logits.argmax(axis=1).tolist()
    assert table["predicted"].tolist() == np.asarray(classifier(attacked)).argmax(axis=1).tolist()
    # By hand: the same, with the unit that is largest in the hidden layer as the class.
    units, units_attacked = hidden.argmax(axis=1), np.asarray(model(attacked)).argmax(axis=1)
    assert (units != units_attacked).any()
    by_hand = GradCAM(model, "relu_b", batch_size=4)
    for i, targets in enumerate((units_attacked, units)):
        expected = by_hand(attacked, targets)["relu_b"]
        np.testing.assert_allclose(maps["noise 0.2"][:, i], expected, atol=1e-6)
    for i in range(3):
        np.testing.assert_allclose(maps["clean"][:, i], by_hand(images, units)["relu_b"], atol=1e-6)


def test_the_example_photos_are_explained_by_the_hidden_layer_too():
    explain = SimpleNamespace(evaluate=SimpleNamespace(explained_score="hidden"))
    found = Explain._explained(
        explain, pd.DataFrame(), pd.DataFrame({"photo": ["a", "b"]}), "x", 0.1
    )
    assert found.tolist() == [PREDICTED] * 2


MAPS = np.random.default_rng(0).random((3, 12, 12))
OTHERS = np.random.default_rng(1).random((3, 12, 12))


def test_a_uniform_ssim_is_the_study_s():
    np.testing.assert_allclose(nissim_variant(MAPS, OTHERS), nissim(MAPS, OTHERS), atol=1e-12)


def test_a_range_of_2_has_constants_four_times_as_large():
    a, b = np.full((7, 7), 0.25), np.full((7, 7), 0.75)
    c1 = (0.01 * 2) ** 2
    ssim = (2 * 0.25 * 0.75 + c1) / (0.25**2 + 0.75**2 + c1)
    assert nissim_variant(a, b, "range 2") == pytest.approx((1 - ssim) / 2, abs=1e-12)
    assert (nissim_variant(MAPS, OTHERS, "range 2") < nissim(MAPS, OTHERS)).all()


def test_the_gaussian_ssim_is_tensorflow_s():
    image = pytest.importorskip("tensorflow").image
    expected = image.ssim(MAPS[..., None], OTHERS[..., None], max_val=1.0).numpy()
    found = nissim_variant(MAPS, OTHERS, "gaussian")
    np.testing.assert_allclose(found, (1 - expected) / 2, atol=1e-4)


@pytest.mark.parametrize(("ssim", "side"), [("range 2", 6), ("gaussian", 10)])
def test_maps_smaller_than_the_window_are_an_error(ssim, side):
    with pytest.raises(ValueError, match=f"{side + 1} x {side + 1} .the SSIM window. or more"):
        nissim_variant(np.zeros((side, side)), np.zeros((side, side)), ssim)
    with pytest.raises(ValueError, match="of one shape"):
        nissim_variant(np.zeros((12, 12)), np.zeros((12, 13)), ssim)


def test_pictures_and_a_range_of_2_are_scikit_image_s():
    ssim = pytest.importorskip("skimage.metrics").structural_similarity
    first, second = np.random.default_rng(3).random((2, 4, 9, 12, 3))
    expected = [
        ssim(a, b, win_size=7, data_range=2, channel_axis=-1)
        for a, b in zip(first, second, strict=True)
    ]
    found = nissim_variant(first, second, "range 2", colours=True)
    np.testing.assert_allclose(found, (1 - np.array(expected)) / 2, atol=1e-12)


def compared(what: str, clean: np.ndarray, perturbed: np.ndarray, *of_both: np.ndarray) -> float:
    """NISSIM of two maps as a study of this reading scores them."""
    score = SimpleNamespace(compared=what, ssim="uniform", _is_usual=False)
    maps = [maps[None, None] for maps in (clean, perturbed)]
    return Score._nissim(score, *maps, 8, of_both).item()


def test_heatmaps_are_compared_in_the_colours_of_jet():
    # The ends of jet: a dark blue, (0, 0, 0.5), and a dark red, (0.5, 0, 0).
    nothing, all_of_it = np.zeros((4, 4)), np.ones((4, 4))
    black = np.zeros((1, 1, 1, 1))
    c1 = 0.01**2
    channels = [c1 / (0.5**2 + c1), 1.0, c1 / (0.5**2 + c1)]
    found = compared("jet", nothing, all_of_it, black, black)
    assert found == pytest.approx((1 - np.mean(channels)) / 2, abs=1e-6)


def test_overlays_are_half_the_photo_and_half_the_colours():
    nothing = np.zeros((4, 4))
    grey, white = np.full((1, 8, 8, 3), 0.5), np.ones((1, 8, 8, 3))
    c1 = 0.01**2
    pairs = [(0.25, 0.5), (0.25, 0.5), (0.5, 0.75)]
    channels = [(2 * a * b + c1) / (a**2 + b**2 + c1) for a, b in pairs]
    found = compared("overlays", nothing, nothing, grey, white)
    assert found == pytest.approx((1 - np.mean(channels)) / 2, abs=1e-6)
    assert compared("overlays", nothing, nothing, grey, grey) == 0
