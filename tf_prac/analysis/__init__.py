"""Comparisons, sweeps, stability and connectivity analyses, reports and figures."""

from tf_prac._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
