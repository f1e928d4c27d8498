"""Deployment: SavedModels that are small on disk, TFLite and other files, and size reports."""

from tf_prac._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
