"""The comparison of measures: its AUC, its deciding number and its shuffled weights."""

import keras
import numpy as np
import pandas as pd
import pytest
import sklearn.metrics

from benchmarks import measures


def test_the_auc_is_scikit_learns_also_in_a_draw():
    attack, noise = np.random.default_rng(0).integers(0, 5, (2, 8)) / 5
    times = np.array([[2, 0, 1, 1, 0, 2, 1, 1]])
    found = measures.auc_draws(attack, noise, times)
    labels = np.repeat([1, 0], 8)
    for auc, weights in zip(found, (np.ones(8), times[0]), strict=True):
        both = np.concatenate([attack, noise])
        expected = sklearn.metrics.roc_auc_score(labels, both, sample_weight=np.tile(weights, 2))
        assert auc == pytest.approx(expected)


def made_up(**above: float) -> pd.DataFrame:
    """Scores of 40 photos: under the attack each measure's are so much above those under noise."""
    chance = np.random.default_rng(0)
    parts = []
    for network in ("vgg16", "xception"):
        for epsilon in measures.EPSILONS:
            noise, attack = chance.normal(size=(2, 40))
            for measure, more in above.items():
                for condition, value in (("noise 0", noise), ("attack", attack + more)):
                    rows = {"measure": measure, "condition": condition, "epsilon": epsilon}
                    rows |= {"explained": "fixed", "photo": np.arange(40), "value": value}
                    parts.append(pd.DataFrame(rows).assign(network=network))
    return pd.concat(parts, ignore_index=True)


def test_a_better_measure_is_found_and_an_equal_one_is_not():
    found = measures.deciding(made_up(nissim=0.5, better=1.5, same=0.5, worse=0.0))
    p = found.set_index("measure")["p"]
    assert p["better"] < 0.05
    assert p["worse"] < 0.05
    assert np.isnan(p["same"])
    difference = found.set_index("measure")["less NISSIM's"]
    assert not difference["better"].startswith("-")
    assert difference["worse"].startswith("-")


def test_the_cascade_shuffles_kernels_from_the_last_layer_down():
    keras.utils.set_random_seed(0)
    layers = [keras.Input((8, 8, 3)), *(keras.layers.Conv2D(4, 3) for _ in range(3))]
    layers += [keras.layers.Flatten(), keras.layers.Dense(2)]
    for share, expected in ((0.0, 1), (0.5, 2), (1.0, 4)):
        model = keras.Sequential(layers)
        before = [
            keras.ops.convert_to_numpy(layer.kernel) for layer in model.layers if layer.weights
        ]
        after = [
            keras.ops.convert_to_numpy(w.kernel)
            for w in measures.shuffled(model, share).layers
            if w.weights
        ]
        changed = [not np.array_equal(a, b) for a, b in zip(before, after, strict=True)]
        assert changed == [False] * (4 - expected) + [True] * expected
        for a, b in zip(before, after, strict=True):
            np.testing.assert_array_equal(np.sort(a, axis=None), np.sort(b, axis=None))
