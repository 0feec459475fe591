"""Values that are NaN or infinite stop the work, and the error names network, photo and layer."""

import dataclasses
import re

import keras
import numpy as np
import pandas as pd
import pytest
from conftest import CLASSES, SIZE
from PIL import Image

from gradcam_adv import FGSM, GradCAM, LayerCAM, backends, dissimilarity, validation
from gradcam_adv.app import folder
from gradcam_adv.data import sources
from gradcam_adv.files import write
from gradcam_adv.models import backbones, classifiers, weights
from gradcam_adv.runs.engines import Local
from gradcam_adv.study.attacks import condition_key
from gradcam_adv.study.config import parse
from gradcam_adv.study.plan import ArmPlan, Plan, make_plan
from gradcam_adv.study.stages.evaluate import Evaluate
from gradcam_adv.study.stages.features import Features
from gradcam_adv.study.stages.train import Train, _check_losses, _check_same


@keras.saving.register_keras_serializable("tests")
class BreaksOnBlack(keras.layers.Layer):
    """Its input, plus ``value`` where the image is all black."""

    def __init__(self, value: float, **options: object) -> None:
        super().__init__(**options)
        self.value = value

    def call(self, images, maps):
        black = keras.ops.max(images, axis=(1, 2, 3), keepdims=True) == 0
        return keras.ops.where(black, self.value, maps)

    def get_config(self):
        return {**super().get_config(), "value": self.value}


def breaking(value: float = float("nan"), after: str = "middle", classes: int = CLASSES):
    """Three convolutions and dense logits; what comes behind ``after`` breaks on black images."""
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
    """Eleven images; number 9 is black. In batches of 4 it is in the last one, which is padded."""
    changed = images.copy()
    changed[9] = 0
    return changed


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_item_that_is_not_finite_is_named_with_the_count(value):
    values = np.zeros((4, 2, 3), np.float32)
    assert validation.check_finite(values, "maps") is values
    values[2, 1, 1:] = value
    values[3] = value
    with pytest.raises(
        validation.NotFiniteError,
        match="^Expected finite maps on image 2. Received: 2 of 6 values NaN or infinite$",
    ):
        validation.check_finite(values, "maps")
    with pytest.raises(ValueError, match="on image 12. "):
        validation.check_finite(values, "maps", first=10)


def test_the_innermost_names_stay():
    with (
        pytest.raises(ValueError, match="^Expected finite logits of vgg16 on b.jpg. Received: 1 "),
        validation.naming(["wrong"] * 3),
        validation.naming(["a.jpg", "b.jpg"], "vgg16"),
    ):
        validation.check_finite(np.array([0, np.nan]), "logits")


def test_grad_cam_names_the_image_and_the_layer_where_it_begins(one_black):
    explain = GradCAM(breaking(), ["first", "middle", "breaks", "last"], batch_size=4)
    with pytest.raises(ValueError, match="sums of layer 'breaks' on image 9. Received: 25 of 25 "):
        explain(one_black)


def test_grad_cam_names_the_image_whose_logits_overflow(one_black):
    model = breaking(3e38, after="last")
    model.get_layer("logits").set_weights([np.full((4, CLASSES), 1e3), np.zeros(CLASSES)])
    with pytest.raises(ValueError, match="finite logits on image 9. Received: 5 of 5 values"):
        GradCAM(model, "first", batch_size=4)(one_black)


def test_the_padding_of_a_batch_is_not_checked(monkeypatch, small_cnn, images, labels):
    """Eleven images in batches of 4, so the twelfth is padding."""
    compiled = backends.compiled

    def nan_in_the_twelfth(*arguments):
        run, calls = compiled(*arguments), []

        def call(*arrays):
            calls.append(len(arrays[0]))
            found = run(*arrays)
            if len(calls) == 3:
                for array in keras.tree.flatten(found):
                    array[3] = np.nan
            return found

        return call

    monkeypatch.setattr(backends, "compiled", nan_in_the_twelfth)
    fresh = keras.models.clone_model(small_cnn)  # for which nothing was compiled before
    assert np.isfinite(GradCAM(fresh, batch_size=4)(images)["relu_b"]).all()
    assert set(np.unique(FGSM(fresh, batch_size=4).signs(images, labels))) <= {-1, 0, 1}


def test_fgsm_names_the_image_of_gradients_and_of_logits(one_black, labels):
    keras.utils.set_random_seed(3)
    inputs = keras.Input((SIZE, SIZE, 3))
    mean = keras.ops.mean(inputs, axis=(1, 2))
    # At zero the square root is finite but its gradient is not.
    model = keras.Model(inputs, keras.layers.Dense(CLASSES)(keras.ops.sqrt(mean)))
    with pytest.raises(ValueError, match="finite gradients by the pixels on image 9. Received"):
        FGSM(model, batch_size=4)(one_black, labels, [0.1])
    # NaN that does not come from the pixels has no gradient by them.
    with pytest.raises(ValueError, match="finite logits on image 9. Received: 5 of 5 values"):
        FGSM(breaking(), batch_size=4)(one_black, labels, [0.1])


def test_dissimilarity_names_the_image(one_black):
    for controls in (True, False):
        with pytest.raises(ValueError, match="'breaks' on image 9. Received: 25 of 25"):
            dissimilarity(
                breaking(), one_black, layers=["first", "breaks"], batch_size=4, controls=controls
            )


@pytest.mark.tensorflow
def test_other_explainers_name_the_image(monkeypatch, one_black, small_cnn):
    explain = LayerCAM(small_cnn, batch_size=4)
    peer = explain._peer

    def broken(*arguments, **options):
        maps = np.array(peer(*arguments, **options))
        maps[1] = np.inf
        return maps

    monkeypatch.setattr(explain, "_peer", broken)
    with pytest.raises(
        ValueError, match="LayerCAM sums of layer 'relu_b' on image 1. Received: 144 of 144"
    ):
        explain(one_black)


def test_images_of_a_folder_are_named_by_their_files(tmp_path, one_black):
    classifiers.save_model(breaking(), tmp_path / "mine.keras", {})
    (tmp_path / "photos").mkdir()
    for number, image in enumerate(one_black):
        pixels = Image.fromarray(np.rint(255 * image).astype(np.uint8))
        pixels.save(tmp_path / "photos" / f"{number:02d}.png")
    options = {"layers": "breaks", "epsilons": [0.1], "explainer": "gradcam", "batch_size": 4}
    work = folder.FolderWork(
        tmp_path / "mine.keras", tmp_path / "photos", tmp_path / "out", **options
    )
    for run in (work.explain, work.score):
        with pytest.raises(ValueError, match="'breaks' of mine.keras on 09.png. Received"):
            run()


# The stages of a study, with a tiny network in place of VGG16.

BLACK = "bob/3.png"


@pytest.fixture
def plan(tmp_path, photo_folder, monkeypatch) -> Plan:
    """A study whose test photo BLACK is black; its photos are chosen."""
    Image.new("RGB", (40, 48)).save(photo_folder / BLACK)
    content = {"name": "x", "networks": ["vgg16"], "source": "vgg16", "examples": 99}
    study = parse(content | {"photos": str(photo_folder), "batch_size": 4, "epochs": 2})
    # VGG16 has neither this size nor these layers.
    study = dataclasses.replace(study, image_size=SIZE, layers={"vgg16": ["first", "breaks"]})
    tiny = dataclasses.replace(backbones.BACKBONES["vgg16"], last_activation="last")
    monkeypatch.setitem(backbones.BACKBONES, "vgg16", tiny)
    made = make_plan(
        study,
        sources.list_photos(str(photo_folder), classes=None, min_photos=3, seed=0),
        {"vgg16": weights.Weights("file")},
        run=tmp_path / "run",
        models=tmp_path / "models",
    )
    made.data.make(Local())
    return made


@pytest.fixture
def arm(plan) -> ArmPlan:
    plain = plan.arms["plain"]
    set_splits(plain, np.where(plain.photos.table["photo"].str.contains("/[345]"), "test", "train"))
    assert (plain.photos.test["photo"] == BLACK).sum() == 1
    return plain


def set_splits(arm: ArmPlan, splits: np.ndarray) -> None:
    photos = arm.photos
    write.table(photos.data.folder / "photos.csv", photos.table.assign(split=splits))
    for cached in ("table", "test"):
        vars(photos).pop(cached, None)


def with_model(monkeypatch, model: keras.Model) -> None:
    monkeypatch.setattr(Train, "model", lambda *_: model)


def write_signs_of_zero(arm: ArmPlan) -> None:
    shape = (len(arm.photos.test), SIZE, SIZE, 3)
    write.array(arm.attack["vgg16"].folder / "0000000.npy", np.zeros(shape, np.int8))


def write_features(arm: ArmPlan, features: np.ndarray) -> None:
    write.array(arm.features["vgg16"].folder / "features-0000000.npy", features)


def predictions(arm: ArmPlan) -> pd.DataFrame:
    """As of the evaluation: every photo is predicted as 0."""
    rows = arm.photos.test[["photo", "label"]]
    return pd.concat(
        rows.assign(attack=attack, epsilon=epsilon, predicted=0, predicted_clean=0)
        for attack, epsilons in arm.evaluate["vgg16"].epsilons.items()
        for epsilon in epsilons
    )


def received(what: str, condition: str = "") -> str:
    return re.escape(f"Expected finite {what} of vgg16 on {BLACK}{condition}. Received: ")


def test_features(arm, monkeypatch):
    model = breaking()
    base = keras.Model(model.inputs, model.get_layer("last").output)
    monkeypatch.setattr(
        Features, "extractor", lambda self: classifiers.features(base, self.pooling)
    )
    features = arm.features["vgg16"]
    with pytest.raises(ValueError, match=received("features")):
        features.make(Local())
    assert not list(features.folder.glob("*.npy"))


@pytest.mark.parametrize("attacked_label", ["true", "predicted"])
def test_attack(arm, monkeypatch, attacked_label):
    with_model(monkeypatch, breaking(classes=3))
    attack = dataclasses.replace(arm.attack["vgg16"], attacked_label=attacked_label)
    with pytest.raises(ValueError, match=received("logits")):
        attack.make(Local())
    assert not list(attack.folder.glob("*.npy"))


def test_evaluate(arm, monkeypatch):
    with_model(monkeypatch, breaking(after="first", classes=3))
    write_signs_of_zero(arm)
    with pytest.raises(ValueError, match=received("Grad-CAM sums of layer 'last'", ", clean")):
        arm.evaluate["vgg16"].make(Local())


def test_evaluate_names_the_epsilon(arm, monkeypatch):
    """A network that breaks on attacked photos only."""
    with_model(monkeypatch, breaking(after="first", classes=3))
    monkeypatch.setattr(Evaluate, "attacked", lambda own, exact, signs, epsilon: 0 * exact)
    Image.new("RGB", (40, 48), "white").save(arm.photos.root / BLACK)
    write_signs_of_zero(arm)
    first = arm.photos.test["photo"].iloc[0]
    condition = condition_key("black-box", arm.study.attacked_epsilons[0])
    message = f"layer 'last' of vgg16 on {first}, {condition}. Received: "
    with pytest.raises(ValueError, match=re.escape(message)):
        arm.evaluate["vgg16"].make(Local())


def test_explain(arm, monkeypatch):
    with_model(monkeypatch, breaking(classes=3))
    write_signs_of_zero(arm)
    monkeypatch.setattr(Evaluate, "predictions", lambda _: predictions(arm))
    explain = arm.explain["vgg16"]
    with pytest.raises(ValueError, match=received("Grad-CAM sums of layer 'breaks'", ", clean")):
        explain.make(Local())
    row = arm.photos.test.index[arm.photos.test["photo"] == BLACK].item()
    assert len(list(explain.folder.glob("example-*.npz"))) == row  # those before it are kept


def test_heatmaps_in_files(arm, monkeypatch):
    """The stages write finite values only, but files may be damaged later."""
    test, score, layers = arm.photos.test, arm.score["vgg16"], arm.layers["vgg16"]
    row = test.index[test["photo"] == BLACK].item()
    attacked = score.evaluate.epsilons.items()
    keys = ["clean", *(condition_key(a, e) for a, levels in attacked for e in levels if e > 0)]
    maps = {key: np.full((len(test), 3, 9, 9), 0.5, np.float32) for key in keys}
    for key in ("clean", keys[-1]):
        broken = {**maps, key: maps[key].copy()}
        broken[key][row, :, 4, 4] = np.nan
        with pytest.raises(ValueError, match=received("maps of layer 'last'", f", {key}")):
            score._scored(0, test, broken, predictions(arm), None)

    file = score.evaluate.folder / "last-0000000.npz"
    write.arrays(file, {**maps, "clean": maps["clean"] * np.nan})
    first = test["photo"].iloc[0]
    with pytest.raises(ValueError, match=f"layer 'last' of vgg16 on {first}, clean. Received"):
        score._unrelated()

    for number in range(len(test)):
        each = {f"{key}/first": np.full((9, 9), 0.5, np.float32) for key in keys}
        if number == row:
            each["clean/first"][0, 0] = np.inf
        write.arrays(layers.explain.folder / f"example-{number:07d}.npz", each)
    message = received("maps of layer 'first'", ", clean")
    with pytest.raises(ValueError, match=message):
        layers._scored(row, test.iloc[[row]])
    with pytest.raises(ValueError, match=message):
        layers._unrelated()


@pytest.mark.parametrize("column", ["loss", "val_loss"])
def test_losses_are_named_with_network_and_epoch(column):
    history = pd.DataFrame({"epoch": [1, 2, 3], "loss": 1.0, "val_loss": 2.0})
    _check_losses(history, "vgg16")
    history.loc[1:, column] = np.nan
    with pytest.raises(ValueError, match=f"head of vgg16. Received: .*{column} nan.* in epoch 2$"):
        _check_losses(history, "vgg16")


@pytest.mark.filterwarnings("ignore:overflow encountered")
@pytest.mark.parametrize(
    ("value", "message"),
    [
        # Standardized it is infinite.
        (3e38, "losses of the head of vgg16. Received: .* val_loss (nan|inf) in epoch 1"),
        # The loss would not show it: a ReLU of NaN may be zero.
        (np.nan, "features of vgg16 on PHOTO. Received: 1 of 4 values"),
    ],
)
def test_features_to_train_on(arm, tmp_path, monkeypatch, value, message):
    monkeypatch.setattr(Features, "extractor", lambda _: None)
    table = arm.photos.table
    set_splits(arm, np.where(np.arange(len(table)) % 4 == 0, "validation", "train"))
    features = np.random.default_rng(0).random((len(table), 4), np.float32)
    features[8, 0] = value
    write_features(arm, features)
    with pytest.raises(ValueError, match=message.replace("PHOTO", table["photo"].iloc[8])):
        arm.train["vgg16"].make(Local())
    assert not list((tmp_path / "models").rglob("*.keras"))


def test_logits_of_the_assembled_network(arm, monkeypatch, tmp_path):
    model = breaking()
    base = keras.Model(model.inputs, model.get_layer("last").output)
    monkeypatch.setattr(
        Features, "extractor", lambda self: classifiers.features(base, self.pooling)
    )
    rows = np.arange(len(arm.photos.table))
    set_splits(arm, np.where(rows % 4 == 0, "validation", "train"))
    write_features(arm, np.random.default_rng(0).random((len(rows), 4), np.float32))
    # A ReLU of NaN may be zero; then the logits are finite, but not those of the head.
    with pytest.raises(ValueError, match=f"{received('logits')}|Expected the assembled vgg16"):
        arm.train["vgg16"].make(Local())
    assert not list((tmp_path / "models").rglob("*.keras"))


def test_the_assembled_network_has_to_give_the_head_s_logits():
    logits = np.array([[1.0, -30.0], [2.0, 5.0]])
    _check_same(logits + 0.002, logits, "vgg16")
    message = "assembled vgg16 to give the head's logits .*Received: a difference of"
    with pytest.raises(ValueError, match=f"{message} 1.3e-04"):
        _check_same(logits + 0.004, logits, "vgg16")
    with pytest.raises(ValueError, match=f"{message} nan"):
        _check_same(logits, logits * np.nan, "vgg16")


@pytest.mark.tensorflow
def test_a_face_at_no_place_is_named(plan, monkeypatch):
    class Mtcnn:
        def detect_faces(self, images, **_):
            rows = np.ones((len(images), 16))
            rows[:, 0] = np.arange(len(images))
            rows[[not image.any() for image in images], 6] = np.nan
            return rows

    monkeypatch.setattr("mtcnn.MTCNN", Mtcnn)
    message = f"finite places of faces of MTCNN on {BLACK}. Received: 1 of 16 values"
    find_faces, _ = plan.faces
    with pytest.raises(ValueError, match=message):
        find_faces.make(Local())
