"""The smallest epsilons that flip predictions: known ones of a linear model, heatmaps, the plot."""

import keras
import numpy as np
import pytest

from gradcam_adv import PGD, GradCAM, flips, metrics, perturb, predict_logits, smallest_epsilons
from gradcam_adv.explain import resize


def linear(classes=2, seed=1):
    """A convolution that changes nothing, so there is a heatmap, and a linear end."""
    keras.utils.set_random_seed(seed)
    same = keras.layers.Conv2D(3, 1, use_bias=False, name="same")
    dense = keras.layers.Dense(classes)
    model = keras.Sequential([keras.Input((8, 8, 3)), same, keras.layers.Flatten(), dense])
    same.set_weights([np.eye(3)[None, None]])
    return model


@pytest.fixture(scope="module")
def model():
    return linear()


@pytest.fixture(scope="module")
def near():
    """Images around grey, so that no perturbation is clipped."""
    return np.random.default_rng(0).uniform(0.35, 0.65, (9, 8, 8, 3)).astype(np.float32)


def exact(model, images):
    """Of two classes of a linear model: the margin by the L1 norm of its gradient."""
    logits = predict_logits(model, images)
    kernel = keras.ops.convert_to_numpy(model.layers[-1].kernel).astype(float)
    return np.abs(logits[:, 1] - logits[:, 0]) / np.abs(kernel[:, 1] - kernel[:, 0]).sum()


def test_the_smallest_epsilon_of_a_linear_model_is_known(model, near):
    found = smallest_epsilons(model, near, batch_size=4)
    assert found["image"].tolist() == list(range(9))
    truth = exact(model, near)
    assert (found["epsilon"] >= truth * (1 - 1e-4)).all()
    assert (found["epsilon"] <= truth * 1.01 + 1e-4 / 2).all()
    assert (found["below"] <= truth * (1 + 1e-4)).all()
    assert (found["predicted"] == 1 - found["predicted_clean"]).all()


def test_several_steps_find_the_same_epsilon(model, near):
    of_fgsm = smallest_epsilons(model, near, precision=0.05)["epsilon"]
    attack = PGD(model, steps=3, random_start=False)
    of_pgd = smallest_epsilons(model, near, attack=attack, precision=0.05)["epsilon"]
    np.testing.assert_allclose(of_pgd, of_fgsm, rtol=0.05)


def test_an_image_that_is_wrong_already_has_0_and_one_that_stays_infinity(model, near):
    clean = predict_logits(model, near).argmax(axis=1)
    labels = np.where(np.arange(9) < 3, 1 - clean, clean)
    found = smallest_epsilons(model, near, labels, levels=[1e-7])
    assert found["epsilon"].tolist() == [0.0] * 3 + [np.inf] * 6
    assert found["nissim"].isna().all()
    assert found["below"].tolist() == [0.0] * 3 + [1e-7] * 6


def test_the_heatmaps_are_those_just_before_and_just_after(model, near):
    found = smallest_epsilons(model, near, precision=0.1)
    clean = predict_logits(model, near).argmax(axis=1)
    explain = GradCAM(model)
    slope = np.sign(predict_gradient(model)) * np.where(clean, -1, 1)[:, None, None, None]
    before = resize(explain(near, clean)["same"], 8)
    for column, size, classes in (
        ("nissim_below", "below", clean),
        ("nissim", "epsilon", 1 - clean),
        ("nissim_held", "epsilon", clean),
    ):
        sizes = found[size].to_numpy(np.float32)[:, None, None, None]
        after = resize(explain(perturb(near, sizes * slope), classes)["same"], 8)
        np.testing.assert_allclose(found[column], metrics.nissim(before, after), atol=1e-6)
    assert (
        found["nissim"] > found["nissim_below"] + 0.1
    ).mean() > 0.5  # another class, another map


def predict_gradient(model):
    """Of the logit of class 1 less that of class 0, by the pixels."""
    kernel = keras.ops.convert_to_numpy(model.layers[-1].kernel)
    return (kernel[:, 1] - kernel[:, 0]).reshape(1, 8, 8, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"levels": []}, "epsilons above 0, at most 1"),
        ({"levels": [0.1, 2]}, "epsilons above 0, at most 1"),
        ({"precision": 0}, "precision between 0 and 1. Received: 0"),
    ],
)
def test_wrong_calls_are_refused(model, near, arguments, message):
    with pytest.raises(ValueError, match=message):
        smallest_epsilons(model, near, **arguments)


def test_a_targeted_attack_is_refused(model, near):
    with pytest.raises(ValueError, match="an attack that is not targeted"):
        smallest_epsilons(model, near, attack=PGD(model, targeted=True))


def test_the_plot_shows_the_share_that_has_flipped(model, near):
    found = smallest_epsilons(model, near, precision=0.1)
    figure = flips(found)
    (line,) = figure.axes[0].lines
    assert line.get_ydata().tolist() == [0, *(np.arange(1, 10) / 9)]
    np.testing.assert_array_equal(line.get_xdata()[1:], np.sort(found["epsilon"]))
    with pytest.raises(ValueError, match="Expected a table with nissim_held"):
        flips(found.drop(columns="nissim_held"))
    with pytest.raises(ValueError, match="Expected images whose prediction flips"):
        flips(found.assign(epsilon=np.inf))
