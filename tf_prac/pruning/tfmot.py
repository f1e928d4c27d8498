"""TFMOT's pruning wrappers around the layers of tf_keras models, with the masks of tf_prac.

This is the only module that imports TensorFlow Model Optimization, and only when a function is
called: the import is slow, and it makes the whole process use Keras 2.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Collection, Iterator
from typing import Any

import tensorflow as tf

from tf_prac.checks import class_path
from tf_prac.errors import ArgumentError
from tf_prac.extras import require
from tf_prac.keras_api import Flavor, flavor_of, named_weights, pruning_wrappers


def register() -> None:
    """Registers the wrappers, so that tf_keras can load models with them."""
    wrapper_class()
    _schedule_class()


def custom_objects() -> dict[str, type]:
    """Returns TFMOT's own wrapper by name, which tf_keras does not know, for loading."""
    return {"PruneLowMagnitude": wrapper_class().__bases__[0]}


def wrap(model: Any, weights: Collection[Any]) -> Any:
    """Returns a model with TFMOT wrappers around the layers that own `weights`.

    As with `prune_low_magnitude`, the layers are shared with `model`, and nested models are
    cloned around their layers. Layers of a class that TFMOT does not support are wrapped too.
    Layers inside a subclassed model are not, because it cannot be cloned.

    Args:
        model: a built functional or sequential tf_keras model.
        weights: the variables to add masks to.

    Raises:
        ArgumentError: If the model is a Keras 3 model.
    """
    _check_flavor(model)
    keras = Flavor("tf_keras").module
    chosen = {id(w) for w in weights}
    clones: dict[int, Any] = {}

    def clone(layer: Any) -> Any:
        if id(layer) not in clones:
            clones[id(layer)] = _cloned(layer)
        return clones[id(layer)]

    def _cloned(layer: Any) -> Any:
        if is_graph(layer):
            return keras.models.clone_model(layer, clone_function=clone)
        if isinstance(layer, keras.Model) or pruning_wrappers(layer) or not layer.weights:
            return layer
        names = _names(layer, chosen)
        return wrapper_class()(layer, prunable=names) if names else layer

    return keras.models.clone_model(model, clone_function=clone)


def is_graph(model: Any) -> bool:
    """Whether a tf_keras object is a functional or sequential model, which can be cloned."""
    keras = Flavor("tf_keras").module
    return isinstance(model, keras.Model) and bool(
        model._is_graph_network or isinstance(model, keras.Sequential)
    )


def adopt(model: Any) -> None:
    """Makes a model's TFMOT wrappers keep their current masks, as the wrappers of tf_prac do."""
    for wrapper in pruning_wrappers(model):
        if not isinstance(wrapper, wrapper_class()):
            wrapper.__class__ = wrapper_class()
            weights = {id(w) for w, _, _ in wrapper.pruning_vars}
            wrapper.prunable = _names(wrapper.layer, weights)
            wrapper.pruning_schedule = wrapper.pruning_obj._pruning_schedule = _constant_masks()


def _check_flavor(model: Any) -> None:
    if flavor_of(model).name != "tf_keras":
        raise ArgumentError(
            "model",
            class_path(model),
            "a model of tf_keras (Keras 2)",
            "TFMOT does not support keras (Keras 3); tf_prac.prune supports both.",
        )


def _names(layer: Any, ids: set[int]) -> tuple[str, ...]:
    """Returns the names, within a layer, of the weights with these ids."""
    return tuple(w.name for w in named_weights(layer) if id(w.variable) in ids)


def masks_of_wrappers(model: Any) -> dict[int, list[Any]]:
    """Returns the mask variables of a model's TFMOT wrappers, by the id of their weight."""
    masks: dict[int, list[Any]] = {}
    for wrapper in pruning_wrappers(model):
        for weight, mask, _ in wrapper.pruning_vars:
            masks.setdefault(id(weight), []).append(mask)
    return masks


def strip(model: Any) -> Any:
    """Returns the model without TFMOT wrappers, by TFMOT's `strip_pruning`."""
    _check_flavor(model)
    return _tfmot().sparsity.keras.strip_pruning(model)


@functools.cache
def wrapper_class() -> type:
    """Returns a subclass of TFMOT's wrapper that does nothing in a forward pass.

    The model applies the masks after each training step. So `UpdatePruningStep` is not needed, and
    the wrapped layer runs as it does without a wrapper.
    """
    keras = Flavor("tf_keras")
    plain = keras.module.layers.Dense(1)
    base = type(_tfmot().sparsity.keras.prune_low_magnitude(plain))

    class PruneLowMagnitude(base):  # type: ignore[misc, valid-type]
        def __init__(self, layer: Any, pruning_schedule: Any = None, prunable=(), **kwargs: Any):
            self.prunable = tuple(prunable)
            with self._with_prunable_weights(layer):
                super().__init__(layer, pruning_schedule or _constant_masks(), **kwargs)

        @contextlib.contextmanager
        def _with_prunable_weights(self, layer: Any) -> Iterator[None]:
            """Gives the layer TFMOT's `get_prunable_weights` for the duration of the block."""
            before = vars(layer).get("get_prunable_weights")
            layer.get_prunable_weights = lambda: self._weights(layer)
            try:
                yield
            finally:
                del layer.get_prunable_weights
                if before is not None:
                    layer.get_prunable_weights = before

        def _weights(self, layer: Any) -> list[Any]:
            by_name = {w.name: w.variable for w in named_weights(layer)}
            return [by_name[name] for name in self.prunable]

        def build(self, input_shape: Any = None) -> None:
            keras.module.layers.Wrapper.build(self, input_shape)
            if self.layer.weights:  # otherwise the layer creates them when it is called
                with self._with_prunable_weights(self.layer):
                    super().build(input_shape)

        def call(self, inputs: Any, training: Any = None, **kwargs: Any) -> Any:
            if self.layer._call_spec.expects_training_arg:
                kwargs["training"] = training
            if not self.layer._call_spec.expects_mask_arg:  # Keras passes it because of **kwargs
                kwargs.pop("mask", None)
            outputs = self.layer(inputs, **kwargs)
            if len(self.pruning_vars) < len(self.prunable):
                with tf.init_scope():
                    self.build()
            return outputs

        def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
            """Returns the mask of the layer's outputs; as without a wrapper, it may have none."""
            layer = self.layer
            if not layer.supports_masking and getattr(layer.compute_mask, "_is_default", False):
                return None
            return layer.compute_mask(inputs, mask)

        def get_config(self) -> dict[str, Any]:
            return {
                **super().get_config(),
                "prunable": self.prunable,
                "sparsity_m_by_n": self.sparsity_m_by_n,
            }

        @classmethod
        def from_config(cls, config: dict[str, Any]) -> Any:
            config = {**config, "pruning_schedule": _constant_masks()}
            layer = keras.module.layers.deserialize(config.pop("layer"))
            return cls(layer, **config)

    return keras.register(PruneLowMagnitude)


@functools.cache
def _schedule_class() -> type:
    class MasksHeld(_tfmot().sparsity.keras.PruningSchedule):  # type: ignore[misc]
        """A schedule that never updates masks."""

        def __call__(self, step: Any) -> tuple[tf.Tensor, tf.Tensor]:
            return tf.constant(False), tf.constant(0.0)

        def get_config(self) -> dict[str, Any]:
            return {"class_name": "tf_prac>MasksHeld", "config": {}}

    return Flavor("tf_keras").register(MasksHeld)


def require_tfmot() -> None:
    """Raises `MissingPackageError` unless TFMOT is installed."""
    require("tensorflow_model_optimization", "pruned models of Keras 2")


def _tfmot() -> Any:
    require_tfmot()
    with warnings.catch_warnings():  # TFMOT imports distutils
        warnings.simplefilter("ignore", DeprecationWarning)
        import tensorflow_model_optimization

    return tensorflow_model_optimization


def _constant_masks() -> Any:
    return _schedule_class()()
