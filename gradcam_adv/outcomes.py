"""What a study's variations give, side by side: tables over its seeds and over its readings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gradcam_adv.setting import Setting
from gradcam_adv.study import Arm


def write_seeds(by_seed: Mapping[int, Mapping[Arm, Setting]], folder: Path) -> list[Path]:
    raise NotImplementedError


def write_readings(by_name: Mapping[str, Mapping[Arm, Setting]], folder: Path) -> list[Path]:
    """The tables of :mod:`gradcam_adv.readings`; the first is the study as it stands."""
    raise NotImplementedError
