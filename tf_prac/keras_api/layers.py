"""Layers: their classes, names without generated numbers, pruning wrappers, vocabularies."""

from __future__ import annotations

import re
from typing import Any


def class_names(layer: Any) -> list[str]:
    """Returns the names of a layer's class and its base classes, the most derived first."""
    return [cls.__name__ for cls in type(layer).__mro__]


def stable_name(layer: Any) -> str:
    """Returns the name of a layer or model, without its number if Keras generated the name."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", type(layer).__name__)
    kind = _letters(snake)
    generated = {kind, f"forward{kind}", f"backward{kind}", "functional", "model"}
    stem = re.sub(r"_\d+$", "", layer.name)
    if _letters(stem) not in generated:
        return layer.name
    return "model" if _letters(stem) == "functional" else stem


def unique_name(name: str, counts: dict[str, int]) -> str:
    """Returns `name`, with a number if it was used before, and counts it in `counts`."""
    number = counts.get(name, 0)
    counts[name] = number + 1
    return f"{name}_{number}" if number else name


def _letters(name: str) -> str:
    return name.lower().replace("_", "")


def pruning_wrappers(model: Any) -> list[Any]:
    """Returns the `PruneLowMagnitude` layers of TFMOT in a model, including nested ones."""
    return [layer for layer in model._flatten_layers() if is_wrapper(layer)]


def is_wrapper(layer: Any) -> bool:
    """Whether a layer is a `PruneLowMagnitude` of TFMOT."""
    return "PruneLowMagnitude" in class_names(layer)


def unwrapped(layer: Any) -> Any:
    """Returns the layer inside a pruning wrapper of TFMOT; any other layer as it is."""
    return layer.layer if is_wrapper(layer) else layer


def vocabulary(model: Any) -> list[str]:
    """Returns words of the vocabularies of a model's layers, such as TextVectorization."""
    words = []
    for layer in model._flatten_layers():
        if hasattr(layer, "get_vocabulary") and "IntegerLookup" not in class_names(layer):
            words += [str(word) for word in layer.get_vocabulary()]
    return [word for word in dict.fromkeys(words) if word.strip() and word != "[UNK]"]
