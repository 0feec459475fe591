"""Adversarial training: its losses by their formulas, its attacks, and what it achieves."""

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf
from statsmodels.stats.proportion import proportion_confint

from gradcam_adv import PGD, GradCAM, perturb, predict_logits
from gradcam_adv.attacks.gradients import margin
from gradcam_adv.training import AdversarialTraining
from gradcam_adv.training.methods import METHODS

EPSILON = 0.05


def classifier(seed=0, *extra):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(6, 3, name="conv"),
            *extra,
            keras.layers.ReLU(name="relu"),
            keras.layers.Conv2D(4, 3, activation="relu", name="second"),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    # Some pixels near 0 and 1, where clipping matters.
    images = np.clip(rng.normal(0.5, 0.4, (12, 8, 8, 3)), 0, 1).astype(np.float32)
    return images, np.arange(12) % 3


class Recorded(AdversarialTraining):
    """Keeps the clean and the attacked images of its last step."""

    def compute_loss(self, x=None, *given, **settings):
        self.pair = [keras.ops.convert_to_numpy(images) for images in x]
        return super().compute_loss(x, *given, **settings)


def recorded(model, *args, **settings):
    robust = Recorded(model, *args, epsilon=EPSILON, **settings)
    robust.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    return robust


def cross_entropy(logits, labels):
    return -scipy.special.log_softmax(logits, axis=1)[np.arange(len(labels)), labels]


def loss_of(robust, clean, attacked, labels, weights=None):
    pair = (keras.ops.convert_to_tensor(clean), keras.ops.convert_to_tensor(attacked))
    logits = robust(pair, training=True)
    return float(robust.compute_loss(pair, keras.ops.convert_to_tensor(labels), logits, weights))


@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_of_trades_is_its_formula(problem, weighted):
    clean, labels = problem
    attacked = clean[::-1].copy()
    model = classifier()
    robust = recorded(model, "trades", beta=2.5)
    weights = np.linspace(0, 2, 12) if weighted else np.ones(12)
    logits, others = predict_logits(model, clean), predict_logits(model, attacked)
    p, q = (scipy.special.softmax(z.astype(np.float64), axis=1) for z in (logits, others))
    kl = (p * np.log(p / q)).sum(axis=1)
    assert kl.mean() > 1e-3
    expected = (weights * (cross_entropy(logits, labels) + 2.5 * kl)).mean()
    given = keras.ops.convert_to_tensor(weights, "float32") if weighted else None
    assert loss_of(robust, clean, attacked, labels, given) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("method", ["fgsm-rs", "pgd"])
def test_the_loss_of_the_others_is_the_cross_entropy_of_attacked_images(problem, method):
    clean, labels = problem
    attacked = clean[::-1].copy()
    model = classifier()
    expected = cross_entropy(predict_logits(model, attacked), labels).mean()
    assert loss_of(recorded(model, method), clean, attacked, labels) == pytest.approx(expected)


@pytest.mark.parametrize("layer", ["conv", "last"])
def test_the_term_of_the_map_is_the_squared_distance_of_heatmaps(problem, layer):
    clean, labels = problem
    attacked = clean[::-1].copy()
    model = classifier()
    explain = GradCAM(model, layer)
    (maps,), (others,) = (explain(x, labels).values() for x in (clean, attacked))
    distance = ((maps - others) ** 2).mean()
    assert distance > 0.01
    plain = loss_of(recorded(model, "pgd"), clean, attacked, labels)
    kept = loss_of(recorded(model, "pgd", map_weight=3.0, layer=layer), clean, attacked, labels)
    assert kept - plain == pytest.approx(3 * distance, rel=1e-4)


def test_the_term_of_the_map_brings_the_maps_together(problem):
    images, labels = problem
    apart = {}
    for weight in (0.0, 30.0):
        model = classifier(1)
        robust = AdversarialTraining(model, "pgd", epsilon=EPSILON, map_weight=weight, steps=3)
        robust.compile(keras.optimizers.Adam(5e-3))
        robust.fit(images, labels, epochs=25, batch_size=12, verbose=0)
        attacked = perturb(images, PGD(model)(images, labels, [EPSILON], verbose=0)[EPSILON])
        explain = GradCAM(model, "last")
        (maps,), (others,) = (explain(x, labels).values() for x in (images, attacked))
        apart[weight] = ((maps - others) ** 2).mean()
    assert apart[30.0] < 0.5 * apart[0.0]


@pytest.mark.parametrize("method", METHODS)
def test_attacked_images_are_within_epsilon_and_of_larger_value(problem, method):
    images, labels = problem
    model = classifier()
    robust = recorded(model, method)
    robust.train_on_batch(images, labels)
    clean, attacked = robust.pair
    assert np.array_equal(clean, images)
    assert 0.9 * EPSILON < np.abs(attacked - clean).max() <= EPSILON + 1e-6
    assert attacked.min() >= 0 and attacked.max() <= 1
    before, after = predict_logits(model, clean), predict_logits(model, attacked)
    if method == "trades":
        p, q = (scipy.special.softmax(z, axis=1) for z in (before, after))
        assert (p * np.log(p / q)).sum(axis=1).min() > 1e-4
    else:
        numbers = labels.astype(np.int32)
        rise = np.asarray(margin(after, numbers)) - np.asarray(margin(before, numbers))
        best = perturb(images, PGD(model)(images, labels, [EPSILON], verbose=0)[EPSILON])
        most = np.asarray(margin(predict_logits(model, best), numbers)) - np.asarray(
            margin(before, numbers)
        )
        assert (rise > 0.6 * most).all()


def test_the_random_start_is_new_in_each_step_and_depends_on_the_seed(problem):
    images, labels = problem
    seen = {}
    for seed in (0, 0, 1):
        robust = recorded(classifier(), "fgsm-rs", seed=seed)
        steps = []
        for _ in range(2):
            robust.train_on_batch(images, labels)
            steps.append(robust.pair[1])
        assert not np.array_equal(*steps)
        assert np.array_equal(seen.setdefault(seed, steps), steps)
    assert not np.array_equal(seen[0], seen[1])


def test_the_attack_is_made_in_inference_mode(problem):
    """So batch norm sees the attacked images alone, once; and dropout does not hide a gradient."""
    images, labels = problem
    norm = keras.layers.BatchNormalization(momentum=0.9, name="norm")
    model = classifier(0, norm)
    robust = recorded(model, "pgd")
    robust.train_on_batch(images, labels)
    inputs = model.get_layer("conv")(robust.pair[1])
    expected = 0.1 * keras.ops.convert_to_numpy(inputs).mean(axis=(0, 1, 2))
    np.testing.assert_allclose(norm.moving_mean.numpy(), expected, rtol=1e-3, atol=1e-6)


def fragile(count, seed):
    """Two classes: a patch that tells 19 of 20, and a faint pattern that tells all of them."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    sign = 2 * labels - 1
    told = np.where(rng.random(count) < 0.95, sign, -sign)
    images = rng.normal(0.5, 0.01, (count, 8, 8, 3))
    images[:, 2:6, 2:6] += 0.2 * told[:, None, None, None]
    pattern = np.indices((8, 8)).sum(axis=0) % 2 * 2 - 1
    images += 0.03 * sign[:, None, None, None] * pattern[None, :, :, None]
    return np.clip(images, 0, 1).astype(np.float32), labels


def trained(method, images, labels):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(2),
        ]
    )
    robust = model
    settings = {"loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True)}
    if method:
        robust, settings = AdversarialTraining(model, method, epsilon=EPSILON), {}
    robust.compile(keras.optimizers.Adam(1e-2), metrics=["accuracy"], **settings)
    robust.fit(images, labels, epochs=8, batch_size=40, verbose=0)
    return model


def right_under_pgd(model, images, labels):
    attack = PGD(model, steps=20, random_start=False)
    attacked = perturb(images, attack(images, labels, [EPSILON], verbose=0)[EPSILON])
    return int((predict_logits(model, attacked).argmax(axis=1) == labels).sum())


def wilson(right):
    return proportion_confint(right, 100, method="wilson")


def test_adversarial_training_withstands_attacks_that_normal_training_does_not():
    images, labels = fragile(200, 0)
    test_images, test_labels = fragile(100, 1)
    normal = trained(None, images, labels)
    assert (predict_logits(normal, test_images).argmax(axis=1) == test_labels).mean() > 0.97
    _, most = wilson(right_under_pgd(normal, test_images, test_labels))
    for method in METHODS:
        model = trained(method, images, labels)
        least, _ = wilson(right_under_pgd(model, test_images, test_labels))
        assert least > most + 0.3, method


def test_validation_is_under_attack_and_the_model_itself_is_clean():
    images, labels = fragile(200, 0)
    model = trained(None, images, labels)
    robust = AdversarialTraining(model, "fgsm-rs", epsilon=EPSILON)
    robust.compile("adam", metrics=["accuracy"])
    _, accuracy = robust.evaluate(images, labels, verbose=0)
    under_pgd = right_under_pgd(model, images, labels) / 200
    assert under_pgd < 0.5 < (predict_logits(model, images).argmax(axis=1) == labels).mean()
    assert accuracy == pytest.approx(under_pgd, abs=0.1)


def test_what_is_saved_is_the_plain_model(problem, tmp_path):
    images, labels = problem
    model = classifier()
    robust = AdversarialTraining(model, "fgsm-rs", epsilon=EPSILON)
    robust.compile("adam", metrics=["accuracy"])
    before = model.get_weights()
    path = tmp_path / "robust.keras"
    best = keras.callbacks.ModelCheckpoint(path, monitor="val_accuracy")
    robust.fit(images, labels, validation_data=(images, labels), verbose=0, callbacks=[best])
    assert not np.array_equal(before[0], model.get_weights()[0])
    opened = keras.saving.load_model(path)
    assert type(opened) is keras.Sequential
    np.testing.assert_array_equal(opened.get_weights()[0], model.get_weights()[0])
    np.testing.assert_allclose(opened(images), model(images), rtol=1e-6)


def test_a_data_set_gives_the_same_as_arrays_and_the_step_is_compiled_once(problem):
    images, labels = problem
    traced = []

    class Counted(AdversarialTraining):
        def train_step(self, data):
            traced.append(data)
            return super().train_step(data)

    weights = []
    images, labels = np.concatenate([images] * 3), np.concatenate([labels] * 3)  # a smaller batch
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(32)
    for given in ((images, labels), (batches,)):
        model = classifier()
        robust = Counted(model, "pgd", epsilon=EPSILON)
        robust.compile("adam")
        robust.fit(*given, shuffle=False, epochs=3, verbose=0)
        weights.append(model.get_weights()[0])
    assert len(traced) <= 4  # for each model Keras traces once more, to make Adam's variables
    np.testing.assert_array_equal(*weights)


def test_a_model_that_takes_other_pixels_and_ends_in_a_softmax_layer_is_trained(problem):
    images, labels = problem
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Rescaling(1 / 255), *classifier().layers]
    )
    model.add(keras.layers.Softmax())
    robust = AdversarialTraining(model, "pgd", epsilon=EPSILON)
    robust.compile(keras.optimizers.Adam(1e-2), metrics=["accuracy"])
    history = robust.fit(images, labels, epochs=25, batch_size=12, verbose=0).history
    assert history["loss"][-1] < 0.9 * history["loss"][0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "fgsm"}, "method as one of fgsm-rs, pgd, trades. Received: 'fgsm'"),
        ({"epsilon": 0}, "epsilon above 0, at most 1. Received: 0"),
        ({"epsilon": float("nan")}, "epsilon above 0, at most 1. Received: nan"),
        ({"beta": -1}, "beta as a number, 0 or more. Received: -1"),
        ({"map_weight": float("inf")}, "map_weight as a number, 0 or more. Received: inf"),
        ({"steps": 0}, "steps as a whole number above 0.*Received: steps = 0 for pgd"),
        ({"method": "fgsm-rs", "steps": 2}, "steps as .*none for fgsm-rs.*Received: steps = 2"),
        ({"layer": "third"}, "a layer of the model.*Received: 'third'"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(settings, message):
    with pytest.raises(ValueError, match="Expected " + message):
        AdversarialTraining(classifier(), **settings)


def test_a_last_layer_with_an_activation_is_refused():
    model = classifier()
    model.add(keras.layers.Dense(3, activation="softmax", name="end"))
    with pytest.raises(ValueError, match="without activation. Received: 'end' with one"):
        AdversarialTraining(model)


def test_another_backend_is_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="Keras on TensorFlow for adversarial .*Received: jax"):
        AdversarialTraining(classifier())


def test_images_labels_and_losses_that_do_not_fit_are_refused(problem):
    images, labels = problem
    robust = AdversarialTraining(classifier(), epsilon=EPSILON)
    with pytest.raises(ValueError, match="Expected no loss"):
        robust.compile("adam", loss="mse")
    robust.compile("adam")
    with pytest.raises(ValueError, match=r"in \[0, 1\]. Received: from 0 to 255"):
        robust.fit(255 * images, labels)
    batches = tf.data.Dataset.from_tensor_slices((255 * images, labels)).batch(4)
    with pytest.raises(ValueError, match=r"in \[0, 1\]. Received"):
        robust.fit(batches)
    with pytest.raises(ValueError, match=r"labels as integers \(N,\).*Received: shape .*, 3\)"):
        robust.fit(images, np.eye(3)[labels], verbose=0)
    with pytest.raises(ValueError, match=r"labels as integers \(N,\).*Received: none"):
        robust.fit(images, verbose=0)
