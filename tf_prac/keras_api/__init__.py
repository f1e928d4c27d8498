"""The only package that knows both Kerases.

`keras` (Keras 3) and `tf_keras` (Keras 2, which TensorFlow Model Optimization needs) can be used
in one process. The flavour is a property of each model or layer, not of the process, and a package
is imported only when it is needed.
"""

from tf_prac._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
