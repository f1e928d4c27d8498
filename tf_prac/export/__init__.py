"""What users deploy: SavedModels that are small on disk, TFLite files, tickets, and their sizes.

Every public name is here, and is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tf_prac.export.formats import keras_file as keras_file
    from tf_prac.export.formats import npz as npz
    from tf_prac.export.lite import tflite as tflite
    from tf_prac.export.load import load_sparse as load_sparse
    from tf_prac.export.size import SizeReport as SizeReport
    from tf_prac.export.size import size_report as size_report
    from tf_prac.export.writer import Export as Export
    from tf_prac.export.writer import saved_model as saved_model

_MODULES = {
    "Export": "writer",
    "SizeReport": "size",
    "keras_file": "formats",
    "load_sparse": "load",
    "npz": "formats",
    "saved_model": "writer",
    "size_report": "size",
    "tflite": "lite",
}

__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'tf_prac.export' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tf_prac.export.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
