"""The callback: what it puts into the logs, who reads that, and that it changes no training."""

import csv
import io
import random
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from gradcam_adv import (
    PGD,
    AttentionUnderAttack,
    RandomSigns,
    backends,
    dissimilarity,
    flatten,
    predict_logits,
)
from gradcam_adv.robustness.measurement import NOISE_EPSILONS
from gradcam_adv.training import AdversarialTraining, callback

SIZE, CLASSES, COUNT = 12, 3, 9
KEYS = [f"val_{name}" for name in callback.NAMES]
IMAGES = np.random.default_rng(0).random((COUNT, SIZE, SIZE, 3), dtype=np.float32)
LABELS = np.arange(COUNT) % CLASSES


class AlwaysDropout(keras.layers.Dropout):
    """Monte Carlo dropout: it also draws when nothing is trained."""

    def call(self, inputs, training=None):
        return super().call(inputs, training=True)


class AlwaysNorm(keras.layers.BatchNormalization):
    """Its statistics change in every pass."""

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=True, mask=mask)


def network(end: str = "softmax", **compiling) -> keras.Model:
    """Convolution, batch norm, dropout, and at the end what is asked for."""
    keras.utils.set_random_seed(5)
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(6, 3, name="conv")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.ReLU(name="relu")(x)
    x = keras.layers.Dropout(0.3)(x)
    x = keras.layers.Flatten()(x)
    if end == "monte carlo":
        x = AlwaysDropout(0.1)(x)
    activation = None if end == "logits" else "softmax"
    outputs = keras.layers.Dense(CLASSES, activation=activation, dtype="float32", name="end")(x)
    model = keras.Model(inputs, outputs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=end == "logits")
    model.compile(keras.optimizers.Adam(0.01), loss, **compiling)
    return model


def fit(model: keras.Model, callbacks: list, epochs: int = 2, **fitting) -> dict[str, list[float]]:
    keras.utils.set_random_seed(6)
    options = {"x": IMAGES, "y": LABELS, "batch_size": 4} | fitting
    return model.fit(epochs=epochs, verbose=0, callbacks=callbacks, **options).history


def watched(**options) -> AttentionUnderAttack:
    return AttentionUnderAttack(**{"images": IMAGES, "labels": LABELS} | options)


def logged(model: keras.Model, *callbacks: keras.callbacks.Callback, epochs=(0,)) -> list[dict]:
    """The logs of epochs in which nothing is trained, as a loop of one's own has them."""
    every = keras.callbacks.CallbackList([*callbacks], model=model, epochs=len(epochs))
    every.on_train_begin()
    by_epoch = []
    for epoch in epochs:
        logs = {"loss": 0.0}
        for one in every.callbacks:
            one.on_epoch_end(epoch, logs)
        by_epoch.append(logs)
    every.on_train_end()
    return by_epoch


def expected(model, **options) -> list[float]:
    """What the library says of a model, at the callback's default sizes."""
    found = dissimilarity(model, IMAGES, LABELS, epsilons=[0.0025, 0.01, 0.04], **options)
    images, mod, gain = (t[t["epsilon"] == 0.01] for t in (found.images, found.mod, found.gain))
    right = (images["predicted"] == images["label"]).mean()
    of_noise = gain.loc[gain["control"] == "noise", "gain"].item()
    half = found.half_shift["attack"].item()
    return [
        *(right, mod["mod"].item(), mod["mod_noise"].item()),
        *(min(of_noise, max(NOISE_EPSILONS) / 0.01), min(half, 0.04)),
    ]


def state(model: keras.Model) -> list[np.ndarray]:
    return [callback._values(v) for v in (*model.variables, *model.optimizer.variables)]


@pytest.fixture(scope="module")
def trained() -> keras.Model:
    model = network()
    fit(model, [], epochs=1)
    return model


def test_numbers_are_those_of_dissimilarity_on_each_saved_model(tmp_path, monkeypatch):
    """So the weights of each epoch are seen, those of the dense layer that is copied as well.

    What is compiled is compiled in the first measurement.
    """
    compiled, compilations = backends.compiled, []

    def counted(function, *takes):
        compilations.append(len(watch.seconds))
        return compiled(function, *takes)

    monkeypatch.setattr(backends, "compiled", counted)
    watch = watched()
    save = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras")
    history = fit(network(), [watch, save, keras.callbacks.CSVLogger(tmp_path / "log.csv")], 3)
    monkeypatch.undo()
    if keras.backend.backend() != "jax":
        assert compilations == [0, 0]  # the attack's gradient and the heatmaps
    rows = list(zip(*(history[key] for key in KEYS), strict=True))
    assert len({*rows}) == 3
    for epoch, row in enumerate(rows, 1):
        saved = keras.saving.load_model(tmp_path / f"{epoch}.keras")
        np.testing.assert_allclose(row, expected(saved), rtol=1e-5)
    with (tmp_path / "log.csv").open() as file:
        read = [[float(row[key]) for key in KEYS] for row in csv.DictReader(file)]
    np.testing.assert_allclose(read, rows)


def test_another_attack_layer_and_prefix(trained):
    watch = watched(attack=lambda graph: PGD(graph, steps=2), layer="conv", prefix="val_pgd_")
    (logs,) = logged(trained, watch)
    given = expected(trained, attack=PGD(trained, steps=2), layers="conv")
    np.testing.assert_allclose([logs[f"val_pgd_{n}"] for n in callback.NAMES], given, rtol=1e-5)


def test_training_is_the_same_to_the_last_bit_with_and_without_it():
    ends = []
    for callbacks in ([], [watched()]):
        model = network("monte carlo")
        fit(model, callbacks)
        # All that is drawn from the global generators shows in what they draw next.
        drawn = [random.random(), np.random.random(), float(keras.random.uniform(()))]  # noqa: NPY002
        flags = [layer.trainable for layer in model.layers]
        ends.append((state(model), flags, drawn))
    (values, *others), (without, *others_without) = ends
    assert others == others_without
    for value, other in zip(values, without, strict=True):
        np.testing.assert_array_equal(value, other)


def test_layers_in_training_mode_and_frozen_ones_are_given_back_as_they_were():
    """A pass through the first changes its statistics, if nobody gives them back."""
    inputs = keras.Input((SIZE, SIZE, 3))
    x = AlwaysNorm()(keras.layers.Conv2D(4, 3)(inputs))
    outputs = keras.layers.Dense(CLASSES, trainable=False)(keras.layers.Flatten()(x))
    model = keras.Model(inputs, outputs)
    before = [callback._values(variable) for variable in model.variables]
    flags = [variable.trainable for variable in model.variables]
    logged(model, watched())
    assert flags == [variable.trainable for variable in model.variables]
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(callback._values(variable), value)


def test_it_measures_first_and_each_nth_epoch_after_epoch_1(trained):
    watch, measured = watched(every=3), []
    measure = watch._measured
    watch._measured = lambda epoch: measured.append(epoch) or measure(epoch)
    by_epoch = logged(trained, watch, epochs=range(5))
    assert measured == [0, 3]
    assert all([*logs] == ["loss", *KEYS] for logs in by_epoch)
    assert len(watch.seconds) == 2 and min(watch.seconds) > 0
    # A training that goes on measures in its own first epoch.
    logged(trained, watch, epochs=[4, 5])
    assert measured == [0, 3, 4]


def test_early_stopping_stops_at_its_gain_and_the_checkpoint_keeps_the_best(tmp_path):
    """With a learning rate of 0 nothing gets better."""
    model = network()
    model.optimizer.learning_rate = 0.0
    model.get_layer("norm").trainable = False
    stop = keras.callbacks.EarlyStopping("val_gain", mode="min", patience=2)
    best = keras.callbacks.ModelCheckpoint(
        tmp_path / "{epoch}.keras", monitor="val_gain", mode="min", save_best_only=True
    )
    history = fit(model, [watched(), stop, best], epochs=9)
    assert len(history["val_gain"]) == 3
    assert stop.stopped_epoch == 2
    assert [file.name for file in tmp_path.iterdir()] == ["1.keras"]


def test_a_model_that_stays_near_chance_is_told_once_at_the_end(trained, caplog):
    logged(trained, watched(labels=(LABELS + 1) % CLASSES), epochs=range(3))
    (said,) = [r for r in caplog.records if "predicted right, near chance" in r.getMessage()]
    assert said.levelname == "WARNING"
    caplog.clear()
    found = predict_logits(trained, IMAGES).argmax(axis=1)
    logged(trained, watched(labels=found))
    dissimilarity(trained, IMAGES, (found + 1) % CLASSES, epsilons=[0.1])
    assert caplog.text.count("near chance") == 1  # the log is as it was


def test_a_callback_in_front_of_it_does_not_see_its_numbers(trained):
    """Keras itself says so, as for any metric that is not there."""
    stop = keras.callbacks.EarlyStopping("val_gain", mode="min", patience=1)
    with pytest.warns(UserWarning, match="`val_gain` which is not available"):
        logged(trained, stop, watched())


def test_several_of_them_have_prefixes_of_their_own(trained):
    with pytest.raises(ValueError, match="Received: 'val_', and val_accuracy_attacked, val_gain"):
        logged(trained, watched(), watched())
    noise = watched(attack=lambda _: RandomSigns(), prefix="noise_")
    (logs,) = logged(trained, watched(), noise)
    assert logs["noise_mod"] == logs["noise_mod_noise"] == logs["val_mod_noise"]
    assert logs["noise_gain"] == pytest.approx(1)


def test_what_has_no_end_is_given_as_its_bound(trained):
    """An attack beyond all noise, which turns images into their negatives; and one of no size."""
    negative = watched(
        attack=lambda _: lambda images, labels, epsilons: dict.fromkeys(epsilons, 1 - 2 * images),
        noise_epsilons=[0.05],
    )
    signs = {"attack": lambda _: RandomSigns(), "further_epsilons": [1e-6], "prefix": ""}
    (logs,) = logged(trained, negative, watched(epsilon=1e-5, **signs))
    assert logs["val_gain"] == pytest.approx(0.05 / 0.01)
    assert logs["half_shift"] == 1e-5


def test_of_empty_heatmaps_there_are_no_numbers():
    model = network()
    norm = model.get_layer("norm")  # shifted far down, so that ReLU gives zeros
    norm.set_weights([np.ones(6), np.full(6, -99.0), np.zeros(6), np.ones(6)])
    (logs,) = logged(model, watched(layer="relu"))
    assert logs["val_accuracy_attacked"] == pytest.approx(1 / 3)
    assert np.isnan([logs["val_mod"], logs["val_gain"], logs["val_half_shift"]]).all()


def test_a_network_that_is_not_finite_gives_nan_and_a_warning(caplog):
    model = network()
    model.get_layer("end").set_weights([np.full((600, CLASSES), np.nan), np.zeros(CLASSES)])
    (logs,) = logged(model, watched())
    assert np.isnan([logs[key] for key in KEYS]).all()
    assert "attention under attack in epoch 1: Expected finite" in caplog.text


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"labels": None}, "of two classes or more. Received: none"),
        ({"labels": [1] * COUNT}, "Received: those of one class"),
        ({"images": 255 * IMAGES}, r"values in \[0, 1\]"),
        ({"every": 0}, "every as a whole number above 0. Received: 0"),
        ({"every": True}, "every as a whole number above 0. Received: True"),
        ({"epsilon": 0}, "epsilons above 0"),
        ({"noise_epsilons": [2]}, "epsilons above 0, at most 1"),
    ],
)
def test_arguments_that_are_wrong_for_any_model(given, message):
    with pytest.raises(ValueError, match=message):
        watched(**given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"labels": [*LABELS[1:], CLASSES]}, "labels from 0 to 2, the model's classes"),
        ({"labels": LABELS[1:]}, "labels as 9 integers"),
        ({"images": IMAGES[:, 1:]}, r"images of shape \(N, 12, 12, 3\)"),
        ({"layer": "rleu"}, "Nearest: relu"),
        ({"layer": "all"}, "a single layer.*Received: 'all', 4 layers"),
        ({"attack": lambda model: PGD(model, targeted=True)}, "Received: a targeted one"),
        ({"attack": lambda model: "pgd"}, "Received: one that gives 'pgd'"),
        ({"pixels": "0..254"}, "pixels as one of"),
    ],
)
def test_what_does_not_suit_the_model_is_said_when_training_begins(trained, given, message):
    watch = watched(**given)
    watch.set_model(trained)
    with pytest.raises(ValueError, match=message):
        watch.on_train_begin()


def test_what_flatten_has_to_be_told_is_handed_on():
    model = network("logits")
    (logs,) = logged(model, watched(pixels="0..255"))
    given = expected(flatten(model, pixels="0..255"))
    np.testing.assert_allclose([logs[key] for key in KEYS], given, rtol=1e-5)


@pytest.mark.tensorflow
def test_a_model_that_trains_another():
    """The numbers are those of the inner one."""
    model = network("logits")
    around = AdversarialTraining(model)
    (logs,) = logged(around, watched(model=model))
    assert logs == logged(model, watched())[0]
    with pytest.raises(ValueError, match="functional model.*Received: AdversarialTraining"):
        logged(around, watched())


def test_batches_with_their_labels_and_logs_that_nobody_wants(trained):
    batches = [(IMAGES[:5], LABELS[:5]), (IMAGES[5:], LABELS[5:])]
    watch = watched(images=iter(batches), labels=None)
    (logs,) = logged(trained, watch)
    assert logs == logged(trained, watched())[0]
    watch.on_epoch_end(1)
    assert len(watch.seconds) == 2


def test_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = network()
        history = fit(model, [watched()])
    finally:
        keras.config.set_dtype_policy("float32")
    last = [history[key][-1] for key in KEYS]
    np.testing.assert_allclose(last, expected(model), rtol=1e-5)


def events(folder: Path) -> list:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    files = sorted(folder.iterdir())
    return [event for file in files for event in EventFileLoader(str(file)).Load()]


@pytest.mark.tensorflow
def test_tensorboard_draws_the_numbers_and_shows_the_pictures(tmp_path):
    pytest.importorskip("tensorboard")
    from PIL import Image

    watch = watched(every=2, log_dir=tmp_path)
    history = fit(network(), [watch, keras.callbacks.TensorBoard(tmp_path)], epochs=3)
    values = {
        (event.step, value.tag): value.tensor
        for event in events(tmp_path / "validation")
        for value in event.summary.value
    }
    for name in callback.NAMES:
        drawn = [
            np.frombuffer(values[step, f"epoch_{name}"].tensor_content, np.float32)
            for step in range(3)
        ]
        assert np.ravel(drawn) == pytest.approx(history[f"val_{name}"])
    pictures = {
        event.step: value.tensor.string_val[2]
        for event in events(tmp_path / "attention")
        for value in event.summary.value
    }
    assert [*pictures] == [0, 2]
    first, last = (np.asarray(Image.open(io.BytesIO(png))) for png in pictures.values())
    assert first.shape == last.shape
    assert (first != last).any()


def test_a_log_dir_without_tensorboard_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto", None)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        watched(log_dir=tmp_path)


@pytest.mark.slow
@pytest.mark.tensorflow
def test_a_training_step_that_is_not_compiled():
    model = network(run_eagerly=True)
    history = fit(model, [watched()])
    last = [history[key][-1] for key in KEYS]
    np.testing.assert_allclose(last, expected(model), rtol=1e-5)


MIRRORED = """
import keras, numpy as np, tensorflow as tf, test_callback as t
cpus = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpus[0], 2 * [tf.config.LogicalDeviceConfiguration()])
states = []
for callbacks in ([t.watched()], []):
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert strategy.num_replicas_in_sync == 2
    with strategy.scope():
        model = t.network()
    # Keras stops with an error where a batch leaves a replica without an image.
    history = t.fit(model, callbacks, x=t.IMAGES[:8], y=t.LABELS[:8])
    states.append(t.state(model))
    if callbacks:
        last = [history[key][-1] for key in t.KEYS]
        plain = keras.models.clone_model(model)
        plain.set_weights(model.get_weights())
        np.testing.assert_allclose(last, t.expected(plain), rtol=1e-4)
for value, other in zip(*states, strict=True):
    np.testing.assert_array_equal(value, other)
"""


@pytest.mark.slow
@pytest.mark.tensorflow
def test_a_strategy_of_two_devices():
    command = [sys.executable, "-c", MIRRORED]
    subprocess.run(command, cwd=Path(__file__).parent, check=True)
