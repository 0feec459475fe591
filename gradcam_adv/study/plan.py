"""The plan of a study: all its tasks, from the photos to the tables, in the order of the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from gradcam_adv.batching import BATCH_SIZE
from gradcam_adv.data.photos import Resizing
from gradcam_adv.data.sources import Listing
from gradcam_adv.files.text import shown
from gradcam_adv.metrics.ssim_variants import WINDOWS
from gradcam_adv.models.backbones import backbone_of
from gradcam_adv.models.weights import Weights
from gradcam_adv.runs.tasks import Task
from gradcam_adv.study.attack_plan import AttackPlan
from gradcam_adv.study.attacks import (
    attacks_on,
    conditions_of,
    further_on,
    makers_of,
    transfers_to,
    unit_of,
)
from gradcam_adv.study.columns import read_tables
from gradcam_adv.study.photos import Photos
from gradcam_adv.study.settings import Arm, Study
from gradcam_adv.study.stages.attack import Attack
from gradcam_adv.study.stages.bracket import Bracket
from gradcam_adv.study.stages.data import DETECTOR, ChoosePhotos, CropFaces, FindFaces
from gradcam_adv.study.stages.evaluate import Evaluate, Further, SummarizeEvaluation, Transfer
from gradcam_adv.study.stages.explain import Explain
from gradcam_adv.study.stages.features import Features
from gradcam_adv.study.stages.insertion import Insertion, SummarizeInsertion
from gradcam_adv.study.stages.network_task import SummaryTask
from gradcam_adv.study.stages.score import (
    Score,
    ScoreFurther,
    ScoreLayers,
    ScoreTransfer,
    SummarizeLayers,
    SummarizeScores,
)
from gradcam_adv.study.stages.train import Train, TrainNetwork
from gradcam_adv.study.tables import select

# In the order in which they run; the last one is the report's.
STAGES = ("data", "train", "attack", "evaluate", "explain", "score", "report")


@dataclass(frozen=True)
class ArmPlan:
    """The tasks of one arm, by what they make and by network.

    ``attack`` is the study's own, in the unit of the network on which it is made; only networks
    whose attack somebody gets have one. ``other_attacks`` are made for networks of another unit, or
    are further attacks; their ``further`` evaluations and ``further_score`` are by network, too.
    Only a study with transfers has ``transfer`` and ``transfer_score``; only one with several
    attacks has ``bracket``. A plan without layers has no ``explain``, ``layers`` and
    ``depth``, nor ``insertion`` and ``still_explains``, which only a study with
    ``insertion_epsilons`` has.
    """

    arm: Arm
    study: Study
    listing: Listing
    weights: Mapping[str, Weights]
    photos: Photos
    features: Mapping[str, Features]
    train: Mapping[str, Train]
    attack: Mapping[str, Attack]
    other_attacks: Mapping[str, tuple[Attack, ...]]
    evaluate: Mapping[str, Evaluate]
    explain: Mapping[str, Explain]
    score: Mapping[str, Score]
    layers: Mapping[str, ScoreLayers]
    insertion: Mapping[str, Insertion]
    transfer: Mapping[str, Transfer]
    transfer_score: Mapping[str, ScoreTransfer]
    further: Mapping[str, tuple[Further, ...]]
    further_score: Mapping[str, tuple[ScoreFurther, ...]]
    accuracy: SummarizeEvaluation
    mod: SummarizeScores
    depth: SummarizeLayers | None
    still_explains: SummarizeInsertion | None
    bracket: Bracket | None

    @property
    def parts(self) -> list[list[Task]]:
        """All of them, each after those that it needs: a part per network, and what is over all.

        The source of the black-box attack comes first, since every network gets its attack.
        """
        source, networks = self.study.source, self.study.networks
        by_network = [self.of(network) for network in sorted(networks, key=lambda n: n != source)]
        over_all = [*self.transfer.values(), *self.transfer_score.values(), *self.summaries]
        # Networks of one backbone share its features.
        done: set[Path] = set()
        parts = []
        for part in (*by_network, over_all):
            parts.append([task for task in part if task.folder not in done])
            done.update(task.folder for task in part)
        return parts

    def of(self, network: str) -> list[Task]:
        """The tasks of one network that need no other network but the source."""
        kinds: tuple[Mapping[str, Task], ...] = (
            self.features,
            self.train,
            self.attack,
            self.evaluate,
            self.score,
            self.explain,
            self.layers,
            self.insertion,
        )
        own = [tasks[network] for tasks in kinds if network in tasks]
        several = (self.other_attacks, self.further, self.further_score)
        return [*own, *(task for tasks in several for task in tasks.get(network, ()))]

    @property
    def summaries(self) -> list[SummaryTask]:
        """The tasks whose tables the report is made of."""
        every = (self.accuracy, self.mod, self.depth, self.still_explains, self.bracket)
        return [task for task in every if task]

    def of_study(self, network: str) -> pd.DataFrame:
        """NISSIM at the study's own epsilons, under transferred and further attacks too."""
        own, *others = self.mod.networks[network]
        return pd.concat([own.of_study(), *(t.nissim() for t in others)], ignore_index=True)

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
        window = WINDOWS[self.study.readings.ssim]
        return all(min(last.shape) >= window for last in maps)


@dataclass(frozen=True)
class Plan:
    """All tasks of a study; those of ``faces`` are for the aligned arm.

    A reading with other clean photos also has other crops.
    """

    study: Study
    data: ChoosePhotos
    faces: tuple[FindFaces | CropFaces, ...]
    arms: Mapping[Arm, ArmPlan]

    @property
    def parts(self) -> list[list[Task]]:
        """All of them, each after those that it needs, in parts with a result of their own.

        First the photos, then those of each arm.
        """
        of_arms = [part for arm in self.arms.values() for part in arm.parts]
        return [[self.data, *self.faces], *of_arms]

    @property
    def tasks(self) -> list[Task]:
        """The same one after the other."""
        return [task for part in self.parts for task in part]


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
        folds=study.folds,
        seed=study.seed,
        allow_left_out=allow_left_out,
    )
    # By arm, the photos as they are resized: those of the study, and other clean ones, if any.
    resized: list[Resizing] = ["bilinear"]
    if study.readings.clean_resizing == "nearest":
        resized.append("nearest")
    photos: dict[Arm, list[Photos]] = {
        "plain": [
            Photos(arm="plain", data=data, root=root, image_size=size, resizing=resizing)
            for resizing in resized
        ]
    }
    faces: tuple[FindFaces | CropFaces, ...] = ()
    of_arm: dict[Arm, FindFaces | CropFaces] = {}
    if "aligned" in study.arms:
        found = FindFaces(run=run, data=data, photos=photos["plain"][0], detector=DETECTOR)
        crops = [
            CropFaces(
                run=run,
                data=data,
                faces=found,
                image_size=size,
                margin=study.margin,
                resizing=resizing,
                root=root,
                allow_left_out=allow_left_out,
            )
            for resizing in resized
        ]
        faces, of_arm = (found, *crops), {"plain": found, "aligned": crops[0]}
        photos["aligned"] = [
            Photos(arm="aligned", data=task, root=root, image_size=size, resizing=task.resizing)
            for task in crops
        ]
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
    resized: Sequence[Photos],
    faces: FindFaces | CropFaces | None,
    run: Path,
    models: Path,
    with_layers: bool,
) -> ArmPlan:
    photos, *others = resized
    readings, seed, arm = study.readings, study.seed, photos.arm
    of: dict[str, dict[str, Any]] = {
        network: {"run": run, "arm": arm, "network": network, "photos": photos}
        for network in study.networks
    }
    features: dict[str, Features] = {}
    train: dict[str, Train] = {}
    for network in study.networks:
        features[network] = Features(
            **of[network] | {"network": backbone_of(network)},
            weights=weights[network],
            preprocessing=readings.preprocessing,
            pooling=readings.pooling,
            batch_size=study.batch_size or BATCH_SIZE,
            seed=study.seeds[0] if study.trainable == "all" else seed,
        )
        training = of[network] | {
            "features": features[network],
            "epochs": study.epochs,
            "seed": study.seeds[0],
            "learning_rate": study.learning_rate,
            "models": models,
            "study": study.name,
        }
        against = study.against(network)
        if study.trainable == "head" and against is None:
            train[network] = Train(**training)
        else:
            train[network] = TrainNetwork(
                **training,
                trainable=study.trainable,
                against=against,
            )
    attacks = AttackPlan(
        study,
        {
            network: of[network]
            | {
                "train": train[network],
                "attacked_label": readings.attacked_label,
                "precision": study.precision,
            }
            for network in study.networks
        },
    )
    evaluate, transfer, score, transfer_score = {}, {}, {}, {}
    further: dict[str, tuple[Further, ...]] = {}
    further_score: dict[str, tuple[ScoreFurther, ...]] = {}
    explain, layers, insertion = {}, {}, {}
    for network in study.networks:
        evaluating = of[network] | {
            "train": train[network],
            "epsilon_unit": readings.epsilon_unit,
            "perturbed_set": readings.perturbed_set,
            "stored_perturbation": readings.stored_perturbation,
            "clean": others[0] if others else None,
            "explained_score": readings.explained_score,
            "seed": seed,
            "precision": study.precision,
        }
        scoring = of[network] | {
            "faces": faces,
            "explained_class": readings.explained_class,
            "measure": study.measure,
            "compared": readings.compared,
            "ssim": readings.ssim,
            "seed": seed,
        }
        unit = unit_of(study, network)
        made = {
            name: attacks.on(maker, study.own_attack, unit)
            for name, maker in makers_of(study, network).items()
        }
        epsilons = attacks_on(study, network)
        evaluate[network] = Evaluate(
            **evaluating,
            attacks={name: made[name] for name in epsilons if name in made},
            epsilons=epsilons,
            alias=network == study.source and "white-box" in study.threat_models,
        )
        score[network] = Score(**scoring, evaluate=evaluate[network])
        if epsilons := transfers_to(study, network):
            transferred = {name: made[name] for name in epsilons}
            transfer[network] = Transfer(
                **evaluating, attacks=transferred, epsilons=epsilons, alias=False
            )
            transfer_score[network] = ScoreTransfer(**scoring, evaluate=transfer[network])
        further[network] = tuple(
            Further(
                **evaluating,
                attack=name,
                attacks={
                    condition: attacks.on(network if own else study.source, name, unit)
                    for own, condition in enumerate(further_on(study, network, name))
                },
                epsilons=further_on(study, network, name),
                alias=network == study.source,
            )
            for name in study.further_attacks
        )
        further_score[network] = tuple(
            ScoreFurther(**scoring, evaluate=evaluated) for evaluated in further[network]
        )
        if with_layers:
            explain[network] = Explain(
                **of[network],
                evaluate=evaluate[network],
                explained_class=readings.explained_class,
                layers=study.layers_of(network),
                examples=study.examples,
            )
            layers[network] = ScoreLayers(
                **of[network], explain=explain[network], measure=study.measure, seed=seed
            )
            if study.insertion_epsilons:
                insertion[network] = Insertion(
                    **of[network],
                    evaluate=evaluate[network],
                    targets=tuple(score[network].targets),
                    epsilons=study.insertion_epsilons,
                    seed=seed,
                )
    scores = _each(score, transfer_score, further_score)
    return ArmPlan(
        arm=arm,
        study=study,
        listing=listing,
        weights=weights,
        photos=photos,
        features=features,
        train=train,
        attack=attacks.own(),
        other_attacks=attacks.others(),
        evaluate=evaluate,
        score=score,
        explain=explain,
        layers=layers,
        insertion=insertion,
        transfer=transfer,
        transfer_score=transfer_score,
        further=further,
        further_score=further_score,
        accuracy=SummarizeEvaluation(run=run, arm=arm, networks=_each(evaluate, transfer, further)),
        mod=SummarizeScores(
            run=run,
            arm=arm,
            networks=scores,
            vid_epsilons=study.vid_epsilons,
            seed=seed,
        ),
        depth=SummarizeLayers(run=run, arm=arm, networks=layers) if layers else None,
        still_explains=(
            SummarizeInsertion(run=run, arm=arm, networks=insertion) if insertion else None
        ),
        bracket=(
            Bracket(run=run, arm=arm, networks=scores, conditions=conditions_of(study))
            if study.further_attacks
            else None
        ),
    )


def _each(
    own: Mapping[str, Any],
    transferred: Mapping[str, Any],
    further: Mapping[str, tuple[Any, ...]],
) -> dict[str, tuple[Any, ...]]:
    """By network its own task, that under transferred attacks, if any, and those under further."""
    return {
        network: (
            task,
            *([transferred[network]] if network in transferred else ()),
            *further[network],
        )
        for network, task in own.items()
    }
