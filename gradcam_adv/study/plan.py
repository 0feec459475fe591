"""The plan of a study: all its tasks, from the photos to the tables, in the order of the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from gradcam_adv.batching import BATCH_SIZE
from gradcam_adv.data.sources import Listing
from gradcam_adv.files.text import shown
from gradcam_adv.metrics.nissim import WINDOW
from gradcam_adv.models.weights import Weights
from gradcam_adv.runs.tasks import Task
from gradcam_adv.study.attacks import attacks_on, makers_of
from gradcam_adv.study.columns import read_tables
from gradcam_adv.study.config import Arm, Study
from gradcam_adv.study.photos import Photos
from gradcam_adv.study.stages.attack import Attack
from gradcam_adv.study.stages.data import DETECTOR, ChoosePhotos, CropFaces, FindFaces
from gradcam_adv.study.stages.evaluate import Evaluate, SummarizeEvaluation
from gradcam_adv.study.stages.explain import Explain
from gradcam_adv.study.stages.features import Features
from gradcam_adv.study.stages.insertion import Insertion, SummarizeInsertion
from gradcam_adv.study.stages.score import Score, ScoreLayers, SummarizeLayers, SummarizeScores
from gradcam_adv.study.stages.train import Train
from gradcam_adv.study.tables import select

# In the order in which they run; the last one is the report's.
STAGES = ("data", "train", "attack", "evaluate", "explain", "score", "report")


@dataclass(frozen=True)
class ArmPlan:
    """The tasks of one arm, by what they make and by network.

    Only networks whose attack somebody gets have an ``attack``. A plan without layers has no
    ``explain``, ``layers`` and ``depth``, nor ``insertion`` and ``still_explains``, which only a
    study with ``insertion_epsilons`` has.
    """

    arm: Arm
    study: Study
    listing: Listing
    weights: Mapping[str, Weights]
    photos: Photos
    features: Mapping[str, Features]
    train: Mapping[str, Train]
    attack: Mapping[str, Attack]
    evaluate: Mapping[str, Evaluate]
    accuracy: SummarizeEvaluation
    explain: Mapping[str, Explain]
    score: Mapping[str, Score]
    mod: SummarizeScores
    layers: Mapping[str, ScoreLayers]
    depth: SummarizeLayers | None
    insertion: Mapping[str, Insertion]
    still_explains: SummarizeInsertion | None

    @property
    def tasks(self) -> list[Task]:
        """All of them, each after those that it needs."""
        return [
            *self.features.values(),
            *self.train.values(),
            *self.attack.values(),
            *self.evaluate.values(),
            self.accuracy,
            *self.explain.values(),
            *self.score.values(),
            self.mod,
            *self.layers.values(),
            *([self.depth] if self.depth else []),
            *self.insertion.values(),
            *([self.still_explains] if self.still_explains else []),
        ]

    @property
    def summaries(self) -> list[Task]:
        """The tasks whose tables the report is made of."""
        return [task for task in (self.accuracy, self.mod, self.depth, self.still_explains) if task]

    def tables(self) -> dict[str, pd.DataFrame]:
        """All tables over the networks, by name."""
        return {name: t for task in self.summaries for name, t in read_tables(task.folder).items()}

    @property
    def people(self) -> list[str]:
        """Names of the identities as they are shown, by label."""
        name_of = self.listing.identities.set_index("identity")["name"]
        return list(map(shown, name_of.loc[self.photos.identities]))

    def headline(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows of a table as the study reads the paper: which class, at which size."""
        readings = self.study.readings
        return select(table, target=readings.explained_class, size=readings.heatmap_size)

    def native_fits(self) -> bool:
        """Whether SSIM's window fits into the last heatmaps of every network, once evaluated."""
        maps = [task.last_map(0, "clean", 0.0, "clean") for task in self.evaluate.values()]
        return all(min(last.shape) >= WINDOW for last in maps)


@dataclass(frozen=True)
class Plan:
    """All tasks of a study; those of ``faces`` are for the aligned arm."""

    study: Study
    data: ChoosePhotos
    faces: tuple[FindFaces, CropFaces] | None
    arms: Mapping[Arm, ArmPlan]

    @property
    def tasks(self) -> list[Task]:
        """All of them, each after those that it needs."""
        of_arms = [task for arm in self.arms.values() for task in arm.tasks]
        return [self.data, *(self.faces or ()), *of_arms]


def make_plan(
    study: Study,
    listing: Listing,
    weights: Mapping[str, Weights],
    *,
    run: Path,
    models: Path,
    allow_left_out: bool = False,
    layers: bool = True,
) -> Plan:
    """Plan a study; nothing is done yet.

    Args:
        study: with a batch size.
        listing: the files of its data set.
        weights: by network, where the weights of its base come from.
        run: folder of the run.
        models: folder of its models.
        allow_left_out: go on however many photos can't be used.
        layers: also explain and score the example photos, layer by layer, and put in and take out
            pixels.
    """
    root, size = listing.root, study.image_size
    data = ChoosePhotos(
        run=run,
        listing=listing,
        classes=study.classes,
        min_photos=study.min_photos,
        max_photos=study.max_photos,
        split=study.split,
        seed=study.seed,
        allow_left_out=allow_left_out,
    )
    photos: dict[Arm, Photos] = {
        "plain": Photos(arm="plain", data=data, root=root, image_size=size)
    }
    faces = None
    of_arm: dict[Arm, FindFaces | CropFaces] = {}
    if "aligned" in study.arms:
        found = FindFaces(run=run, data=data, photos=photos["plain"], detector=DETECTOR)
        crops = CropFaces(
            run=run,
            data=data,
            faces=found,
            image_size=size,
            margin=study.margin,
            root=root,
            allow_left_out=allow_left_out,
        )
        faces, of_arm = (found, crops), {"plain": found, "aligned": crops}
        photos["aligned"] = Photos(arm="aligned", data=crops, root=root, image_size=size)
    arms = {
        arm: _plan_arm(
            study, listing, weights, photos[arm], of_arm.get(arm), run, models / arm, layers
        )
        for arm in study.arms
    }
    return Plan(study, data, faces, arms)


def _plan_arm(
    study: Study,
    listing: Listing,
    weights: Mapping[str, Weights],
    photos: Photos,
    faces: FindFaces | CropFaces | None,
    run: Path,
    models: Path,
    with_layers: bool,
) -> ArmPlan:
    readings, seed, arm = study.readings, study.seed, photos.arm
    of: dict[str, dict[str, Any]] = {
        network: {"run": run, "arm": arm, "network": network, "photos": photos}
        for network in study.networks
    }
    makers = {network: makers_of(study, network) for network in study.networks}
    features, train, attack = {}, {}, {}
    for network in study.networks:
        features[network] = Features(
            **of[network],
            weights=weights[network],
            preprocessing=readings.preprocessing,
            pooling=readings.pooling,
            batch_size=study.batch_size or BATCH_SIZE,
            seed=seed,
        )
        train[network] = Train(
            **of[network],
            features=features[network],
            epochs=study.epochs,
            seed=study.seeds[0],
            models=models,
            study=study.name,
        )
        if any(network in of_network.values() for of_network in makers.values()):
            attack[network] = Attack(
                **of[network],
                train=train[network],
                attacked_label=readings.attacked_label,
                precision=study.precision,
            )
    evaluate, score, explain, layers, insertion = {}, {}, {}, {}, {}
    for network in study.networks:
        evaluate[network] = Evaluate(
            **of[network],
            train=train[network],
            attacks={name: attack[maker] for name, maker in makers[network].items()},
            epsilons=attacks_on(study, network),
            alias=network == study.source and "white-box" in study.attacks,
            epsilon_unit=readings.epsilon_unit,
            perturbed_set=readings.perturbed_set,
            seed=seed,
            precision=study.precision,
        )
        score[network] = Score(
            **of[network],
            evaluate=evaluate[network],
            faces=faces,
            explained_class=readings.explained_class,
            seed=seed,
        )
        if with_layers:
            explain[network] = Explain(
                **of[network],
                evaluate=evaluate[network],
                explained_class=readings.explained_class,
                layers=study.layers_of(network),
                examples=study.examples,
            )
            layers[network] = ScoreLayers(**of[network], explain=explain[network], seed=seed)
            if study.insertion_epsilons:
                insertion[network] = Insertion(
                    **of[network],
                    evaluate=evaluate[network],
                    targets=tuple(score[network].targets),
                    epsilons=study.insertion_epsilons,
                    seed=seed,
                )
    return ArmPlan(
        arm=arm,
        study=study,
        listing=listing,
        weights=weights,
        photos=photos,
        features=features,
        train=train,
        attack=attack,
        evaluate=evaluate,
        accuracy=SummarizeEvaluation(run=run, arm=arm, networks=evaluate),
        explain=explain,
        score=score,
        mod=SummarizeScores(
            run=run, arm=arm, networks=score, vid_epsilons=study.vid_epsilons, seed=seed
        ),
        layers=layers,
        depth=SummarizeLayers(run=run, arm=arm, networks=layers) if layers else None,
        insertion=insertion,
        still_explains=(
            SummarizeInsertion(run=run, arm=arm, networks=insertion) if insertion else None
        ),
    )
