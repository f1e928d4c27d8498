"""Searches for winning tickets, their callbacks and selectors, and tickets."""

from tf_prac._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
