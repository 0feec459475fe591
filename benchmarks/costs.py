"""What a study costs in time, disk and files: the study's counts times measured rates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

from benchmarks import flops, rates
from gradcam_adv.metrics.nissim import WINDOW
from gradcam_adv.metrics.unrelated import UNRELATED_IMAGES
from gradcam_adv.runs.engines import SLICE
from gradcam_adv.study.attacks import BLACK_BOX, NOISE, WHITE_BOX, attacks_on, transfers_to
from gradcam_adv.study.settings import Study
from gradcam_adv.study.stages.evaluate import TARGETS

FLOAT = 4  # bytes
# Bytes of the header of a .npy file. An .npz has about as much for each of its arrays.
_NPY_HEADER = 128

Measured = Mapping[str, Any]


@dataclass(frozen=True)
class Size:
    """How many people and photos a study has; each person has about the same number of photos."""

    people: int
    photos: int

    def split(self, study: Study) -> tuple[int, int]:
        """Photos for training and for testing; each person has at least one of each."""
        each = self.photos / self.people
        validation, test = (max(1, round(each * share)) for share in study.split[1:])
        return self.photos - self.people * (validation + test), self.people * test


@dataclass(frozen=True)
class Time:
    """Seconds of a stage on the machine that was measured.

    Attributes:
        network: passes through networks, on the device of Keras' backend.
        processor: reading, attacking and scoring in NumPy and Pillow.
        serial: work that only one process can do.
        flops: of the passes through networks, as a number of operations.
    """

    network: float = 0.0
    processor: float = 0.0
    serial: float = 0.0
    flops: float = 0.0

    @property
    def total(self) -> float:
        return self.network + self.processor + self.serial

    def __add__(self, other: Time) -> Time:
        return Time(*map(sum, zip(astuple(self), astuple(other), strict=True)))


def times(measured: Measured, study: Study, size: Size) -> dict[str, Time]:
    """By stage; without summaries, the report and writing files."""
    train, tests = size.split(study)
    processor = measured["processor"]
    read = tests / processor["read"]
    found = {"data": Time(processor=size.photos / processor["data"])}

    def add(stage: str, time: Time) -> None:
        found[stage] = found.get(stage, Time()) + time

    for network in study.networks:

        def passes(kind: str, photos: float, network: str = network) -> Time:
            rate = measured["networks"][network]
            return Time(network=photos / rate[kind], flops=photos * flops_of(rate, kind))

        examples = min(study.examples, tests)
        explained = examples * explained_conditions(study, network)
        layers = measured["networks"][network]["layers"]
        attacked = attacked_levels(study, network)
        targets = scored_targets(study)
        pairs = tests * targets * scored_levels(study, network)
        pairs += (explained - examples) * layers
        unrelated = tests * targets * UNRELATED_IMAGES
        add("features", passes("forward", size.photos))
        add("features", Time(processor=size.photos / processor["read"]))
        epoch = train * seconds_to_train(measured, size.people)
        add("train", Time(serial=study.epochs * epoch))
        add("attack", passes("attack", tests) + Time(processor=read))
        add("evaluate", passes("last", tests * (1 + attacked)) + Time(processor=read))
        add("evaluate", Time(processor=tests * attacked / processor["perturb"]))
        add("explain", passes("all", explained))
        add("score", Time(processor=pairs / processor["score"]))
        add("score", Time(processor=unrelated / processor["nissim"]))
    return found


def flops_of(rate: Measured, kind: str) -> float:
    """Floating-point operations of a kind of pass through a network, for one photo."""
    return flops.FLOPS * rate["multiply_adds"] * rates.PASSES[kind]


def attacked_levels(study: Study, network: str) -> int:
    """How many perturbed versions of each test photo the network gets."""
    return sum(epsilon > 0 for epsilon in _every_level(study, network))


def explained_conditions(study: Study, network: str) -> int:
    """How many versions of an example photo get heatmaps of all layers: clean, and attacked."""
    levels = attacks_on(study, network)
    several = (levels.get(attack, ()) for attack in (BLACK_BOX, WHITE_BOX, NOISE))
    return 1 + sum(len({*study.attacked_epsilons} & {*epsilons}) for epsilons in several)


def scored_targets(study: Study) -> int:
    """For how many classes heatmaps are scored: the explained one, and that of the clean photo."""
    return len({study.readings.explained_class, "clean"})


def scored_levels(study: Study, network: str) -> int:
    """How many pairs of heatmaps are compared per test photo and class, with epsilon 0."""
    return len(_every_level(study, network))


def _every_level(study: Study, network: str) -> list[float]:
    """The epsilons of all attacks on a network, transferred ones too."""
    by_attack = attacks_on(study, network) | transfers_to(study, network)
    return [epsilon for epsilons in by_attack.values() for epsilon in epsilons]


def seconds_to_train(measured: Measured, classes: int) -> float:
    """Seconds per photo and epoch, on a straight line through the two measured points."""
    low, high = rates.CLASSES
    at_low, at_high = (measured["training"]["train"][str(number)] for number in (low, high))
    return at_low + (at_high - at_low) * (classes - low) / (high - low)


def disk(measured: Measured, study: Study, size: Size) -> dict[str, float]:
    """By stage, how many bytes the tasks of one arm write, from shapes and dtypes."""
    _, tests = size.split(study)
    slices = tests / SLICE
    side = study.image_size
    found = dict.fromkeys(("features", "attack", "evaluate", "explain", "score"), 0.0)
    for network in study.networks:
        of = measured["networks"][network]
        conditions = 1 + attacked_levels(study, network)
        headers = _NPY_HEADER / SLICE
        found["features"] += size.photos * (FLOAT * of["features"] + headers)
        found["attack"] += tests * (side * side * 3 + headers)
        heatmaps = len(TARGETS) * of["last_side"] ** 2 * FLOAT
        found["evaluate"] += conditions * (tests * heatmaps + slices * _NPY_HEADER)
        rows = measured["rows"]
        answers = rows_per_photo(study, network)
        found["evaluate"] += tests * answers * rows["evaluate"]["disk"]
        maps = explained_conditions(study, network)
        arrays = maps * (of["positions"] * FLOAT + of["layers"] * _NPY_HEADER)
        found["explain"] += min(study.examples, tests) * arrays
        found["score"] += tests * scored_rows(measured, study, network) * rows["score"]["disk"]
    return found


def rows_per_photo(study: Study, network: str) -> int:
    """Rows of predictions per photo. The attack of the source on itself has two names."""
    again = network == study.source and "white-box" in study.threat_models
    return scored_levels(study, network) + again * len(study.epsilons)


def scored_rows(measured: Measured, study: Study, network: str) -> int:
    """Rows of scores per photo: for each prediction, class and size of heatmap."""
    sizes = 1 + (measured["networks"][network]["last_side"] >= WINDOW)
    return rows_per_photo(study, network) * scored_targets(study) * sizes


def files(study: Study, size: Size) -> int:
    """How many files the slices of one arm have."""
    _, tests = size.split(study)
    # Of a test slice: signs; last heatmaps and answers; scores.
    of_slices = _slices(size.photos) + 4 * _slices(tests)
    return len(study.networks) * (of_slices + 2 * min(study.examples, tests))


def _slices(photos: int) -> int:
    return -(-photos // SLICE)
