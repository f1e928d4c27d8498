"""Models described as JSON and built from it, and what Keras itself exports."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

from tf_prac.errors import ArgumentError
from tf_prac.keras_api import FLAVOURS, Flavour, flavour_of, stable_name, unique


def output_names(model: Any) -> list[str]:
    """Returns the names of a model's outputs, those that Keras made up numbered anew."""
    names = getattr(model, "output_names", None)
    if names is None:
        names = [layer.name for layer in getattr(model, "layers", [])[-1:]]
    layers = {layer.name: layer for layer in getattr(model, "layers", [])}
    taken: dict[str, int] = {}
    return [unique(stable_name(layers[n]) if n in layers else n, taken) for n in names]


def export_dense(model: Any, directory: Any) -> None:
    """Calls Keras's own `model.export`, without what it prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        model.export(str(directory))


def model_config(model: Any) -> dict[str, Any] | None:
    """Returns the architecture of a model as JSON values; None if it cannot be described so."""
    try:
        config = flavour_of(model).module.saving.serialize_keras_object(model)
        config.pop("compile_config", None)
        return json.loads(json.dumps(config))
    except (NotImplementedError, TypeError, ValueError):
        return None


def model_from_config(
    flavour: Flavour, config: dict[str, Any], custom_objects: Mapping[str, Any] | None = None
) -> Any:
    """Builds the model of a `model_config`. Python code inside of it is refused, not run.

    Raises:
        ArgumentError: a class that is neither Keras's own nor among `custom_objects`.
        ValueError: the configuration holds code, such as that of a Lambda layer.
    """
    known = dict(custom_objects or {})
    for module, name in _classes(config):
        if module.split(".")[0] not in FLAVOURS and name not in known:
            raise ArgumentError(
                "custom_objects", sorted(known), f"the class {name!r} of {module} among them"
            )
    return flavour.module.saving.deserialize_keras_object(
        config, custom_objects=known, safe_mode=True
    )


def _classes(config: Any) -> Iterator[tuple[str, str]]:
    """Every (module, class) that a configuration names."""
    if isinstance(config, dict):
        if isinstance(config.get("module"), str) and isinstance(config.get("class_name"), str):
            yield config["module"], config["class_name"]
        for value in config.values():
            yield from _classes(value)
    elif isinstance(config, list):
        for value in config:
            yield from _classes(value)
