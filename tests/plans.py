"""The plan of an arm without tasks, for what only reads its study."""

import dataclasses
from typing import Any

from gradcam_adv.study.plan import ArmPlan
from gradcam_adv.study.settings import Arm, Study


def plan_of(study: Study, arm: Arm = "plain", **tasks: Any) -> ArmPlan:
    nothing: dict[str, Any] = {field.name: {} for field in dataclasses.fields(ArmPlan)}
    return ArmPlan(**(nothing | {"arm": arm, "study": study} | tasks))
