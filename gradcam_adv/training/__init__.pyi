from .adversarial import AdversarialTraining

__all__ = ["AdversarialTraining"]
