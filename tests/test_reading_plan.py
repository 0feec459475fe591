"""What `readings --plan` says: which reading makes what, for how long, and what is left out."""

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from gradcam_adv.app.pipeline import Pipeline
from gradcam_adv.app.reading_plan import reading_plan
from gradcam_adv.models.weights import Weights
from gradcam_adv.runs.tasks import Task


@dataclass(frozen=True, eq=False, kw_only=True)
class Passes(Task):
    """A task of some passes, of a stage of its own."""

    kind = stage = "evaluate"

    form: str
    passes: float
    seconds: float | None = None

    @property
    def effort(self):
        return self.passes

    def record(self):
        return None if self.seconds is None else SimpleNamespace(seconds=self.seconds)

    def make(self, engine):
        return []


@dataclass(frozen=True, eq=False, kw_only=True)
class Scores(Passes):
    kind = stage = "score"


RUN = Path("runs/tiny")


def planned(*tasks):
    return SimpleNamespace(tasks=list(tasks))


class Runner:
    """Says that what has a record is done."""

    def is_done(self, task):
        return task.record() is not None


def test_what_readings_share_counts_once_and_done_tasks_say_how_long_a_pass_takes():
    done = Passes(run=RUN, form="own", passes=100, seconds=250)
    scored = Scores(run=RUN, form="own", passes=6)
    shared = Passes(run=RUN, form="png", passes=240)
    plans = {
        "default": planned(done, scored),
        "perturbed_set = png": planned(shared, Scores(run=RUN, form="png", passes=12)),
        "ssim = gaussian": planned(shared, Scores(run=RUN, form="gaussian", passes=24)),
        "vid_levels = all": planned(done, scored),
    }
    table = reading_plan(plans, Runner())
    assert table["reading"].tolist() == [*plans, "all"]
    assert table["makes"].tolist() == ["score", "evaluate, score", "score", "", ""]
    assert table["tasks"].tolist() == [1, 2, 1, 0, 4]
    # No scoring is done, so it takes as long for its passes as what is done.
    minutes = [2.5 * passes / 60 for passes in (6, 240 + 12, 24, 0, 282)]
    assert table["minutes"].tolist() == pytest.approx(minutes)
    nothing = reading_plan({"default": planned(replace(done, seconds=None))}, Runner())
    assert nothing["minutes"].tolist() == pytest.approx([100 / 60, 100 / 60])


def pipeline(folder: str, **weights: Weights) -> SimpleNamespace:
    return SimpleNamespace(
        weights=weights,
        _weights_of_readings={},
        _download=False,
        study=SimpleNamespace(weights=folder),
    )


def test_a_reading_whose_weights_are_not_at_hand_is_left_out_and_not_faked(tmp_path):
    trained = pipeline(str(tmp_path), resnet50=Weights("file", None, "0" * 64))
    for _ in range(2):  # what was found is kept
        with pytest.raises(ValueError, match=r"weights of ResNet50 V2\. Received: none"):
            Pipeline._weights(trained, "resnet50v2")
    assert Pipeline._weights(trained, "resnet50").origin == "file"
    # Where the study's own are random, these may be.
    random = pipeline("random", resnet50=Weights("random"))
    assert Pipeline._weights(random, "resnet50v2").origin == "random"
    # Random ones do not stand for missing ones.
    mixed = pipeline("random", resnet50=Weights("imagenet"))
    with pytest.raises(ValueError, match="Expected weights of ResNet50 V2"):
        Pipeline._weights(mixed, "resnet50v2")
