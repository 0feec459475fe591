"""Values that are NaN or infinite stop what runs, with the network, photo and layer named."""

import dataclasses
import re

import keras
import numpy as np
import pandas as pd
import pytest
from conftest import CLASSES, SIZE
from PIL import Image

from gradcam_adv import backends as gradients
from gradcam_adv import batching as batches
from gradcam_adv import dissimilarity, flatten, heatmaps, sign
from gradcam_adv.app import folder as own_model
from gradcam_adv.data import sources
from gradcam_adv.explain import tf_keras_vis as explainers
from gradcam_adv.files import artifacts
from gradcam_adv.models import backbones, classifiers, weights
from gradcam_adv.study import config as study
from gradcam_adv.study import setting
from gradcam_adv.study.stages import explain as explaining
from gradcam_adv.study.stages import networks as stages
from gradcam_adv.study.stages import photos as arms
from gradcam_adv.study.stages import score as scoring


@keras.saving.register_keras_serializable("tests")
class BreaksOnBlack(keras.layers.Layer):
    """Its input, plus ``value`` where the image is all black: 0 for every other."""

    def __init__(self, value: float, **options: object) -> None:
        super().__init__(**options)
        self.value = value

    def call(self, images, maps):
        black = keras.ops.max(images, axis=(1, 2, 3), keepdims=True) == 0
        return keras.ops.where(black, self.value, maps)

    def get_config(self):
        return {**super().get_config(), "value": self.value}


def breaking(value: float = float("nan"), after: str = "middle", classes: int = CLASSES):
    """Three convolutions and dense logits; what stands behind ``after`` breaks on black photos."""
    keras.utils.set_random_seed(3)
    inputs = x = keras.Input((SIZE, SIZE, 3))
    for name in ("first", "middle", "last"):
        x = keras.layers.Conv2D(4, 3, strides=2, name=name)(x)
        if name == after:
            x = BreaksOnBlack(value, name="breaks")(inputs, x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(classes, name="logits")(x))


@pytest.fixture
def one_black(images) -> np.ndarray:
    """Eleven images, that with the number 9 black: in batches of 4 it is in the last, filled up."""
    changed = images.copy()
    changed[9] = 0
    return changed


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_item_that_is_no_number_is_named_with_how_many(value):
    values = np.zeros((4, 2, 3), np.float32)
    assert batches.check_finite(values, "maps") is values
    values[2, 1, 1:] = value
    values[3] = value
    with pytest.raises(
        batches.NotFiniteError,
        match="^Expected finite maps on image 2. Received: 2 of 6 values NaN or infinite$",
    ):
        batches.check_finite(values, "maps")
    with pytest.raises(ValueError, match="on image 12. "):
        batches.check_finite(values, "maps", first=10)


def test_the_innermost_names_stay():
    with (
        pytest.raises(ValueError, match="^Expected finite logits of vgg16 on b.jpg. Received: 1 "),
        batches.naming(["wrong"] * 3),
        batches.naming(["a.jpg", "b.jpg"], "vgg16"),
    ):
        batches.check_finite(np.array([0, np.nan]), "logits")


def test_heatmaps_name_the_image_and_the_layer_where_it_begins(one_black):
    with pytest.raises(ValueError, match="sums of layer 'breaks' on image 9. Received: 25 of 25 "):
        heatmaps(breaking(), one_black, ["first", "middle", "breaks", "last"], batch_size=4)


def test_heatmaps_name_the_image_whose_logits_overflow(one_black):
    model = breaking(3e38, after="last")
    model.get_layer("logits").set_weights([np.full((4, CLASSES), 1e3), np.zeros(CLASSES)])
    with pytest.raises(ValueError, match="finite logits on image 9. Received: 5 of 5 values"):
        heatmaps(model, one_black, "first", batch_size=4)


def test_what_fills_up_a_batch_is_not_looked_at(monkeypatch, small_cnn, images, labels):
    """Eleven images in batches of 4: the twelfth is filling."""

    def nan_in_the_twelfth(make):
        def made(*arguments):
            run, calls = make(*arguments), []

            def call(*arrays):
                calls.append(len(arrays[0]))
                results = run(*arrays)
                if len(calls) == 3:
                    first, last = results
                    for array in (*(first if isinstance(first, list) else [first]), last):
                        array[3] = np.nan
                return results

            return call

        return made

    for name in ("gradcam_sums", "loss_gradient"):
        monkeypatch.setattr(gradients, name, nan_in_the_twelfth(getattr(gradients, name)))
    assert np.isfinite(heatmaps(small_cnn, images, "last", batch_size=4)["relu_b"]).all()
    assert set(np.unique(sign(small_cnn, images, labels, batch_size=4))) <= {-1, 0, 1}


def test_sign_names_the_image_of_gradients_and_of_logits(one_black, labels):
    keras.utils.set_random_seed(3)
    inputs = keras.Input((SIZE, SIZE, 3))
    mean = keras.ops.mean(inputs, axis=(1, 2))
    # The gradient of a root is infinite at zero, where the root itself is a number.
    model = keras.Model(inputs, keras.layers.Dense(CLASSES)(keras.ops.sqrt(mean)))
    with pytest.raises(ValueError, match="finite gradients by the pixels on image 9. Received"):
        sign(model, one_black, labels, batch_size=4)
    # NaN that doesn't come from the pixels has no gradient by them.
    with pytest.raises(ValueError, match="finite logits on image 9. Received: 5 of 5 values"):
        sign(breaking(), one_black, labels, batch_size=4)


@pytest.mark.tensorflow
def test_other_explainers_and_whole_models_name_the_image(monkeypatch, one_black, small_cnn):
    with pytest.raises(ValueError, match="'breaks' on image 9. Received: 25 of 25"):
        dissimilarity(breaking(), one_black, layers=["first", "breaks"], batch_size=4)
    explain = explainers.compiled("layercam", flatten(small_cnn), "last", 4)
    peer = explain._peer

    def broken(*arguments, **options):
        maps = np.array(peer(*arguments, **options))
        maps[1] = np.inf
        return maps

    monkeypatch.setattr(explain, "_peer", broken)
    with pytest.raises(ValueError, match="maps of layer 'relu_b' on image 1. Received: 144 of 144"):
        explain(one_black, np.zeros((11, 1), int))


def test_a_saved_model_s_images_are_named_by_their_files(tmp_path, one_black):
    classifiers.save(breaking(), tmp_path / "mine.keras", {})
    (tmp_path / "photos").mkdir()
    for number, image in enumerate(one_black):
        pixels = Image.fromarray(np.rint(255 * image).astype(np.uint8))
        pixels.save(tmp_path / "photos" / f"{number:02d}.png")
    options = {"layers": "breaks", "epsilons": [0.1], "explainer": "gradcam", "batch_size": 4}
    for run in (own_model.explain, own_model.score):
        with pytest.raises(ValueError, match="'breaks' of mine.keras on 09.png. Received"):
            run(tmp_path / "mine.keras", tmp_path / "photos", tmp_path / "out", **options)


# A study's stages, with a tiny network in the place of VGG16.

BLACK = "bob/3.png"


@pytest.fixture
def own(tmp_path, photo_folder, monkeypatch) -> setting.Setting:
    """A setting whose photo BLACK, a test photo, is black; its network's last layer is "last"."""
    Image.new("RGB", (40, 48)).save(photo_folder / BLACK)
    content = {"name": "x", "networks": ["vgg16"], "source": "vgg16", "examples": 99}
    parsed = study.parse(content | {"photos": str(photo_folder), "batch_size": 4})
    # Neither are VGG16's.
    layers = {"vgg16": ["first", "breaks"]}
    parsed = dataclasses.replace(parsed, image_size=SIZE, layers=layers)
    listing = sources.list_photos(str(photo_folder), classes=None, min_photos=3, seed=0)
    names = ("data", "features/vgg16", "attack/vgg16", "evaluate/vgg16", "explain/vgg16")
    folders = {name: tmp_path / "run" / name for name in names}
    made = setting.Setting(parsed, "plain", tmp_path / "models", listing, {}, folders, {})
    arms.data(made, folders["data"], allow_left_out=False)
    tested = made.table["photo"].str.contains("/[345]")
    set_splits(made, np.where(tested, "test", "train"))
    made = dataclasses.replace(made)  # which reads its table anew
    assert (made.test["photo"] == BLACK).sum() == 1
    tiny = dataclasses.replace(backbones.BACKBONES["vgg16"], last_activation="last")
    monkeypatch.setitem(backbones.BACKBONES, "vgg16", tiny)
    return made


def set_splits(own: setting.Setting, splits: np.ndarray) -> None:
    table = own.table.assign(split=splits)
    artifacts.write_table(own.folders["data"] / "photos.csv", table)


def with_model(monkeypatch, model: keras.Model) -> None:
    monkeypatch.setattr(setting.Setting, "model", lambda own, network: model)


def clean_signs(own: setting.Setting) -> None:
    shape = (len(own.test), SIZE, SIZE, 3)
    artifacts.write_array(own.folders["attack/vgg16"] / "0000000.npy", np.zeros(shape, np.int8))


def received(what: str, condition: str = "") -> str:
    return re.escape(f"Expected finite {what} of vgg16 on {BLACK}{condition}. Received: ")


def test_features(own, monkeypatch, tmp_path):
    model = breaking()
    base = keras.Model(model.inputs, model.get_layer("last").output)
    monkeypatch.setattr(stages, "_base", lambda *_: base)
    own.weights["vgg16"] = weights.Weights("file")
    with pytest.raises(ValueError, match=received("features")):
        stages.features(own, tmp_path / "features", "vgg16")
    assert not list((tmp_path / "features").glob("*.npy"))


@pytest.mark.parametrize("attacked", ["true", "predicted"])
def test_attack(own, monkeypatch, tmp_path, attacked):
    readings = dataclasses.replace(own.study.readings, attacked_label=attacked)
    own = dataclasses.replace(own, study=dataclasses.replace(own.study, readings=readings))
    with_model(monkeypatch, breaking(classes=3))
    with pytest.raises(ValueError, match=received("logits")):
        stages.attack(own, tmp_path / "attack", "vgg16")


def test_evaluate(own, monkeypatch, tmp_path):
    with_model(monkeypatch, breaking(after="first", classes=3))
    clean_signs(own)
    with pytest.raises(ValueError, match=received("Grad-CAM sums of layer 'last'", ", clean")):
        stages.evaluate(own, tmp_path / "evaluate", "vgg16")


def test_evaluate_names_the_level(own, monkeypatch, tmp_path):
    """A network that breaks on what is above every photo's own values alone."""
    with_model(monkeypatch, breaking(after="first", classes=3))
    monkeypatch.setattr(
        setting.Setting, "perturb", lambda own, network, clean, signs, epsilon: 0 * clean
    )
    Image.new("RGB", (40, 48), "white").save(own.listing.root / BLACK)
    clean_signs(own)
    first = own.test["photo"].iloc[0]
    level = f", black-box {own.study.attacked_epsilons[0]!r}"
    message = f"layer 'last' of vgg16 on {first}{level}. Received: "
    with pytest.raises(ValueError, match=re.escape(message)):
        stages.evaluate(own, tmp_path / "evaluate", "vgg16")


def test_explain(own, monkeypatch, tmp_path):
    with_model(monkeypatch, breaking(classes=3))
    clean_signs(own)
    predicted = pd.DataFrame({"photo": own.test["photo"], "label": own.test["label"]})
    levels = [(a, e) for a in ("black-box", "noise") for e in own.study.epsilons]
    table = pd.concat(
        predicted.assign(attack=a, epsilon=e, predicted=0, predicted_clean=0) for a, e in levels
    )
    monkeypatch.setattr(explaining, "predictions", lambda *_: table)
    folder = tmp_path / "explain"
    with pytest.raises(ValueError, match=received("Grad-CAM sums of layer 'breaks'", ", clean")):
        explaining.explain(own, folder, "vgg16")
    place = own.test.index[own.test["photo"] == BLACK].item()
    assert len(list(folder.glob("example-*.npz"))) == place  # those before it are kept


def test_maps_that_are_scored(own, monkeypatch, tmp_path):
    """Nothing that the stages write isn't finite; maps may still be damaged on the disk."""
    count, row = len(own.test), own.test.index[own.test["photo"] == BLACK].item()
    keys = [setting.condition_key(*level) for level in setting.conditions(own.study, "vgg16")]
    maps = {key: np.full((count, 3, 9, 9), 0.5, np.float32) for key in keys}
    levels = [(a, e) for a in ("black-box", "noise") for e in own.study.epsilons]
    table = pd.concat(
        own.test[["photo"]].assign(attack=a, epsilon=e, predicted=0, predicted_clean=0)
        for a, e in levels
    )
    own_maps = own.folders["evaluate/vgg16"] / "last-0000000.npz"
    for key in ("clean", keys[-1]):
        broken = {**maps, key: maps[key].copy()}
        broken[key][row, :, 4, 4] = np.nan
        message = received("maps of layer 'last'", f", {key}")
        with pytest.raises(ValueError, match=message):
            scoring._score_slice(own, "vgg16", own.test, broken, table)
    own_maps.parent.mkdir(parents=True)
    np.savez(own_maps, **{**maps, "clean": broken["clean"] * np.nan})
    first = own.test["photo"].iloc[0]
    with pytest.raises(ValueError, match=f"layer 'last' of vgg16 on {first}, clean. Received"):
        scoring._ceiling(own, "vgg16")
    explained = own.folders["explain/vgg16"]
    explained.mkdir(parents=True)
    for number in range(count):
        each = {f"{key}/first": np.full((9, 9), 0.5, np.float32) for key in keys}
        if number == row:
            each["clean/first"][0, 0] = np.inf
        np.savez(explained / f"example-{number:07d}.npz", **each)
    message = received("maps of layer 'first'", ", clean")
    with pytest.raises(ValueError, match=message):
        scoring._score_layers(own, "vgg16", row)
    with pytest.raises(ValueError, match=message):
        scoring._depth_ceiling(own, "vgg16")


def test_logits_of_the_assembled_network(own, monkeypatch):
    finite = np.zeros((len(own.table), 3), np.float32)
    with pytest.raises(ValueError, match=received("logits")):
        stages._check_same_logits(own, "vgg16", breaking(classes=3), finite)
    # NaN is not above 1e-4.
    with pytest.raises(ValueError, match="head's logits .*Received: a difference of nan"):
        stages._check_same_logits(own, "vgg16", breaking(0.0, classes=3), finite * np.nan)


@pytest.mark.parametrize("column", ["loss", "val_loss"])
def test_losses_are_named_with_network_and_epoch(column):
    history = pd.DataFrame({"epoch": [1, 2, 3], "loss": 1.0, "val_loss": 2.0})
    stages._check_losses(history, "vgg16")
    history.loc[1:, column] = np.nan
    with pytest.raises(ValueError, match=f"head of vgg16. Received: .*{column} nan.* in epoch 2$"):
        stages._check_losses(history, "vgg16")


@pytest.mark.filterwarnings("ignore:overflow encountered")
@pytest.mark.parametrize(
    ("value", "message"),
    [
        # Standardized it is infinite.
        (3e38, "losses of the head of vgg16. Received: .* val_loss (nan|inf) in epoch 1"),
        # Training would not notice: a ReLU of NaN may be zero.
        (np.nan, "features of vgg16 on PHOTO. Received: 1 of 4 values"),
    ],
)
def test_features_to_train_on(own, tmp_path, value, message):
    features = np.random.default_rng(0).random((len(own.table), 4), np.float32)
    every_fourth = np.arange(len(own.table)) % 4 == 0
    set_splits(own, np.where(every_fourth, "validation", "train"))
    features[8, 0] = value
    message = message.replace("PHOTO", own.table["photo"].iloc[8])
    artifacts.write_array(own.folders["features/vgg16"] / "features-0000000.npy", features)
    own.weights["vgg16"] = weights.Weights("file")
    # Anew, for a setting keeps its table.
    short = dataclasses.replace(own, study=dataclasses.replace(own.study, epochs=2))
    with pytest.raises(ValueError, match=message):
        stages.train(short, tmp_path / "train", "vgg16")
    assert not list((tmp_path / "models").rglob("*.keras"))


@pytest.mark.tensorflow
def test_a_face_at_no_place_is_named(own, monkeypatch, tmp_path):
    class Mtcnn:
        def detect_faces(self, images, **_):
            rows = np.ones((len(images), 16))
            rows[:, 0] = np.arange(len(images))
            rows[[not image.any() for image in images], 6] = np.nan
            return rows

    monkeypatch.setattr("mtcnn.MTCNN", Mtcnn)
    message = f"finite places of faces of MTCNN on {BLACK}. Received: 1 of 16 values"
    with pytest.raises(ValueError, match=message):
        arms.detect(own, tmp_path / "faces")
