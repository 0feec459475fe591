"""``make profile``: what a stage's seconds are counted as."""

import time

import numpy as np
import pandas as pd
import pytest

from benchmarks import profiling
from gradcam_adv import metrics
from gradcam_adv.study import config


def test_seconds_count_for_the_innermost_work_that_runs():
    maps = np.random.default_rng(0).random((2, 200, 9, 9))
    metrics.nissim(*maps)  # compiled
    with profiling.Sampler() as sampler:
        began = time.perf_counter()
        while time.perf_counter() - began < 0.3:
            metrics.nissim(*maps, 64)
        time.sleep(0.3)
    assert sampler.seconds["scoring"] == pytest.approx(0.3, abs=0.1)
    assert sampler.seconds["rest"] == pytest.approx(0.3, abs=0.1)
    assert sampler.seconds.total() == pytest.approx(0.6, abs=0.1)


def test_the_page_has_all_stages_together_and_no_ratio_without_a_bound():
    rows = [("data", 2.0, 0.0, 0.5), ("attack", 6.0, 3.0, 0.1)]
    table = pd.DataFrame(rows, columns=["stage", "wall", "bound", "idle"])
    study = config.read(profiling.QUICK)
    lines = profiling.page(study, table, 1e11).splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if "|" in line]
    assert cells[0] == ["stage", "wall", "bound", "wall / bound", "idle"]
    assert cells[2:] == [
        ["data", "2.0", "0.0", "", "50%"],
        ["attack", "6.0", "3.0", "2.0", "10%"],
        ["all", "8.0", "3.0", "2.7", "20%"],
    ]
