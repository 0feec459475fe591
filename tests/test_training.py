"""Training a head on cached features, in one go and with interruptions."""

import signal
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss

from gradcam_adv import FGSM, backends, machine, perturb, predict_logits
from gradcam_adv.files import checkpoints, write
from gradcam_adv.files.checkpoints import Checkpoint
from gradcam_adv.models import classifiers, training


@pytest.fixture
def problem():
    """Three separable classes in slices of 20 (the last one shorter), 10 features per photo."""
    rng = np.random.default_rng(0)
    labels = np.arange(70) % 3
    features = (rng.normal(0, 0.3, (70, 10)) + 2 * np.eye(3, 10)[labels]).astype(np.float32)
    order = rng.permutation(70)
    slices = [features[start : start + 20] for start in range(0, 70, 20)]
    return slices, labels, order[:50], order[50:60]


def train(problem, epochs=8, seed=0, checkpoint=None):
    head = classifiers.dense_head(10, 3, seed)
    return head, training.train_head(
        head, *problem, epochs=epochs, seed=seed, checkpoint=checkpoint
    )


@pytest.fixture
def first_is_best(problem):
    """Labels with which validation accuracy falls, so that the first epoch is the best one."""
    slices, labels, train_rows, validation = problem
    wrong = labels.copy()
    first, _ = train(problem, epochs=1)
    wrong[validation] = first.predict(np.concatenate(slices)[validation], verbose=0).argmax(axis=1)
    wrong[validation[0]] = (labels[validation[0]] + 1) % 3
    return slices, wrong, train_rows, validation


def test_a_head_learns_and_the_history_has_every_epoch(problem):
    head, history = train(problem)
    assert history["epoch"].tolist() == list(range(1, 9))
    assert history["val_accuracy"].max() > 0.85  # backends draw different numbers
    features, labels = np.concatenate(problem[0]), problem[1]
    rest = np.setdiff1d(np.arange(70), np.concatenate(problem[2:]))
    right = head.predict(features[rest], verbose=0).argmax(axis=1) == labels[rest]
    assert right.mean() > 0.8


def test_a_head_learns_at_its_learning_rate(problem):
    """A step of Adam is about as large as the rate, 0.001 if none is given."""
    initial = classifiers.dense_head(10, 3, 0).get_layer("logits").get_weights()[0]

    def moved(**settings):
        head = classifiers.dense_head(10, 3, 0)
        training.train_head(head, *problem, epochs=1, seed=0, **settings)
        return np.abs(head.get_layer("logits").get_weights()[0] - initial).max()

    steps = 2  # of 50 photos, 32 at a time
    for settings, rate in (({}, 1e-3), ({"learning_rate": 1e-2}, 1e-2)):
        assert 0.5 * rate < moved(**settings) <= 1.1 * steps * rate


def test_the_weights_of_the_epoch_that_validates_best_are_kept(first_is_best):
    slices, labels, _, validation = first_is_best
    head, history = train(first_is_best)
    best = history["val_accuracy"].idxmax()
    kept = head.predict(np.concatenate(slices)[validation], verbose=0).argmax(axis=1)
    assert (kept == labels[validation]).mean() == pytest.approx(history["val_accuracy"][best])
    assert history["val_accuracy"].iloc[-1] <= history["val_accuracy"][best]


@pytest.mark.tensorflow  # on which this seed gives epochs of equal accuracy
def test_of_equally_good_epochs_the_weights_of_the_first_are_kept(problem):
    head, history = train(problem)
    accuracy = history["val_accuracy"]
    assert (accuracy == accuracy.max()).sum() > 1
    first, _ = train(problem, epochs=int(accuracy.idxmax()) + 1)
    assert np.array_equal(head.get_weights()[0], first.get_weights()[0])


def test_the_training_depends_on_the_seed_alone(problem):
    first, history = train(problem)
    again, same = train(problem)
    other, _ = train(problem, seed=1)
    assert history.equals(same)
    assert all(
        np.array_equal(a, b) for a, b in zip(first.get_weights(), again.get_weights(), strict=True)
    )
    assert not np.array_equal(first.get_weights()[0], other.get_weights()[0])


def test_scale_and_offset_of_the_features_do_not_matter(problem):
    slices, *rest = problem
    scale = np.logspace(-6, 6, 10).astype(np.float32)
    offset = np.float32(3) * scale
    head, history = train(problem)
    other, same = train(([part * scale + offset for part in slices], *rest))
    np.testing.assert_allclose(history["loss"], same["loss"], rtol=1e-2)
    features = np.concatenate(slices)
    np.testing.assert_allclose(
        other.predict(features * scale + offset, verbose=0),
        head.predict(features, verbose=0),
        atol=0.05,
    )


def test_a_constant_feature_does_no_harm(problem):
    slices, *rest = problem
    with_constant = [np.concatenate([part[:, 1:], np.full((len(part), 1), 7, np.float32)], 1)
                     for part in slices]  # fmt: skip
    head, history = train((with_constant, *rest))
    assert np.isfinite(history["loss"]).all()
    assert all(np.isfinite(weights).all() for weights in head.get_weights())


class Interrupted(Checkpoint):
    """Stops a training after some epochs, and writes the checkpoints of the first few."""

    def __init__(self, path, written, epochs):
        super().__init__(path)
        self.written, self.left = written, epochs

    def write(self, state):
        if self.written > 0:
            super().write(state)
        self.written, self.left = self.written - 1, self.left - 1
        if self.left == 0:
            raise KeyboardInterrupt


def interrupt(problem, path, written, epochs):
    with pytest.raises(KeyboardInterrupt):
        train(problem, checkpoint=Interrupted(path, written, epochs))


def assert_same(one, other):
    (head, history), (other_head, other_history) = one, other
    assert history.equals(other_history)
    for mine, theirs in zip(head.get_weights(), other_head.get_weights(), strict=True):
        assert mine.tobytes() == theirs.tobytes()


@pytest.fixture
def path(tmp_path, monkeypatch):
    """Of a checkpoint that is written at the end of every epoch."""
    monkeypatch.setattr(checkpoints, "SECONDS", 0)
    return tmp_path / "checkpoint.npz"


def test_a_training_interrupted_at_every_epoch_ends_the_same_to_the_last_bit(first_is_best, path):
    undisturbed = train(first_is_best)
    assert undisturbed[1]["val_accuracy"].idxmax() == 0  # so the best weights come from before
    for _ in range(8):
        interrupt(first_is_best, path, written=1, epochs=1)
    assert_same(train(first_is_best, checkpoint=Checkpoint(path)), undisturbed)


@pytest.mark.parametrize(("written", "epochs"), [(0, 3), (1, 4), (7, 8)])
def test_epochs_after_the_last_checkpoint_are_done_again(problem, path, written, epochs):
    interrupt(problem, path, written, epochs)
    assert path.exists() == (written > 0)
    assert_same(train(problem, checkpoint=Checkpoint(path)), train(problem))


def test_a_training_goes_on_in_a_new_process_with_any_random_seed(problem, path, tmp_path):
    backends.configure(machine.cores())  # as a run does, and maybe a test before
    slices, labels, train_rows, validation = problem
    features = np.concatenate(slices)
    np.savez(tmp_path / "problem.npz", features, labels, train_rows, validation)
    script = (
        "import os, signal, sys, keras, numpy as np\n"
        "from pathlib import Path\n"
        "from gradcam_adv import backends, machine\n"
        "from gradcam_adv.files import checkpoints\n"
        "from gradcam_adv.models import classifiers, training\n"
        "backends.configure(machine.cores())\n"
        "keras.utils.set_random_seed(99)\n"
        "class Killed(checkpoints.Checkpoint):\n"
        "    left = 3\n"
        "    def write(self, state):\n"
        "        super().write(state)\n"
        "        self.left -= 1\n"
        "        if not self.left: os.kill(os.getpid(), signal.SIGKILL)\n"
        "checkpoints.SECONDS = 0\n"
        "features, *rest = np.load(sys.argv[1]).values()\n"
        "slices = [features[start : start + 20] for start in range(0, 70, 20)]\n"
        "head = classifiers.dense_head(10, 3, 0)\n"
        "training.train_head(head, slices, *rest, epochs=8, seed=0,\n"
        "                    checkpoint=Killed(Path(sys.argv[2])))\n"
    )
    arguments = [str(tmp_path / "problem.npz"), str(path)]
    killed = subprocess.run([sys.executable, "-c", script, *arguments], check=False)
    assert killed.returncode == -signal.SIGKILL
    with np.load(path) as state:
        assert len(state["history"]) == 3
    undisturbed = train(problem)
    keras.utils.set_random_seed(7)
    assert_same(train(problem, checkpoint=Checkpoint(path)), undisturbed)


def test_a_finished_training_is_read_and_not_done_again(problem, path, monkeypatch):
    undisturbed = train(problem, checkpoint=Checkpoint(path))
    monkeypatch.setattr(keras.Model, "fit", None)
    assert_same(train(problem, checkpoint=Checkpoint(path)), undisturbed)


def test_a_checkpoint_is_written_every_ten_seconds(problem, tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.npz"
    clock = iter(np.arange(0, 1000, 3.0))  # read at the start, at each epoch and after a write
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: next(clock))
    written = []
    monkeypatch.setattr(write, "arrays", lambda *_: written.append(len(seen)))
    seen = []

    class Counted(Checkpoint):
        def write(self, state):
            seen.append(state)
            super().write(state)

    train(problem, checkpoint=Counted(path))
    assert written == [4, 8]  # 12 s after the start, and 12 s after the end of that write


def test_a_checkpoint_that_is_damaged_or_of_another_training_is_refused(problem, path):
    train(problem, epochs=1, checkpoint=Checkpoint(path))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    message = "Expected the state of interrupted work in .*checkpoint.npz; delete the file to start"
    with pytest.raises(ValueError, match=message):
        train(problem, checkpoint=Checkpoint(path))
    np.savez(path, history=np.zeros((2, 4)))
    with pytest.raises(ValueError, match=message + ".*Received: the arrays history"):
        train(problem, checkpoint=Checkpoint(path))


def test_a_checkpoint_with_pickled_objects_is_refused(problem, path, tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("sprung").touch, ())

    train(problem, epochs=1, checkpoint=Checkpoint(path))
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **(arrays | {"history": np.array([Trap()])}))
    assert zipfile.is_zipfile(path)
    with pytest.raises(ValueError, match="Received: Object arrays cannot be loaded"):
        train(problem, checkpoint=Checkpoint(path))
    assert not (tmp_path / "sprung").exists()


@pytest.fixture(scope="module")
def tiny_base():
    """From 16 pixels to maps of 4 x 4 x 3: the mean colour of each region."""
    inputs = keras.Input((16, 16, 3))
    base = keras.Model(inputs, keras.layers.AveragePooling2D(4)(inputs))
    base.trainable = False
    return base


@pytest.fixture(scope="module")
def coloured():
    """Sixty images, each brightest in the channel of its class, and their splits."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    pixels = rng.uniform(0, 0.5, (60, 16, 16, 3)) + 0.4 * np.eye(3)[labels][:, None, None]
    rows = {"train": np.arange(40), "validation": np.arange(40, 50)}
    return pixels.astype(np.float32), labels, rows


@pytest.mark.parametrize(("pooling", "features"), [("average", 3), ("flatten", 48)])
def test_a_base_becomes_a_classifier_of_pixels(tiny_base, coloured, pooling, features):
    images, labels, rows = coloured
    model, history = training.train(
        tiny_base, images, labels, **rows, epochs=6, seed=0, pooling=pooling
    )
    assert history["epoch"].tolist() == [1, 2, 3, 4, 5, 6]
    assert model.get_layer("hidden").get_weights()[0].shape[0] == features
    predicted = predict_logits(model, images).argmax(axis=1)
    assert (predicted[50:] == labels[50:]).all()


def test_training_on_a_base_equals_training_a_head_on_its_features(tiny_base, coloured):
    images, labels, rows = coloured
    model, history = training.train(tiny_base, images, labels, **rows, epochs=3, seed=5)
    head = classifiers.dense_head(3, 3, seed=5)
    features = classifiers.features(tiny_base).predict(images, verbose=0)
    expected = training.train_head(head, [features], labels, *rows.values(), epochs=3, seed=5)
    np.testing.assert_allclose(history, expected, rtol=1e-4)
    np.testing.assert_allclose(
        predict_logits(model, images), head.predict(features, verbose=0), atol=1e-3
    )


@pytest.mark.tensorflow
@pytest.mark.parametrize("trainable", ["head", "last block", "all"])
def test_a_network_is_trained_against_attacks(coloured, trainable):
    """With the right layers of its base; a head trained against attacks withstands them better."""
    images, labels, rows = coloured
    attacked = np.arange(40, 60)

    def trained(against):
        keras.utils.set_random_seed(3)
        x = inputs = keras.Input((16, 16, 3))
        for name in ("early", "late"):
            x = keras.layers.Conv2D(8, 3, name=name)(x)
            x = keras.layers.ReLU()(x)
            x = keras.layers.MaxPooling2D(2)(x)
        base = keras.Model(inputs, x)
        before = {name: base.get_layer(name).get_weights()[0] for name in ("early", "late")}
        model, _ = training.train(
            base,
            images,
            labels,
            **rows,
            epochs=12,
            seed=0,
            trainable=trainable,
            learning_rate=0.003,
            against=against,
        )
        changed = {
            name
            for name, kernel in before.items()
            if not np.array_equal(kernel, model.get_layer(name).get_weights()[0])
        }
        added = FGSM(model)(images[attacked], labels[attacked], [0.08])[0.08]
        logits = predict_logits(model, perturb(images[attacked], added))
        return changed, log_loss(labels[attacked], softmax(logits, axis=1))

    against = {"method": "pgd", "epsilon": 0.08, "steps": 2}
    (changed, normal), (changed_too, robust) = trained(None), trained(against)
    expected = {"head": set(), "last block": {"late"}, "all": {"early", "late"}}
    assert changed == changed_too == expected[trainable]
    assert robust < 0.9 * normal


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pooling": "max"}, "pooling as one of average, flatten. Received: 'max'"),
        ({"epochs": 0}, "epochs as a whole number, 1 or more. Received: 0"),
        ({"images": np.zeros((60, 8, 8, 3))}, r"images of shape \(N, 16, 16, 3\). Received"),
        ({"labels": np.arange(59) % 3}, "labels as 60 integers, one per image. Received"),
        ({"labels": np.full(60, "ann")}, "labels as 60 integers, one per image. Received"),
        ({"labels": np.arange(60) % 3 - 1}, "labels from 0 to 1"),
        ({"labels": np.arange(60) % 3 * 2}, "every class, 0 to 4. Received: none of 1"),
        ({"labels": np.arange(60) % 3 + 1}, "every class, 0 to 3. Received: none of 0"),
        ({"labels": np.minimum(np.arange(60), 40)}, "every class, 0 to 40. Received: none of 40"),
        ({"train": []}, "train as indices of images, not empty. Received"),
        ({"train": np.arange(60) < 40}, "train as indices of images, .*dtype bool"),
        ({"validation": [60]}, "validation as indices below 60, .*from 60 to 60"),
        ({"validation": [-1]}, "validation as indices below 60, .*from -1 to -1"),
        ({"validation": [39, 40]}, "train and validation apart. Received: 1 images in both"),
    ],
)
def test_a_wrong_argument_is_refused(tiny_base, coloured, change, message):
    images, labels, rows = coloured
    arguments = {"images": images, "labels": labels, **rows, "epochs": 1, "seed": 0} | change
    with pytest.raises(ValueError, match="Expected (an image to train on of )?" + message):
        training.train(tiny_base, **arguments)


@pytest.mark.parametrize("shape", [(None, None, 3), None])
def test_a_base_without_maps_of_one_size_is_refused(coloured, shape):
    images, labels, rows = coloured
    layers = [keras.layers.AveragePooling2D(4)]
    base = keras.Sequential([keras.Input(shape), *layers] if shape else layers)
    with pytest.raises(ValueError, match=r"Expected a base from images of one size .*outputs"):
        training.train(base, images, labels, **rows, epochs=1, seed=0)
