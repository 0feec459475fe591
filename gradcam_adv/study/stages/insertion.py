"""Insertion and deletion: does a map that an attack has moved still explain the attacked photo?"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from gradcam_adv import metrics
from gradcam_adv.explain.heatmaps import resize
from gradcam_adv.files import write
from gradcam_adv.runs.engines import WriteSlice
from gradcam_adv.runs.records import Names
from gradcam_adv.study.attacks import OTHER_PHOTO, WHITE_BOX
from gradcam_adv.study.columns import read_parts
from gradcam_adv.study.photos import by_fold
from gradcam_adv.study.stages.evaluate import CLASS_OF, Evaluate
from gradcam_adv.study.stages.network_task import NetworkTask, SlicedTask, SummaryTask
from gradcam_adv.study.tables import ends_of, mean_of, per_group, select

# How many test photos, spread evenly, in how many steps: some 100 passes per photo and epsilon.
PHOTOS = 20
STEPS = 10
# The maps in whose order pixels change: the attacked photo's own; the clean photo's; that of a
# clean photo of another person; and one that is the same everywhere, for random order.
ORDERS = ("attacked", "clean", OTHER_PHOTO, "random")


@dataclass(frozen=True, eq=False, kw_only=True)
class Insertion(NetworkTask, SlicedTask):
    """Areas of insertion and deletion on photos under the network's own attack.

    ``insertion-<row>.csv``, one row per epsilon, target (the class, also that of the map), measure
    ("insertion" or "deletion") and order, one of ORDERS.

    Attributes:
        targets: the classes, some of :data:`gradcam_adv.study.stages.evaluate.TARGETS`.
        epsilons: of the attack.
        seed: of the random order.
    """

    kind = "insertion"
    stage = "score"
    file = "insertion-{}.csv"
    names = Names(r"insertion-\d{7}\.csv")
    length = 1
    reads_pixels = True

    evaluate: Evaluate
    targets: tuple[str, ...]
    epsilons: tuple[float, ...]
    seed: int

    @property
    def effort(self) -> float:
        images = len(ORDERS) * STEPS * 2  # of insertion and deletion
        return self.seconds(images * len(self.epsilons) * len(self.photos_to_do()))

    def photos_to_do(self) -> pd.DataFrame:
        return self.photos.test.iloc[self.photos.spread(PHOTOS)]

    def areas(self) -> pd.DataFrame:
        """Those of every photo."""
        return read_parts(self.paths())

    def begin(self) -> WriteSlice:
        from gradcam_adv.graph.predictor import Predictor

        train = self.evaluate.train

        @functools.lru_cache(1)
        def prepared(fold: int | None) -> Predictor:
            model = train.model(self.evaluate.precision, fold)
            return Predictor(model, train.features.batch_size)

        predictions = select(self.evaluate.predictions(), attack=WHITE_BOX)

        def write_slice(name: str, rows: pd.DataFrame, exact: np.ndarray) -> None:
            added = self.evaluate.perturbations(WHITE_BOX, rows, int(name), self.epsilons)
            ((fold, _),) = by_fold(rows)
            logits_of = prepared(fold)
            photo, identity = rows.iloc[0][["photo", "identity"]]
            parts = []
            for epsilon in self.epsilons:
                attacked = self.evaluate.attacked(exact, added, epsilon)
                answers = select(predictions, photo=photo, epsilon=epsilon)
                classes = [answers[CLASS_OF[target]].item() for target in self.targets]
                found = self._areas(logits_of, attacked, self._maps(int(name), epsilon), classes)
                about = {"network": self.network, "photo": photo, "identity": identity}
                parts.append(found.assign(**about, epsilon=epsilon))
            write.table(self.path(name), pd.concat(parts, ignore_index=True))

        return write_slice

    def _maps(self, row: int, epsilon: float) -> np.ndarray:
        """The maps of a photo by order and target, (ORDERS, targets, h, w)."""
        evaluate = self.evaluate
        places = [
            (row, evaluate.own_attack(epsilon), epsilon),
            (row, "clean", 0.0),
            (evaluate.of_another(row), "clean", 0.0),
        ]
        maps = [[evaluate.last_map(*place, target) for target in self.targets] for place in places]
        return np.stack([*maps, np.zeros_like(maps[0])])

    def _areas(
        self,
        logits_of: Callable[[np.ndarray], np.ndarray],
        image: np.ndarray,
        maps: np.ndarray,
        classes: list[int],
    ) -> pd.DataFrame:
        """One row per target, measure and order, on one image, (1, H, W, 3)."""
        distinct, place = np.unique(
            maps.reshape(-1, *maps.shape[2:]), axis=0, return_inverse=True
        )  # a clean photo has the same map for two targets
        place = place.reshape(maps.shape[:2])
        images = np.repeat(image, len(distinct), axis=0)
        large, wanted = resize(distinct, image.shape[1:3]), np.tile(classes, (len(distinct), 1))
        parts = []
        for measure in (metrics.insertion, metrics.deletion):
            areas = measure(logits_of, images, large, wanted, steps=STEPS, seed=self.seed)
            for i, target in enumerate(self.targets):
                values = {"order": ORDERS, "area": areas[place[:, i], i]}
                parts.append(pd.DataFrame(values).assign(target=target, measure=measure.__name__))
        return pd.concat(parts)


@dataclass(frozen=True, eq=False, kw_only=True)
class SummarizeInsertion(SummaryTask):
    """Mean areas of insertion and deletion, over all networks of an arm."""

    kind = "insertion"
    stage = "score"
    names = Names(r"insertion\.csv")

    networks: Mapping[str, Insertion]

    def summarize(self) -> dict[str, pd.DataFrame]:
        areas = pd.concat([task.areas() for task in self.networks.values()], ignore_index=True)
        return {"insertion": mean_areas(areas)}


def mean_areas(areas: pd.DataFrame) -> pd.DataFrame:
    """Mean areas of insertion and deletion, and how far the attacked photo's own map is above.

    Args:
        areas: columns network, epsilon, target, measure, order, photo, identity and area, those of
            :class:`Insertion`.

    Returns:
        Columns network, epsilon, target, measure, order, photos, area, low, high; difference (the
        area in the order of the attacked photo's own map, less this one), difference_low,
        difference_high.
    """
    keys = ["network", "epsilon", "target", "measure"]
    own = select(areas, order="attacked").set_index([*keys, "photo"])["area"].rename("own")
    both = areas.join(own, on=[*keys, "photo"])
    both = both.assign(difference=both["own"] - both["area"])

    def row_of(group: pd.DataFrame) -> dict[str, Any]:
        area, difference = mean_of(group, "area"), mean_of(group, "difference")
        return {
            "photos": len(group),
            "area": area.value,
            **ends_of(area.interval(0, 1)),
            "difference": difference.value,
            **ends_of(difference.interval(-1, 1), "difference_"),
        }

    return per_group([*keys, "order"], both, row_of)
