"""What users deploy: SavedModels that are small on disk, TFLite files, tickets, and their sizes."""

from tf_prac._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
