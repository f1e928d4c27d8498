"""Models around a network: which networks they can train, and their config with the network."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from tf_prac.errors import ArgumentError
from tf_prac.keras_api import FLAVORS, Flavor, flavor_of
from tf_prac.training.masked_model import MaskedModelMixin

OVERRIDES = {
    "train_step": "Apply masks at the end of your train_step, with tf_prac.MaskedWeights.",
    "test_step": "Evaluate the plain model, tf_prac.strip(model), which shares the weights.",
    "predict_step": "Predict with the plain model, tf_prac.strip(model), which shares the weights.",
    "compute_loss": "Pass the loss to compile, or add terms of it with add_loss in a layer.",
    "compute_metrics": "Pass the metrics to compile.",
    "metrics": "Pass the metrics to compile.",
    "get_metrics_result": "Pass the metrics to compile.",
    "reset_metrics": "Pass the metrics to compile.",
    "make_train_function": "Use the train function of Keras.",
}
"""Methods of a model that a wrapper around it does not call, and what to do without them."""


def check_no_overrides(network: Any) -> None:
    """Checks that a model can be trained by a wrapper around it.

    The wrapper calls the model, and trains with the methods of Keras; those that the class of the
    model overrides would be bypassed.

    Raises:
        ArgumentError: If its class overrides one of them.
    """
    if isinstance(network, MaskedModelMixin):
        return
    keras_model = flavor_of(network).module.Model
    for name, remedy in OVERRIDES.items():
        if not hasattr(keras_model, name):
            continue
        owner = next(cls for cls in type(network).__mro__ if name in vars(cls))
        if not owner.__module__.startswith(("keras.", "tf_keras.")):
            raise ArgumentError(
                "model",
                f"{type(network).__name__}, which overrides {name}",
                f"a model with the {name} of Keras",
                f"The wrapper that applies the masks would bypass it. {remedy} Or train in your "
                "own loop or train_step, with tf_prac.MaskedWeights.",
            )


LOAD_WITH = "tf_prac.load_model(path)"
"""The first entry of a config; Keras's error shows it if it does not know the class."""


def network_config(model: Any) -> dict[str, Any]:
    """Returns the part of a wrapper's config that describes the network."""
    saving = flavor_of(model).module.saving
    network = saving.serialize_keras_object(model.network)
    return {"load_with": LOAD_WITH, "name": model.name, "network": network}


def network_from_config(
    cls: type, config: Mapping[str, Any], custom_objects: Any = None
) -> dict[str, Any]:
    """Returns the config of a wrapper of class `cls` with its network instead of its config."""
    layers = Flavor(cls.__bases__[1].__module__.split(".")[0]).module.layers
    network = layers.deserialize(config["network"], custom_objects)
    return {**{key: config[key] for key in config if key != "load_with"}, "network": network}


def keras_class(cls: type) -> type:
    """Returns the class to load for a class that is named in a file.

    tf_keras finds the class of this library by its module, without Keras's own as its base, in a
    process in which `tf_prac.load_model` and `prune` were not called.
    """
    if len(cls.__bases__) > 1:
        return cls
    loaded = [name for name in FLAVORS if name in sys.modules]
    flavor = Flavor(loaded[0] if len(loaded) == 1 else "tf_keras")
    return cls.of_keras(flavor)  # type: ignore[attr-defined]
