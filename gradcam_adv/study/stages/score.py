"""The stage "score": NISSIM and shift of every photo and epsilon, and unrelated photos."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from gradcam_adv import metrics, validation
from gradcam_adv.attacks.names import TITLES
from gradcam_adv.explain.heatmaps import resize
from gradcam_adv.files import write
from gradcam_adv.metrics.ssim_variants import WINDOWS, Ssim
from gradcam_adv.plots.overlays import mixed
from gradcam_adv.robustness.comparison import Comparison, comparison
from gradcam_adv.runs.engines import SLICE, Engine, WriteSlice
from gradcam_adv.runs.records import Names
from gradcam_adv.runs.tasks import later
from gradcam_adv.study import gain, shifts
from gradcam_adv.study.attacks import (
    BLACK_BOX,
    FOR_GAIN_ALONE,
    WHITE_BOX,
    condition_key,
    draw_of,
    named_under,
    of_study,
    with_alias,
)
from gradcam_adv.study.columns import read_parts, read_table
from gradcam_adv.study.stages.data import CropFaces, FindFaces
from gradcam_adv.study.stages.evaluate import TARGETS, Evaluate, Further
from gradcam_adv.study.stages.explain import Explain, layers_in
from gradcam_adv.study.stages.network_task import NetworkTask, SlicedTask, SummaryTask
from gradcam_adv.study.tables import select


@dataclass(frozen=True, eq=False, kw_only=True)
class _Scored(NetworkTask, SlicedTask):
    """NISSIM slice by slice, and the control ``unrelated.csv``.

    Attributes:
        seed: of the pairs of unrelated photos.
        measure: whose values stand in the place of NISSIM.
    """

    stage = "score"
    runs_networks = False

    seed: int
    measure: str = later("nissim")

    @property
    def compare(self) -> Comparison:
        return comparison(self.measure)

    @abc.abstractmethod
    def _unrelated(self) -> pd.DataFrame:
        """The control, computed from the clean heatmaps."""

    def files_beside(self) -> list[Path]:
        return [self.folder / "unrelated.csv"]

    def make(self, engine: Engine) -> list[Path]:
        files = super().make(engine)
        for path in self.files_beside():
            if not write.is_whole(path):
                write.table(path, self._unrelated())
        return [*files, *self.files_beside()]

    def nissim(self) -> pd.DataFrame:
        """NISSIM of every photo and condition."""
        return read_parts(self.paths())

    def unrelated(self) -> pd.DataFrame:
        """NISSIM of pairs of photos of different people; maybe none."""
        return read_table(self.folder / "unrelated.csv")


@dataclass(frozen=True, eq=False, kw_only=True)
class Score(_Scored):
    """NISSIM and shift of the last heatmaps, and NISSIM of unrelated photos.

    The shift is that of the region, the correlation with the clean heatmap, and where on the face
    the heatmap is (:func:`gradcam_adv.metrics.face_heat`). Without it where only the gain is
    measured.

    Slice by slice ``nissim-<slice>.csv``, one row per photo, attack, epsilon, target and size; and
    ``unrelated.csv``, one row per pair of test photos of different people, target and size: attack
    is "clean", or the attack on the second photo, whose pairs are one for each photo.

    Attributes:
        faces: that were found; None if the study looks for none.
        compared: what NISSIM compares: heatmaps; these in the colours of jet; or these over photos.
        ssim: the form of SSIM.
    """

    kind = "score"
    version = 4
    file = "nissim-{}.csv"
    names = Names(r"(nissim-\d{7}|unrelated)\.csv")

    evaluate: Evaluate
    faces: FindFaces | CropFaces | None
    explained_class: Literal["predicted", "clean", "true"]
    compared: Literal["heatmaps", "jet", "overlays"] = later("heatmaps")
    ssim: Ssim = later("uniform")

    def nissim(self) -> pd.DataFrame:
        """NISSIM of every photo and condition; of noise the mean over its draws."""
        return shifts.over_draws(super().nissim())

    def noise_draws(self) -> pd.DataFrame:
        """MOD of noise and its spread over the draws."""
        return shifts.noise_draws(super().nissim())

    def unrelated(self) -> pd.DataFrame:
        """NISSIM of the clean heatmaps of pairs of photos of different people."""
        return select(super().unrelated(), attack="clean").drop(columns=["attack", "epsilon"])

    def unrelated_attacked(self) -> pd.DataFrame:
        """The same of a clean photo and an attacked one of another person, as MOD compares them."""
        table = super().unrelated()
        return table[table["attack"] != "clean"]

    def of_study(self) -> pd.DataFrame:
        """NISSIM at the study's own epsilons, without the controls that only the gain has."""
        return of_study(self.nissim(), self.evaluate.levels)

    @property
    def effort(self) -> float:
        conditions = sum(map(len, self.evaluate.epsilons.values()))
        of_photo = 4e-3 if self._is_usual else 4e-2
        return of_photo * conditions * len(self.photos.test)

    @property
    def _is_usual(self) -> bool:
        """Whether heatmaps are compared, by the study's measure as it is."""
        return self.compared == "heatmaps" and self.ssim == "uniform"

    @property
    def targets(self) -> list[str]:
        """The classes scored: the one that the study explains, and the clean photo's."""
        return list(dict.fromkeys([self.explained_class, "clean"]))

    def begin(self) -> WriteSlice:
        predictions = self.evaluate.predictions()
        places = None if self.faces is None else self.faces.places()

        def write_slice(name: str, rows: pd.DataFrame) -> None:
            of_rows = None if places is None else places.loc[rows["photo"]].to_numpy()
            with self.evaluate.last_maps(name) as maps:
                scored = self._scored(int(name), rows, maps, predictions, of_rows)
            write.table(self.path(name), scored)

        return write_slice

    def _scored(
        self,
        row: int,
        rows: pd.DataFrame,
        maps: Mapping[str, np.ndarray],
        predictions: pd.DataFrame,
        faces: np.ndarray | None,
    ) -> pd.DataFrame:
        layer = self.evaluate.last_layer
        wanted = [TARGETS.index(target) for target in self.targets]

        def maps_under(condition: str) -> np.ndarray:
            names = named_under(condition, rows)
            return _checked(maps[condition][:, wanted], self.network, layer, names)

        clean = maps_under("clean")
        places = range(row, row + len(rows))
        of_clean = self._photos_under(places, "clean", 0.0)
        clean_at = {size: _at(clean, side) for size, side in self._sizes(clean)}
        parts = []
        for attack, epsilons in self.evaluate.epsilons.items():
            for epsilon in epsilons:
                found = select(predictions, attack=attack, epsilon=epsilon)
                found = found.set_index("photo").loc[rows["photo"]]
                perturbed = maps_under(condition_key(attack, epsilon)) if epsilon else clean
                photos = of_clean, self._photos_under(places, attack, epsilon)
                for size, side in self._sizes(clean):
                    values = self._nissim(clean, perturbed, side, photos)
                    shifts = {}  # not where only the gain is measured
                    for_gain = attack in FOR_GAIN_ALONE or draw_of(attack) > 1
                    if epsilon in self.evaluate.levels and not for_gain:
                        shifts = _shifts(clean_at[size], _at(perturbed, side), faces)
                    for i, target in enumerate(self.targets):
                        parts.append(
                            rows[["photo", "identity"]].assign(
                                network=self.network,
                                layer=layer,
                                attack=attack,
                                epsilon=epsilon,
                                target=target,
                                size=size,
                                nissim=values[:, i],
                                **{name: column[:, i] for name, column in shifts.items()},
                                flipped=(found["predicted"] != found["predicted_clean"]).to_numpy(),
                                empty_clean=(clean[:, i] == 0).all(axis=(1, 2)),
                                empty_perturbed=(perturbed[:, i] == 0).all(axis=(1, 2)),
                            )
                        )
        table = pd.concat(parts, ignore_index=True)
        return with_alias(table) if self.evaluate.alias else table

    def _nissim(
        self,
        clean: np.ndarray,
        perturbed: np.ndarray,
        side: int | None,
        photos: tuple[np.ndarray, np.ndarray],
    ) -> np.ndarray:
        """NISSIM of maps (n, targets, h, w), compared at a side; ``photos`` as they are shown."""
        if self._is_usual:
            return self.compare(clean, perturbed, side)
        first, second = (_at(maps, side) for maps in (clean, perturbed))
        if self.compared == "heatmaps":
            return metrics.nissim_variant(first, second, self.ssim)
        strength = 0.5 if self.compared == "overlays" else 1.0
        of_both = zip(photos, (first, second), strict=True)
        first, second = (mixed(pixels[:, None], m, strength, "jet") for pixels, m in of_both)
        return metrics.nissim_variant(first, second, self.ssim, colours=True)

    def _photos_under(self, places: Iterable[int], attack: str, epsilon: float) -> np.ndarray:
        """The test photos at these places, (n, H, W, 3), if overlays are compared; else black."""
        if self.compared != "overlays":
            return np.zeros((1, 1, 1, 1), np.float32)
        images = []
        for place in places:
            rows = self.photos.test.iloc[[place]]
            exact = self.photos.pixels(rows)
            images.append(self.evaluate.images(rows, place, exact, attack, epsilon))
        return np.concatenate(images)

    def _sizes(self, maps: np.ndarray) -> Iterator[tuple[str, int | None]]:
        """The input's size and, if SSIM's window fits into the heatmaps, their own: None."""
        yield "input", self.photos.image_size
        if min(maps.shape[-2:]) >= WINDOWS[self.ssim] and self.compared != "overlays":
            yield "native", None

    def _unrelated(self) -> pd.DataFrame:
        pairs = _pairs(self.photos.test, self.seed)
        clean = self._maps_of_all("clean")
        parts = [self._between(pairs, clean, clean, "clean", 0.0)]
        with_one_other = pairs.drop_duplicates("photo")
        for attack in (BLACK_BOX, WHITE_BOX):
            for epsilon in self.evaluate.epsilons.get(attack, ()):
                if epsilon > 0 and epsilon in self.evaluate.levels:
                    attacked = self._maps_of_all(condition_key(attack, epsilon))
                    parts.append(self._between(with_one_other, clean, attacked, attack, epsilon))
        table = pd.concat(parts, ignore_index=True)
        return with_alias(table) if self.evaluate.alias else table

    def _maps_of_all(self, condition: str) -> np.ndarray:
        """Of all test photos under a condition, for the classes scored."""
        wanted = [TARGETS.index(target) for target in self.targets]
        maps = self.evaluate.all_last_maps(condition)[:, wanted]
        names = named_under(condition, self.photos.test)
        return _checked(maps, self.network, self.evaluate.last_layer, names)

    def _between(
        self,
        pairs: pd.DataFrame,
        first: np.ndarray,
        second: np.ndarray,
        attack: str,
        epsilon: float,
    ) -> pd.DataFrame:
        """NISSIM of each pair's first photo among the first maps, and second among the second.

        The first photo is clean; the second is under an attack, or clean as well.
        """
        parts = []
        for start in range(0, len(pairs), SLICE):
            rows = pairs.iloc[start : start + SLICE]
            clean, others = first[rows["first"]], second[rows["second"]]
            photos = (
                self._photos_under(rows["first"], "clean", 0.0),
                self._photos_under(rows["second"], attack, epsilon),
            )
            for size, side in self._sizes(clean):
                values = self._nissim(clean, others, side, photos)
                for i, target in enumerate(self.targets):
                    parts.append(
                        rows[["photo", "identity", "other", "other_identity"]].assign(
                            network=self.network, target=target, size=size, nissim=values[:, i]
                        )
                    )
        return pd.concat(parts, ignore_index=True).assign(attack=attack, epsilon=epsilon)


@dataclass(frozen=True, eq=False, kw_only=True)
class ScoreTransfer(Score):
    """The same under attacks made on other networks, without the control."""

    kind = "transfer_score"
    names = Names(r"nissim-\d{7}\.csv")

    def files_beside(self) -> list[Path]:
        return []


@dataclass(frozen=True, eq=False, kw_only=True)
class ScoreFurther(ScoreTransfer):
    """The same under one of the study's further attacks."""

    kind = "further_score"

    evaluate: Further

    @property
    def name(self) -> str:
        return f"{super().name}-{self.evaluate.attack}"

    @property
    def title(self) -> str:
        return f"score {self.network} under {TITLES[self.evaluate.attack]}, {self.arm}"


@dataclass(frozen=True, eq=False, kw_only=True)
class ScoreLayers(_Scored):
    """NISSIM of every layer for the example photos, at the input's size.

    ``layers-<row>.csv``, one row per layer, attack and epsilon; and ``unrelated.csv``, one row per
    layer and pair of example photos of different people.
    """

    kind = "layers"
    version = 2
    file = "layers-{}.csv"
    names = Names(r"(layers-\d{7}|unrelated)\.csv")
    length = 1

    explain: Explain

    @property
    def effort(self) -> float:
        return 0.5 * len(self.explain.conditions) * len(self.explain.rows)

    def photos_to_do(self) -> pd.DataFrame:
        return self.explain.photos_to_do()

    def begin(self) -> WriteSlice:
        def write_slice(name: str, rows: pd.DataFrame) -> None:
            write.table(self.path(name), self._scored(int(name), rows))

        return write_slice

    def _scored(self, row: int, rows: pd.DataFrame) -> pd.DataFrame:
        levels = [(attack, epsilon) for attack, epsilon in self.explain.conditions if epsilon]
        keys = [condition_key(*condition) for condition in self.explain.conditions]
        photo = rows.iloc[0]
        parts = []
        with self.explain.heatmaps(row) as maps:
            for depth, layer in enumerate(layers_in(maps)):
                stack = np.stack([maps[f"{key}/{layer}"] for key in keys])
                _checked(stack, self.network, layer, [f"{photo['photo']}, {key}" for key in keys])
                clean, attacked = np.broadcast_to(stack[0], stack[1:].shape), stack[1:]
                values = self.compare(clean, attacked, self.photos.image_size)
                parts.append(
                    pd.DataFrame(levels, columns=["attack", "epsilon"]).assign(
                        photo=photo["photo"],
                        identity=photo["identity"],
                        network=self.network,
                        depth=depth,
                        layer=layer,
                        nissim=values,
                    )
                )
        return pd.concat(parts, ignore_index=True)

    def _unrelated(self) -> pd.DataFrame:
        examples = self.photos_to_do().reset_index(drop=True)
        pairs = _pairs(examples, self.seed)
        columns = ["network", "depth", "layer", "photo", "other", "nissim"]
        parts = [] if len(pairs) else [pd.DataFrame(columns=columns)]
        with contextlib.ExitStack() as opened:
            files = [
                opened.enter_context(self.explain.heatmaps(int(row))) for row in self.explain.rows
            ]
            for depth, layer in enumerate(layers_in(files[0]) if len(pairs) else []):
                stack = np.stack([maps[f"clean/{layer}"] for maps in files])
                _checked(stack, self.network, layer, named_under("clean", examples))
                clean, others = stack[pairs["first"]], stack[pairs["second"]]
                values = self.compare(clean, others, self.photos.image_size)
                parts.append(
                    pairs.assign(network=self.network, depth=depth, layer=layer, nissim=values)
                )
        return pd.concat(parts, ignore_index=True)[columns]


@dataclass(frozen=True, eq=False, kw_only=True)
class SummarizeScores(SummaryTask):
    """MOD, VID and region shift with their controls, over all networks of an arm.

    Attributes:
        vid_epsilons: the epsilons that VID goes over.
        seed: of the bootstrap of the gain.
    """

    kind = stage = "score"
    version = 4
    names = Names(r"(excess|gain(_curves|_order)?|half_shift|mod|noise_draws|shift|vid)\.csv")

    # Each network's own scores, and those under transferred and further attacks, if any.
    networks: Mapping[str, tuple[Score, ...]]
    vid_epsilons: tuple[float, ...]
    seed: int

    def summarize(self) -> dict[str, pd.DataFrame]:
        kinds = ("excess", "gain_curves", "half_shift", "mod", "noise_draws", "shift", "vid")
        parts: dict[str, list[pd.DataFrame]] = {kind: [] for kind in kinds}
        own = [score for score, *_ in self.networks.values()]
        for score, *others in self.networks.values():  # one at a time, which bounds the memory
            every, unrelated = score.nissim(), score.unrelated()
            parts["gain_curves"].append(shifts.gain_curves(every))
            parts["noise_draws"].append(score.noise_draws())
            parts["half_shift"].append(gain.half_shift(every, unrelated, self.seed))
            nissim = of_study(every, score.evaluate.levels)
            nissim = pd.concat([nissim, *(task.nissim() for task in others)], ignore_index=True)
            parts["excess"].append(shifts.excess(nissim, unrelated))
            parts["mod"].append(shifts.mod(nissim, unrelated, score.unrelated_attacked()))
            parts["shift"].append(shifts.shift(nissim))
            parts["vid"].append(shifts.vid(nissim, self.vid_epsilons))
        keys = ["target", "size", "photo", "identity"]
        of_pairs = [*keys, "other", "other_identity"]
        nissim = shifts.over_networks((s.of_study() for s in own), ["attack", "epsilon", *keys])
        unrelated = shifts.over_networks((s.unrelated() for s in own), of_pairs)
        parts["excess"].append(shifts.excess(nissim, unrelated))
        by_name = {name: pd.concat(found, ignore_index=True) for name, found in parts.items()}
        gains, order = gain.by_network(map(with_further, self.networks.values()), self.seed)
        return {"gain": gains, "gain_order": order} | by_name


def with_further(scores: tuple[Score, ...]) -> pd.DataFrame:
    """NISSIM of a network under its own attacks and controls, and under the further ones."""
    own, *others = scores
    further = [score.nissim() for score in others if isinstance(score, ScoreFurther)]
    return pd.concat([own.nissim(), *further], ignore_index=True)


@dataclass(frozen=True, eq=False, kw_only=True)
class SummarizeLayers(SummaryTask):
    """MOD of each layer over the example photos, and the NISSIM that it is the mean of."""

    kind = "layers"
    stage = "score"
    names = Names(r"(layers|depth)\.csv")

    networks: Mapping[str, ScoreLayers]

    def summarize(self) -> dict[str, pd.DataFrame]:
        found, depths = [], []
        for scored in self.networks.values():
            nissim = scored.nissim()
            found.append(with_alias(nissim) if scored.explain.evaluate.alias else nissim)
            depths.append(shifts.depth(found[-1], scored.unrelated()))
        return {
            "layers": pd.concat(found, ignore_index=True),
            "depth": pd.concat(depths, ignore_index=True),
        }


def _at(maps: np.ndarray, side: int | None) -> np.ndarray:
    """Heatmaps at another side; None stands for their own."""
    return maps if side is None else resize(maps, side)


def _shifts(
    clean: np.ndarray, compared: np.ndarray, faces: np.ndarray | None
) -> dict[str, np.ndarray]:
    """By column, how heatmaps differ from the clean ones, and where on the face they are."""
    found = asdict(metrics.region_shift(clean, compared))
    found["correlation"] = metrics.correlation(clean, compared)
    if faces is not None:
        found["background"], found["forehead"] = metrics.face_heat(compared, faces)
    return found


def _pairs(photos: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Unrelated photos: each photo with up to five of other people.

    Returns:
        Columns photo, identity, other (name of the second photo), other_identity, first, second
        (their positions).
    """
    unrelated = metrics.UnrelatedPairs(photos["identity"], seed)
    drawn = [unrelated.draw(identity) for identity in photos["identity"]]
    first = np.repeat(np.arange(len(drawn)), [len(others) for others in drawn])
    second = np.concatenate(drawn)
    pairs = photos[["photo", "identity"]].iloc[first].reset_index(drop=True)
    others = photos[["photo", "identity"]].iloc[second].reset_index(drop=True)
    return pairs.assign(
        other=others["photo"], other_identity=others["identity"], first=first, second=second
    )


def _checked(maps: np.ndarray, network: str, layer: str, names: list[str]) -> np.ndarray:
    """Heatmaps from a file; ValueError naming which of ``names`` has one that is not finite."""
    with validation.naming(names, network):
        return validation.check_finite(maps, f"maps of layer {layer!r}")
