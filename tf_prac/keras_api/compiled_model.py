"""What a model is compiled with, and copies of compiled models."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import Any

from tf_prac.checks import first_line
from tf_prac.errors import ArgumentError
from tf_prac.keras_api.flavor import flavor_of
from tf_prac.keras_api.layers import class_names


def compile_arguments(model: Any) -> dict[str, Any] | None:
    """Returns the arguments that a model was compiled with; None if it is not compiled."""
    config = getattr(model, "_compile_config", None)
    if config is None or getattr(model, "optimizer", None) is None:
        return None
    return {**config.config, "optimizer": model.optimizer}


def compile_config(model: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the configurations of losses, metrics and an optimizer as JSON values."""
    serialize = flavor_of(model).module.saving.serialize_keras_object

    def describe(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(name): describe(each) for name, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [describe(each) for each in value]
        if isinstance(value, (str, int, float)):
            return value
        if inspect.isfunction(value):
            return f"{value.__module__}.{value.__qualname__}"
        try:
            config = dict(serialize(value)["config"])
        except (TypeError, ValueError, KeyError, NotImplementedError):
            config = {}
        config.pop("name", None)
        return json.loads(json.dumps([type(value).__name__, config], default=str))

    return {name: describe(value) for name, value in arguments.items()}


def copy_of(model: Any) -> Any:
    """Returns a copy of a model with its weights and vocabularies, compiled as it is.

    Raises:
        ArgumentError: If Keras cannot clone it.
    """
    flavor = flavor_of(model)
    try:
        copy = flavor.module.models.clone_model(model)
        for layer, original in zip(copy._flatten_layers(), model._flatten_layers(), strict=True):
            if hasattr(original, "set_vocabulary") and hasattr(original, "get_vocabulary"):
                layer.set_vocabulary(original.get_vocabulary())
        copy.set_weights(model.get_weights())
    except (TypeError, ValueError, NotImplementedError) as error:
        reason = first_line(error)
        raise ArgumentError(
            "model",
            f"{model.name}, which Keras cannot clone ({reason})",
            "a function that returns a new, built model",
        ) from error
    for layer in copy._flatten_layers():
        if "Normalization" in class_names(layer):  # others have their state in their config
            layer.finalize_state()
    if (compiled := compile_arguments(model)) is not None:
        names = ("optimizer", "loss", "loss_weights", "metrics", "weighted_metrics", "run_eagerly")
        copy.compile(**{name: compiled[name] for name in names if compiled.get(name) is not None})
    return copy


def steps_per_execution(model: Any) -> int:
    """Returns the `steps_per_execution` of a compiled model."""
    variable = getattr(model, "_steps_per_execution", None)  # tf_keras
    return getattr(model, "steps_per_execution", 1) if variable is None else int(variable.numpy())


def build_metrics(model: Any, inputs: Any, outputs: Any, labels: Any) -> None:
    """Creates the variables of a compiled model's metrics before its first step is traced.

    Replicas cannot create variables, and a step that creates variables is traced twice.

    Args:
        model: a compiled model, created in the scope of the current strategy.
        inputs: a batch of inputs.
        outputs: the model's outputs for them, float [batch, ...] or nested.
        labels: their labels.
    """
    import tensorflow as tf

    if not tf.distribute.has_strategy():
        model.compute_metrics(inputs, labels, outputs)
        model.reset_metrics()
    elif flavor_of(model).name == "keras":
        model._symbolic_build(data_batch=(inputs, labels))
