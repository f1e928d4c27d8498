"""Callbacks: for a `fit` of your own, one for each thing that the papers measure."""

from tf_prac._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
