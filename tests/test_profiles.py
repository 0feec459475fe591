"""The plot of MOD along the depth shows the numbers it was given, in the network's order."""

import numpy as np
import pandas as pd
import pytest

from gradcam_adv import depth_profile, dissimilarity

ROWS = [("end", 2, 0.1, 0.4), ("start", 0, 0.1, 0.2), ("middle", 1, 0.1, 0.3)]
ROWS += [(layer, depth, 0.05, mod / 2) for layer, depth, _, mod in ROWS]
MOD = pd.DataFrame(ROWS, columns=["layer", "depth", "epsilon", "mod"])


def test_a_line_an_epsilon_in_the_order_of_the_network():
    (axis,) = depth_profile(MOD).axes
    assert [line.get_label() for line in axis.lines] == ["ε = 0.05", "ε = 0.1"]
    np.testing.assert_allclose(axis.lines[0].get_xydata(), [[0, 0.1], [1, 0.15], [2, 0.2]])
    np.testing.assert_allclose(axis.lines[1].get_xydata(), [[0, 0.2], [1, 0.3], [2, 0.4]])
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["start", "middle", "end"]


def test_takes_what_dissimilarity_gives(small_cnn, images, labels):
    measured = dissimilarity(small_cnn, images, labels, [0.1], "all", progress=False)
    (axis,) = depth_profile(measured.mod).axes
    assert len(axis.lines[0].get_xdata()) == 6
    drawn = {line.get_label(): line.get_ydata() for line in axis.lines}
    by_depth = measured.mod.sort_values("depth")
    np.testing.assert_allclose(drawn["random-sign noise, ε = 0.1"], by_depth["mod_noise"])
    np.testing.assert_allclose(drawn["unrelated photos (ceiling)"], by_depth["ceiling"])


def test_refuses():
    with pytest.raises(ValueError, match="columns layer, depth, .*Received: no depth"):
        depth_profile(MOD.drop(columns="depth"))
    with pytest.raises(ValueError, match="two layers or more. Received: 1 layers"):
        depth_profile(MOD[MOD["depth"] == 0])
