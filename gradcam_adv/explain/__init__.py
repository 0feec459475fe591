"""Explanations: Grad-CAM, and those of tf-keras-vis."""
