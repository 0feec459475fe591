"""Attacks of several steps against Foolbox, ART and NumPy; their bounds; attacks by name."""

import inspect
import sys

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from peers import foolbox_attack

from gradcam_adv import FGSM, MIFGSM, PGD, PIFGSM, perturb, predict_logits
from gradcam_adv.attacks import AutoPGD, ScaledPerturbations, Square, names
from gradcam_adv.attacks.balls import BALLS
from gradcam_adv.attacks.gradients import margin

ATTACKS = {"pgd": PGD, "mi-fgsm": MIFGSM, "pi-fgsm": PIFGSM}


def last(attack, images, labels, epsilon):
    """The images after the last step, whether or not they are the best."""
    *_, (perturbations, _) = attack._climb(images, labels, epsilon)
    return perturb(images, perturbations)


def margins(model, images, labels):
    found = margin(predict_logits(model, images), labels.astype(np.int32))
    return keras.ops.convert_to_numpy(found)


def check_near(ours, theirs):
    """Equal, except where the gradient is at rounding level and has another sign."""
    assert (np.abs(ours - theirs) > 1e-6).mean() < 1e-3


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_pgd_equals_foolbox_after_every_step(small_cnn, images, labels, norm, steps, targeted):
    ours = PGD(
        small_cnn, norm=norm, steps=steps, step_size=0.3, random_start=False, targeted=targeted
    )
    kind = {"linf": "LinfProjectedGradientDescentAttack", "l2": "L2ProjectedGradientDescentAttack"}
    arguments = {"steps": steps, "rel_stepsize": 0.3, "random_start": False}
    # Foolbox' L2 norm is Euclidean.
    unit = 1 if norm == "linf" else np.sqrt(images[0].size)
    theirs = foolbox_attack(
        kind[norm], small_cnn, images, labels, 0.03 * unit, targeted=targeted, **arguments
    )
    check_near(last(ours, images, labels, 0.03), theirs)


@pytest.mark.parametrize("decay", [0, 0.9])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_mi_fgsm_equals_foolbox(small_cnn, images, labels, norm, decay):
    """Foolbox adds up signs in L-infinity; here it divides by the L1 norm, as the paper does."""
    ours = MIFGSM(small_cnn, norm=norm, decay=decay, steps=5, step_size=0.3)
    kind = {"linf": "LinfMomentumIterative", "l2": "L2MomentumIterative"}[norm]
    # Foolbox' L2 norm is Euclidean.
    unit = 1 if norm == "linf" else np.sqrt(images[0].size)
    theirs = foolbox_attack(
        f"{kind}FastGradientMethod",
        *(small_cnn, images, labels, 0.03 * unit),
        normalized_by=1,
        momentum=decay,
        steps=5,
        rel_stepsize=0.3,
    )
    check_near(last(ours, images, labels, 0.03), theirs)


def test_pi_fgsm_equals_the_formulas_in_numpy(small_cnn, images, labels):
    epsilon, steps, amplification = 0.03, 4, 3.0
    attack = PIFGSM(small_cnn, steps=steps, amplification=amplification)
    length = amplification * epsilon / steps
    x, a = images.copy(), np.zeros(images.shape)
    for _ in range(steps):
        gradient, _ = attack._gradient(x, labels)
        a += length * np.sign(gradient)
        excess = np.sign(a) * np.maximum(np.abs(a) - epsilon, 0)
        padded = np.pad(excess, [(0, 0), (1, 1), (1, 1), (0, 0)])
        around = np.zeros(images.shape)
        for down, right in [(i, j) for i in range(3) for j in range(3) if (i, j) != (1, 1)]:
            around += padded[:, down : down + 24, right : right + 24] / 8
        passed_on = length * np.sign(np.where(np.abs(around) < 3e-8, 0, around))
        a += passed_on
        x = np.clip(x + length * np.sign(gradient) + passed_on, images - epsilon, images + epsilon)
        x = np.clip(x, 0, 1).astype(np.float32)
    check_near(last(attack, images, labels, epsilon), x)


def test_one_step_of_the_whole_length_is_fgsm(small_cnn, images, labels):
    attack = PGD(small_cnn, steps=1, step_size=1, random_start=False)
    np.testing.assert_array_equal(
        last(attack, images, labels, 0.05),
        perturb(images, FGSM(small_cnn)(images, labels, [0.05])[0.05]),
    )


@pytest.fixture(scope="module")
def wavy():
    """Its logits are waves, so long steps go astray."""
    keras.utils.set_random_seed(2)
    return keras.Sequential(
        [
            keras.Input((24, 24, 3)),
            keras.layers.Flatten(),
            keras.layers.Dense(30, activation=keras.ops.sin),
            keras.layers.Dense(5),
        ]
    )


@pytest.mark.parametrize("name", ["pgd", "mi-fgsm"])
def test_the_best_of_all_steps_is_kept(wavy, images, labels, name):
    attack = ATTACKS[name](wavy, steps=6, step_size=1.5)
    kept = margins(wavy, perturb(images, attack(images, labels, [0.5])[0.5]), labels)
    seen = np.stack(
        [
            margins(wavy, perturb(images, perturbations), labels)
            for perturbations, _ in attack._climb(images, labels, 0.5)
        ]
    )
    np.testing.assert_allclose(kept, seen.max(axis=0), rtol=1e-4, atol=1e-4)
    assert (seen.max(axis=0) > seen[-1] + 1e-2).any()


@pytest.mark.parametrize("name", ATTACKS)
def test_more_steps_and_restarts_never_do_worse(small_cnn, images, labels, name):
    def reached(**settings):
        attack = ATTACKS[name](small_cnn, step_size=0.4, random_start=True, **settings)
        return margins(small_cnn, perturb(images, attack(images, labels, [0.05])[0.05]), labels)

    few, many, again = reached(steps=3), reached(steps=8), reached(steps=3, restarts=3)
    assert (many >= few - 1e-5).all()
    assert (again >= few - 1e-5).all()
    assert (again > few + 1e-5).any()


@pytest.mark.parametrize("name", ATTACKS)
def test_several_steps_raise_the_margin_above_that_of_fgsm(small_cnn, images, labels, name):
    of_fgsm = perturb(images, FGSM(small_cnn)(images, labels, [0.1])[0.1])
    attacked = perturb(images, ATTACKS[name](small_cnn)(images, labels, [0.1])[0.1])
    assert (
        margins(small_cnn, attacked, labels) >= margins(small_cnn, of_fgsm, labels)
    ).mean() > 0.8


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_targeted_attacks_reach_their_class(linear, norm):
    images = np.random.default_rng(0).random((12, 4, 4, 3), np.float32)
    targets = (predict_logits(linear, images).argmax(axis=1) + 1) % 3
    attack = PGD(linear, norm=norm, targeted=True)
    attacked = perturb(images, attack(images, targets, [0.3])[0.3])
    assert (predict_logits(linear, attacked).argmax(axis=1) == targets).mean() > 0.8


def test_an_image_gets_one_perturbation_whatever_comes_with_it(small_cnn, images, labels):
    whole = PGD(small_cnn, steps=2, batch_size=4)(images, labels, [0.05])[0.05]
    order = np.random.default_rng(0).permutation(len(images))
    other = PGD(small_cnn, steps=2, batch_size=4)(images[order], labels[order], [0.05, 0.01])
    np.testing.assert_allclose(other[0.05], whole[order], atol=1e-6)
    seeded = PGD(small_cnn, steps=2, batch_size=4, seed=1)(images, labels, [0.05])[0.05]
    assert (np.abs(seeded - whole) > 1e-3).mean() > 0.1


def test_restarts_begin_at_different_points(small_cnn, images):
    attack = PGD(small_cnn, restarts=2)
    first, second = (attack._start(images, 0.1, restart) for restart in (0, 1))
    assert (first != second).mean() > 0.99
    assert abs(first.mean()) < 0.005
    np.testing.assert_allclose(first.std(), 0.1 / np.sqrt(3), rtol=0.02)  # evenly in [-0.1, 0.1]


@pytest.fixture(scope="module")
def linear():
    keras.utils.set_random_seed(1)
    layers = [keras.Input((4, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(3)]
    return keras.Sequential(layers)


@pytest.fixture(scope="module")
def on_linear(linear):
    made = {(name, "linf"): kind(linear, steps=3) for name, kind in ATTACKS.items()}
    made |= {(n, "l2"): ATTACKS[n](linear, norm="l2", steps=3) for n in ("pgd", "mi-fgsm")}
    return made


@settings(max_examples=40, deadline=None)
@given(st.floats(1e-4, 1), st.integers(0, 2**32), st.booleans())
def test_no_pixel_leaves_the_ball_or_the_range(on_linear, epsilon, seed, extreme):
    rng = np.random.default_rng(seed)
    images = rng.random((2, 4, 4, 3), dtype=np.float32)
    images = np.round(images) if extreme else images
    for (_, norm), attack in on_linear.items():
        attacked = perturb(images, attack(images, [0, 2], [epsilon])[epsilon])
        assert attacked.min() >= 0
        assert attacked.max() <= 1
        moved = attacked.astype(np.float64) - images
        if norm == "linf":
            assert np.abs(moved).max() <= np.float32(epsilon)
        else:
            assert np.sqrt((moved**2).mean(axis=(1, 2, 3))).max() <= epsilon


def test_the_best_perturbation_of_a_linear_model_is_known(linear, on_linear):
    """Against class 0 of two classes the margin is linear, so its gradient's sign is the best."""
    weights = keras.ops.convert_to_numpy(linear.layers[-1].kernel)
    two = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
    two.layers[-1].kernel.assign(weights[:, :2])
    images = np.full((1, 4, 4, 3), 0.5, np.float32)
    slope = (weights[:, 1] - weights[:, 0]).reshape(images.shape)
    found = PGD(two, steps=4)(images, [0], [0.1])[0.1]
    np.testing.assert_allclose(found, 0.1 * np.sign(slope), atol=1e-6)
    found = PGD(two, norm="l2", steps=20, step_size=0.5)(images, [0], [0.1])[0.1]
    best = 0.1 * slope / np.sqrt((slope**2).mean())
    np.testing.assert_allclose(found, best, atol=2e-3)
    np.testing.assert_allclose(np.sqrt((found**2).mean()), 0.1, rtol=1e-5)


@pytest.mark.parametrize("norm", BALLS)
def test_a_ball_projects_to_the_nearest_point(norm):
    ball, rng = BALLS[norm], np.random.default_rng(0)
    far = rng.standard_normal((3, 5, 5, 2)).astype(np.float32)
    near = ball.project(far, 0.1)
    np.testing.assert_allclose(ball.project(near, 0.1), near, rtol=1e-6)
    inside = np.stack([ball.sample(rng, far.shape[1:], 0.1) for _ in range(3)])
    np.testing.assert_array_equal(ball.project(inside, 0.1), inside)
    nearest = np.square(far - near).sum()
    for _ in range(20):
        other = np.stack([ball.sample(rng, far.shape[1:], 0.1) for _ in range(3)])
        assert np.square(far - other).sum() > nearest
    assert not ball.steepest(np.zeros(far.shape, np.float32)).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"norm": "l1"}, "norm as one of linf, l2. Received: 'l1'"),
        ({"steps": 0}, "steps as a whole number above 0. Received: 0"),
        ({"steps": 2.5}, "steps as a whole number above 0. Received: 2.5"),
        ({"restarts": 0}, "restarts as a whole number above 0. Received: 0"),
        ({"step_size": -1}, "step_size as a number above 0. Received: -1"),
        ({"restarts": 2, "random_start": False}, "random_start with several restarts"),
    ],
)
def test_settings_that_make_no_sense_are_refused(linear, arguments, message):
    with pytest.raises(ValueError, match=message):
        PGD(linear, **arguments)


def test_further_settings_that_make_no_sense_are_refused(linear):
    with pytest.raises(ValueError, match="decay as a number of 0 or more. Received: -1"):
        MIFGSM(linear, decay=-1)
    with pytest.raises(ValueError, match=r"amplification as a number of 1 or more. Received: 0.5"):
        PIFGSM(linear, amplification=0.5)
    with pytest.raises(ValueError, match="norm as linf. Received: 'l2'"):
        PIFGSM(linear, norm="l2")


@pytest.mark.parametrize("name", ATTACKS)
def test_wrong_calls_are_refused(linear, name):
    attack, images = ATTACKS[name](linear), np.full((2, 4, 4, 3), 0.5, np.float32)
    with pytest.raises(ValueError, match=r"epsilons from 0 to 1. Received: \[0.1, 2\]"):
        attack(images, [0, 1], [0.1, 2])
    with pytest.raises(ValueError, match="labels from 0 to 2"):
        attack(images, [0, 3], [0.1])
    assert not attack(images, [0, 1], [0])[0].any()


def test_an_image_whose_gradient_is_not_finite_is_named(linear):
    broken = keras.Sequential(
        [
            keras.Input((4, 4, 3)),
            keras.layers.Flatten(),
            keras.layers.Lambda(lambda x: keras.ops.log(x - 0.2)),
            keras.layers.Dense(3),
        ]
    )
    images = np.full((5, 4, 4, 3), 0.5, np.float32)
    images[3] = 0.1
    with pytest.raises(ValueError, match="finite .* on image 3"):
        PGD(broken, batch_size=2, random_start=False)(images, [0] * 5, [0.01])


@given(
    arrays.arrays(np.float32, (2, 3, 3, 2), elements=st.floats(-1, 1, width=32)),
    st.floats(2**-20, 1, width=32),
)
def test_stored_perturbations_are_near_and_never_larger(values, epsilon):
    values = np.where(np.abs(values) < 1e-30, 0, values)  # float32 has fewer digits there
    given_ = {0.1: values, 0.2: np.float32(epsilon) * np.sign(values)}
    stored = ScaledPerturbations.of(given_)
    assert stored.steps.dtype == np.int8
    assert list(stored) == [0.1, 0.2]
    for key, exact in given_.items():
        restored = stored[key]
        assert restored.dtype == np.float32
        assert (np.abs(restored) <= np.abs(exact)).all()
        largest = np.abs(exact).max(axis=(1, 2, 3), keepdims=True)
        assert (np.abs(restored - exact) <= largest / 127 * 1.001).all()
    np.testing.assert_allclose(stored[0.2], given_[0.2], rtol=1e-6)
    with pytest.raises(KeyError):
        stored[0.3]


@pytest.mark.parametrize("name", names.NAMES)
def test_the_settings_of_an_attack_are_those_of_its_class(name):
    """They are written down twice; a plan takes the ones that need no import of the class."""
    expected = {}
    for kind in reversed(names.attack_class(name).__mro__):
        if init := vars(kind).get("__init__"):
            given = inspect.signature(init).parameters.values()
            expected |= {p.name: p.default for p in given if p.kind is p.KEYWORD_ONLY}
    del expected["batch_size"]
    assert names.settings_of(name) == expected


def test_attacks_are_made_by_name(linear):
    made = names.make("mi-fgsm", linear, steps=3, decay=0.5, batch_size=2)
    assert (type(made), made.steps, made.decay) == (MIFGSM, 3, 0.5)
    assert names.settings_of("fgsm") == {}
    assert names.settings_of("pgd")["random_start"] is True
    assert names.settings_of("mi-fgsm")["random_start"] is False
    assert set(names.settings_of("pi-fgsm")) >= {"amplification", "steps", "norm", "targeted"}
    assert set(names.TITLES) == set(names.NAMES)
    with pytest.raises(ValueError, match="attack as one of fgsm, pgd, .* Received: 'cw'"):
        names.make("cw", linear)
    with pytest.raises(ValueError, match="settings of pgd out of .*steps.* Received: decay, stepz"):
        names.make("pgd", linear, stepz=3, decay=1)
    with pytest.raises(ValueError, match="settings of fgsm out of none. Received: steps"):
        names.make("fgsm", linear, steps=3)


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (AutoPGD, {"steps": 20}),
        (AutoPGD, {"steps": 20, "loss": "difference_logits_ratio", "restarts": 2}),
        (Square, {"queries": 100}),
    ],
)
def test_attacks_of_art_stay_within_epsilon_and_change_predictions(wavy, images, kind, arguments):
    labels = predict_logits(wavy, images).argmax(axis=1)
    found = kind(wavy, **arguments)(images, labels, [0.1])
    attacked = perturb(images, found[0.1])
    assert np.abs(attacked.astype(np.float64) - images).max() <= np.float32(0.1)
    assert (predict_logits(wavy, attacked).argmax(axis=1) != labels).mean() > 0.9


@pytest.mark.tensorflow
def test_what_art_cannot_attack_is_refused(linear, monkeypatch):
    parts = [keras.Input((4, 4, 3)), keras.layers.Flatten()]
    of_two = keras.Sequential([*parts, keras.layers.Dense(2)])
    with pytest.raises(ValueError, match=r"3 classes or more for the loss .*Received: 2"):
        AutoPGD(of_two, loss="difference_logits_ratio")
    with pytest.raises(ValueError, match="loss as one of cross_entropy, .* Received: 'dlr'"):
        AutoPGD(linear, loss="dlr")
    several = keras.Sequential([*parts, keras.layers.Dense(3, activation="sigmoid")])
    with pytest.raises(ValueError, match="one class per image"):
        Square(several)
    monkeypatch.setitem(sys.modules, "art.estimators.classification", None)
    with pytest.raises(ImportError, match=r"pip install .gradcam-adv\[attacks\]"):
        Square(linear)


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("attack", "few"), [(AutoPGD, {"steps": 3, "restarts": 2}), (Square, {"queries": 30})]
)
def test_the_chance_in_attacks_of_art_is_that_of_their_seed(attack, few, small_cnn, images, labels):
    """Else a study that was interrupted would end with other numbers."""
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    one, again, other = (
        attack(small_cnn, seed=seed, **few)(images, labels, [0.05])[0.05] for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
