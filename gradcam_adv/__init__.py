"""Attack CNN classifiers with FGSM, explain every layer with Grad-CAM, measure the shift.

Names are imported when they are first used, since Keras and its backend take seconds to import.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
