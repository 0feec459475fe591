"""``read_people``: the pixels, labels and splits of a data set in one call."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gradcam_adv.data import datasets, photos, sources


@dataclass(frozen=True)
class People:
    """Photos of people, in memory.

    Attributes:
        images: float32 (N, size, size, 3), RGB, values in [0, 1].
        labels: int (N,), the number of the person in each photo.
        names: the names of the people, by label.
        train, validation, test: indices of the photos to train on, of those that choose the best
            epoch, and of those to attack.
        table: the files of the photos, and which photos were left out and why.
    """

    images: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    table: datasets.Table


def read_people(
    source: str,
    size: int,
    *,
    classes: int | None = None,
    min_photos: int = 3,
    max_photos: int | None = None,
    split: Sequence[float] = (0.8, 0.1, 0.1),
    seed: int = 0,
) -> People:
    """Choose people of a data set, read their photos and split them, as a study does.

    All photos have to fit into memory.

    Args:
        source: 'orl', 'lfw', 'lfw:DIR', 'vggface2:DIR' or a folder with one folder per identity.
        size: side of the square images in pixels.
        classes: how many people to choose at random; None for all.
        min_photos: people with fewer photos are not chosen.
        max_photos: the most photos of one person, chosen at random; None for all.
        split: shares of train, validation and test; every person has a photo in each.
        seed: of every random choice here.

    Raises:
        ValueError: an impossible number or split, no photos, or too few of them.

    Example:
        >>> people = read_people("orl", 32, classes=3)
        >>> people.images.shape, len(people.train), len(people.validation), len(people.test)
        ((30, 32, 32, 3), 24, 3, 3)
    """
    limits = [("size", size, 1), ("min_photos", min_photos, 3), ("seed", seed, 0)]
    limits += [("classes", classes, 2)] if classes is not None else []
    limits += [("max_photos", max_photos, 3)] if max_photos is not None else []
    for name, value, minimum in limits:
        if not (isinstance(value, int) and value >= minimum):
            raise ValueError(f"Expected {name} as {minimum} or more. Received: {value!r}")
    # NaN among the shares fails this check as well.
    if len(split) != 3 or not (min(split) > 0 and math.isclose(sum(split), 1, abs_tol=1e-6)):
        raise ValueError(
            "Expected split as three positive shares (train, validation, test) of sum 1. "
            f"Received: {split!r}"
        )
    train, validation, test = split
    listing = sources.list_photos(source, classes=classes, min_photos=min_photos, seed=seed)
    table = datasets.make_table(
        listing,
        classes=classes,
        min_photos=min_photos,
        max_photos=max_photos,
        split=(train, validation, test),
        seed=seed,
    )
    kept = table.kept
    rows = {name: np.flatnonzero(kept["split"] == name) for name in datasets.SPLITS}
    names = listing.identities.set_index("identity")["name"]
    return People(
        images=photos.decode_all([listing.root / photo for photo in kept["photo"]], size),
        labels=kept["label"].to_numpy(),
        names=tuple(names[kept.drop_duplicates("label").sort_values("label")["identity"]]),
        table=table,
        **rows,
    )
