"""What a study costs in time, disk and files: counts out of the study, times measured rates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks import flops, rates
from gradcam_adv.metrics.nissim import WINDOW
from gradcam_adv.study import setting
from gradcam_adv.study.config import Study
from gradcam_adv.study.stages.score import CEILING_PAIRS

FLOAT = 4  # bytes
# Of a .npy file; in an .npz each array has one, and its name twice beside.
_NPY_HEADER = 128

Measured = Mapping[str, Any]


@dataclass(frozen=True)
class Size:
    """How many people and photos a study has; each person has about as many photos as any."""

    people: int
    photos: int

    def split(self, study: Study) -> tuple[int, int]:
        """Photos to train and to test: a person's share is rounded, and at least one."""
        each = self.photos / self.people
        validation, test = (max(1, round(each * share)) for share in study.split[1:])
        return self.photos - self.people * (validation + test), self.people * test


@dataclass(frozen=True)
class Time:
    """Seconds of a stage on the machine that was measured.

    Attributes:
        network: passes through networks, on the device of Keras' backend.
        processor: reading, attacking and scoring in NumPy and Pillow.
        serial: what one process does and no second one can share.
        flops: of the passes through networks, in operations and not in seconds.
    """

    network: float = 0.0
    processor: float = 0.0
    serial: float = 0.0
    flops: float = 0.0

    @property
    def total(self) -> float:
        return self.network + self.processor + self.serial

    def __add__(self, other: Time) -> Time:
        return Time(
            self.network + other.network,
            self.processor + other.processor,
            self.serial + other.serial,
            self.flops + other.flops,
        )


def times(measured: Measured, study: Study, size: Size) -> dict[str, Time]:
    """By stage, without summaries, the report and the writing of files."""
    train, tests = size.split(study)
    processor = measured["processor"]
    read = tests / processor["read"]
    found = {"data": Time(processor=size.photos / processor["data"])}

    def add(stage: str, time: Time) -> None:
        found[stage] = found.get(stage, Time()) + time

    for network in study.networks:

        def passes(kind: str, photos: float, network: str = network) -> Time:
            rate = measured["networks"][network]
            of_one = flops.FLOPS * rate["multiply_adds"] * rates.PASSES[kind]
            return Time(network=photos / rate[kind], flops=photos * of_one)

        examples = min(study.examples, tests)
        explained = examples * len(setting.conditions(study, network))
        layers = measured["networks"][network]["layers"]
        attacked = attacked_levels(study, network)
        targets = len(setting.targets(study))
        pairs = tests * targets * scored_levels(study, network)
        pairs += (explained - examples) * layers
        strangers = tests * targets * CEILING_PAIRS
        add("features", passes("forward", size.photos))
        add("features", Time(processor=size.photos / processor["read"]))
        epoch = train * seconds_to_train(measured, size.people)
        add("train", Time(serial=study.epochs * epoch))
        add("attack", passes("attack", tests) + Time(processor=read))
        add("evaluate", passes("last", tests * (1 + attacked)) + Time(processor=read))
        add("evaluate", Time(processor=tests * attacked / processor["perturb"]))
        add("explain", passes("all", explained))
        add("score", Time(processor=pairs / processor["score"]))
        add("score", Time(processor=strangers / processor["nissim"]))
    return found


def attacked_levels(study: Study, network: str) -> int:
    """How many perturbed versions of each test photo ``network`` answers."""
    by_attack = setting.levels_of(study, network).values()
    return sum(epsilon > 0 for epsilons in by_attack for epsilon in epsilons)


def scored_levels(study: Study, network: str) -> int:
    """How many pairs of heatmaps of each test photo and class are compared, of equal ones, too."""
    return sum(map(len, setting.levels_of(study, network).values()))


def seconds_to_train(measured: Measured, classes: int) -> float:
    """Seconds a photo and epoch: a straight line through the two numbers of classes measured."""
    low, high = rates.CLASSES
    at_low, at_high = (measured["training"]["train"][str(number)] for number in (low, high))
    return at_low + (at_high - at_low) * (classes - low) / (high - low)


def disk(measured: Measured, study: Study, size: Size) -> dict[str, float]:
    """By stage, bytes of what one arm's tasks keep, by the shapes and dtypes that they write."""
    _, tests = size.split(study)
    slices = tests / setting.SLICE
    side = study.image_size
    found = dict.fromkeys(("features", "attack", "evaluate", "explain", "score"), 0.0)
    for network in study.networks:
        of = measured["networks"][network]
        conditions = 1 + attacked_levels(study, network)
        headers = _NPY_HEADER / setting.SLICE
        found["features"] += size.photos * (FLOAT * of["features"] + headers)
        found["attack"] += tests * (side * side * 3 + headers)
        heatmaps = len(setting.TARGETS) * of["last_side"] ** 2 * FLOAT
        found["evaluate"] += conditions * (tests * heatmaps + slices * _NPY_HEADER)
        rows = measured["rows"]
        answered = rows_a_photo(study, network)
        found["evaluate"] += tests * answered * rows["evaluate"]["disk"]
        maps = len(setting.conditions(study, network))
        arrays = maps * (of["positions"] * FLOAT + of["layers"] * _NPY_HEADER)
        found["explain"] += min(study.examples, tests) * arrays
        found["score"] += tests * scored_rows(measured, study, network) * rows["score"]["disk"]
    return found


def rows_a_photo(study: Study, network: str) -> int:
    """Rows of what ``network`` answers: the source's own attack stands there under both names."""
    again = network == study.source and "white-box" in study.attacks
    return scored_levels(study, network) + again * len(study.epsilons)


def scored_rows(measured: Measured, study: Study, network: str) -> int:
    """Rows of scores a photo: of each answer, for each class and each size of heatmap."""
    sizes = 1 + (measured["networks"][network]["last_side"] >= WINDOW)
    return rows_a_photo(study, network) * len(setting.targets(study)) * sizes


def files(study: Study, size: Size) -> int:
    """How many files the slices of one arm are."""
    _, tests = size.split(study)
    # Of a test slice: signs; last heatmaps and answers; scores.
    of_slices = _slices(size.photos) + 4 * _slices(tests)
    return len(study.networks) * (of_slices + 2 * min(study.examples, tests))


def _slices(photos: int) -> int:
    return -(-photos // setting.SLICE)
