"""Training a head on cached features."""

import numpy as np
import pytest

from gradcam_adv import classifiers, training


@pytest.fixture
def problem():
    """Three separable classes in slices of 20 (the last one shorter), 10 features a photo."""
    rng = np.random.default_rng(0)
    labels = np.arange(70) % 3
    features = (rng.normal(0, 0.3, (70, 10)) + 2 * np.eye(3, 10)[labels]).astype(np.float32)
    order = rng.permutation(70)
    slices = [features[start : start + 20] for start in range(0, 70, 20)]
    return slices, labels, order[:50], order[50:60]


def train(problem, epochs=8, seed=0):
    head = classifiers.dense_head(10, 3, seed)
    return head, training.train_head(head, *problem, epochs=epochs, seed=seed)


def test_learns_and_reports_every_epoch(problem):
    head, history = train(problem)
    assert history["epoch"].tolist() == list(range(1, 9))
    assert history["val_accuracy"].max() == 1
    features, labels = np.concatenate(problem[0]), problem[1]
    rest = np.setdiff1d(np.arange(70), np.concatenate(problem[2:]))
    right = head.predict(features[rest], verbose=0).argmax(axis=1) == labels[rest]
    assert right.mean() > 0.8


def test_keeps_the_weights_of_the_best_validation_epoch(problem):
    # Validation labels that the head unlearns: the first epoch is the best one.
    slices, labels, train_rows, validation = problem
    wrong = labels.copy()
    first, _ = train(problem, epochs=1)
    wrong[validation] = first.predict(np.concatenate(slices)[validation], verbose=0).argmax(axis=1)
    wrong[validation[0]] = (labels[validation[0]] + 1) % 3
    head, history = train((slices, wrong, train_rows, validation), epochs=8)
    best = history["val_accuracy"].idxmax()
    kept = head.predict(np.concatenate(slices)[validation], verbose=0).argmax(axis=1)
    assert (kept == wrong[validation]).mean() == pytest.approx(history["val_accuracy"][best])
    assert history["val_accuracy"].iloc[-1] <= history["val_accuracy"][best]


def test_follows_from_the_seed(problem):
    first, history = train(problem)
    again, same = train(problem)
    other, _ = train(problem, seed=1)
    assert history.equals(same)
    assert all(
        np.array_equal(a, b) for a, b in zip(first.get_weights(), again.get_weights(), strict=True)
    )
    assert not np.array_equal(first.get_weights()[0], other.get_weights()[0])


def test_features_of_any_scale_and_offset_train_alike(problem):
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
