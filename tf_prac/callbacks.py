"""Callbacks: for your own `fit`, one for each quantity of the papers; and for a search."""

from tf_prac._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
