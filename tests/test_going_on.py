"""Stages that were interrupted go on where they stopped and come out the same."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from gradcam_adv import scoring


def stopped_at_call(monkeypatch, module, name, number):
    """Make ``module.name`` end the work at its ``number``-th call; the calls made are counted."""
    function = getattr(module, name)
    calls = []

    def counted(*arguments, **options):
        calls.append(arguments)
        if len(calls) == number:
            raise KeyboardInterrupt
        return function(*arguments, **options)

    monkeypatch.setattr(module, name, counted)
    return calls


@pytest.fixture
def explained(tmp_path):
    """A setting whose four example photos have heatmaps of two layers under white-box attacks."""
    folder = tmp_path / "explained"
    folder.mkdir()
    chance = np.random.default_rng(0)
    conditions = ["clean", *(f"{attack} 0.1" for attack in ("black-box", "white-box", "noise"))]
    for row in range(4):
        maps = {f"{c}/{layer}": chance.random((9, 9)) for c in conditions for layer in "ab"}
        np.savez(folder / f"example-{row:07d}.npz", **maps)
    return SimpleNamespace(
        arm="plain",
        folders={"explain/net": folder},
        study=SimpleNamespace(
            attacks=("white-box",),
            attacked_epsilons=(0.1,),
            examples=4,
            image_size=16,
            source="other",
        ),
        test=pd.DataFrame({"photo": list("pqrs"), "identity": list("xyxy")}),
    )


def test_layers_are_scored_a_photo_at_a_time(explained, tmp_path, monkeypatch):
    undisturbed = scoring.layers(explained, tmp_path / "undisturbed", "net")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stopped_at_call(patch, scoring, "_score_layers", 3)
        scoring.layers(explained, tmp_path / "interrupted", "net")
    calls = stopped_at_call(monkeypatch, scoring, "_score_layers", None)
    files = scoring.layers(explained, tmp_path / "interrupted", "net")
    assert [row for _, _, row in calls] == [2, 3]
    assert [path.name for path in files] == [path.name for path in undisturbed]
    for one, other in zip(files, undisturbed, strict=True):
        assert one.read_bytes() == other.read_bytes()
