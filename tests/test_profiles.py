"""The plot of MOD along the depth shows the numbers that it was given, in the network's order."""

import numpy as np
import pandas as pd
import pytest

from gradcam_adv import depth_profile, dissimilarity

ROWS = [("end", 2, 0.1, 0.4), ("start", 0, 0.1, 0.2), ("middle", 1, 0.1, 0.3)]
ROWS += [(layer, depth, 0.05, mod / 2) for layer, depth, _, mod in ROWS]
MOD = pd.DataFrame(ROWS, columns=["layer", "depth", "epsilon", "mod"])


def test_one_line_per_epsilon_in_the_order_of_the_network():
    (axis,) = depth_profile(MOD).axes
    assert [line.get_label() for line in axis.lines] == ["ε = 0.05", "ε = 0.1"]
    np.testing.assert_allclose(axis.lines[0].get_xydata(), [[0, 0.1], [1, 0.15], [2, 0.2]])
    np.testing.assert_allclose(axis.lines[1].get_xydata(), [[0, 0.2], [1, 0.3], [2, 0.4]])
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["start", "middle", "end"]


def test_the_controls_are_those_of_the_largest_epsilon():
    controls = MOD.assign(mod_noise=MOD["mod"] / 4, unrelated=0.6)
    *_, noise, unrelated = depth_profile(controls).axes[0].lines
    assert noise.get_label() == "noise, ε = 0.1"
    np.testing.assert_allclose(noise.get_xydata(), [[0, 0.05], [1, 0.075], [2, 0.1]])
    assert unrelated.get_label() == "unrelated"
    np.testing.assert_allclose(unrelated.get_xydata(), [[0, 0.6], [1, 0.6], [2, 0.6]])
    # Images of a single class have no unrelated ones, so no line.
    lines = depth_profile(controls.assign(unrelated=np.nan)).axes[0].lines
    labels = [line.get_label() for line in lines]
    assert labels == ["ε = 0.05", "ε = 0.1", "noise, ε = 0.1"]


def test_takes_what_dissimilarity_gives(small_cnn, images, labels):
    measured = dissimilarity(small_cnn, images, labels, epsilons=[0.1], layers="all", verbose=0)
    (axis,) = depth_profile(measured.mod).axes
    assert len(axis.lines[0].get_xdata()) == 6
    drawn = {line.get_label(): line.get_ydata() for line in axis.lines}
    by_depth = measured.mod.sort_values("depth")
    np.testing.assert_allclose(drawn["ε = 0.1"], by_depth["mod"])
    np.testing.assert_allclose(drawn["noise, ε = 0.1"], by_depth["mod_noise"])
    np.testing.assert_allclose(drawn["unrelated"], by_depth["unrelated"])


@pytest.mark.parametrize(
    ("mod", "message"),
    [
        (MOD.drop(columns="depth"), "columns layer, depth, .*Received: no depth"),
        (MOD[MOD["depth"] == 0], "two layers or more. Received: 1 layers"),
        ([0.1, 0.2], "mod as a table. Received: list"),
    ],
)
def test_refuses(mod, message):
    with pytest.raises(ValueError, match=message):
        depth_profile(mod)
