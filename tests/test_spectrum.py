"""The share of low frequencies: of waves with a known frequency, of noise, and without energy."""

import numpy as np
import pytest

from gradcam_adv.metrics import low_frequency_share

SIDE = 32


def wave(rows: int, columns: int) -> np.ndarray:
    """A wave of so many cycles over the image, (1, SIDE, SIDE, 1)."""
    y, x = np.mgrid[:SIDE, :SIDE]
    return np.cos(2 * np.pi * (rows * y + columns * x) / SIDE)[None, ..., None]


@pytest.mark.parametrize(
    ("rows", "columns", "share"),
    [(0, 0, 1), (4, 0, 1), (0, 4, 1), (4, 4, 1), (5, 0, 0), (0, 5, 0), (4, 5, 0), (16, 16, 0)],
)
def test_a_wave_is_low_up_to_an_eighth_in_both_directions(rows, columns, share):
    assert low_frequency_share(wave(rows, columns)) == pytest.approx([share], abs=1e-12)


def test_a_sum_of_waves_has_their_shares_of_the_energy():
    mixed = wave(2, 0) + 2 * wave(9, 0)
    assert low_frequency_share(mixed) == pytest.approx([1 / 5])
    other_channel = np.concatenate([wave(2, 0), 2 * wave(9, 0)], axis=-1)
    assert low_frequency_share(other_channel) == pytest.approx([1 / 5])


def test_of_random_signs_it_is_the_share_of_the_frequencies():
    signs = np.random.default_rng(0).choice((-1, 1), (200, SIDE, SIDE, 3)).astype(np.int8)
    # From -4 to 4 of 32 frequencies, in both directions.
    assert low_frequency_share(signs).mean() == pytest.approx((9 / 32) ** 2, rel=0.02)


def test_sides_may_differ_and_nothing_has_no_share():
    assert low_frequency_share(np.ones((2, 8, 20, 3))).tolist() == [1, 1]
    assert np.isnan(low_frequency_share(np.zeros((1, 8, 8, 3)))).all()


def test_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"perturbations of shape .* Received: shape \(8, 8, 3\)"):
        low_frequency_share(np.ones((8, 8, 3)))
