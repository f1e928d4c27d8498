"""Tasks: what the outputs of a model mean, and when a sample is predicted correctly."""

from tf_prac._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
