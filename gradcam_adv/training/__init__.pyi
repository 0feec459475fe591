from .callback import AttentionUnderAttack

__all__ = ["AttentionUnderAttack"]
