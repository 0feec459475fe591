"""Where on a face a heatmap is: how much of it lies on the background, and on the forehead."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gradcam_adv import validation


def face_heat(maps: npt.ArrayLike, faces: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """How much of each heatmap lies outside the face, and how much hotter the forehead is.

    The forehead is the part of the face above the eyes. A pixel is where its centre is.

    Args:
        maps: heatmaps, (N, ..., H, W), values in [0, 1].
        faces: where the face of each image is, (N, 5): left, top, right and bottom end, and the
            height of the eyes, in shares of the image's sides; NaN without a face.

    Returns:
        background: share of the heat outside the face, float64 (N, ...), 0 to 1; NaN without a
        face, if the face fills the image, or if the heatmap is empty. forehead: mean heat of the
        forehead less that of the rest of the face, -1 to 1; NaN if one of them has no pixel, or if
        the heatmap is empty.

    Raises:
        ValueError: other shapes, or values outside [0, 1].

    Example:
        >>> background, forehead = face_heat([[[1.0, 0.0], [0.5, 0.5]]], [[0, 0, 0.5, 1, 0.5]])
        >>> background.item(), forehead.item()
        (0.25, 0.5)
    """
    array, places = np.asarray(maps), np.asarray(faces, dtype=np.float64)
    if array.ndim < 3 or places.shape != (len(array), 5):
        raise ValueError(
            "Expected heatmaps of shape (N, ..., H, W) and faces of shape (N, 5). "
            f"Received: shapes {array.shape}, {places.shape}"
        )
    validation.check_range(array, "heatmaps")
    left, top, right, bottom, eyes = places.T[:, :, None]
    rows, columns = ((np.arange(side) + 0.5) / side for side in array.shape[-2:])
    # Comparisons with NaN are false: without a face all of these are empty.
    beside = ((left <= columns) & (columns < right))[:, None, :]
    upper = ((top <= rows) & (rows < np.minimum(eyes, bottom)))[:, :, None] & beside
    lower = ((np.maximum(eyes, top) <= rows) & (rows < bottom))[:, :, None] & beside

    def heat_on(pixels: np.ndarray) -> np.ndarray:
        return np.einsum("n...hw,nhw->n...", array, pixels, dtype=np.float64)

    def number_of(pixels: np.ndarray) -> np.ndarray:
        return pixels.sum(axis=(1, 2)).reshape(-1, *(1 for _ in array.shape[1:-2]))

    face = upper | lower
    known = np.isin(number_of(face), (0, rows.size * columns.size), invert=True)
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN
        heat = array.sum(axis=(-2, -1), dtype=np.float64)
        background = np.where(known, np.clip(1 - heat_on(face) / heat, 0, 1), np.nan)
        forehead = heat_on(upper) / number_of(upper) - heat_on(lower) / number_of(lower)
    return background, np.where(heat > 0, forehead, np.nan)
