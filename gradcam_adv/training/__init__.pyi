from .adversarial import AdversarialTraining
from .callback import AttentionUnderAttack

__all__ = ["AdversarialTraining", "AttentionUnderAttack"]
