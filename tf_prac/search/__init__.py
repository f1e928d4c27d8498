"""Searches for winning tickets, and the tickets that they find."""

from tf_prac._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
