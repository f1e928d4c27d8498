"""TFMOT's pruning wrappers around the layers of tf_keras models, with masks that we decide.

The only module that imports TensorFlow Model Optimization, and only when a function is called: it
is large, and it tells the whole process to use Keras 2.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Collection, Iterator
from typing import Any

import tensorflow as tf

from tf_prac.errors import ArgumentError
from tf_prac.keras_api import Flavour, flavour_of, named_weights, pruning_wrappers


def register() -> None:
    """Lets tf_keras load models with our wrappers."""
    wrapper_class()
    _schedule_class()


def wrap(model: Any, weights: Collection[Any]) -> Any:
    """Returns the model again with TFMOT wrappers around the layers that own `weights`.

    As with `prune_low_magnitude`, the wrapped layers are those of `model`, and models inside it
    are built again around theirs. Layers of a class TFMOT does not know are wrapped too. Layers
    inside a subclassed model stay as they are, because such a model cannot be built again.

    Args:
        model: a built functional or sequential tf_keras model.
        weights: the variables that get a mask.

    Raises:
        ArgumentError: a model of Keras 3.
    """
    _check_flavour(model)
    keras = Flavour("tf_keras").module
    chosen = {id(w) for w in weights}
    made: dict[int, Any] = {}

    def clone(layer: Any) -> Any:
        if id(layer) not in made:
            made[id(layer)] = _cloned(layer)
        return made[id(layer)]

    def _cloned(layer: Any) -> Any:
        if is_graph(layer):
            return keras.models.clone_model(layer, clone_function=clone)
        if isinstance(layer, keras.Model) or pruning_wrappers(layer) or not layer.weights:
            return layer
        names = _names(layer, chosen)
        return wrapper_class()(layer, prunable=names) if names else layer

    return keras.models.clone_model(model, clone_function=clone)


def is_graph(model: Any) -> bool:
    """Whether a tf_keras object is a functional or sequential model, which can be built again."""
    keras = Flavour("tf_keras").module
    return isinstance(model, keras.Model) and bool(
        model._is_graph_network or isinstance(model, keras.Sequential)
    )


def adopt(model: Any) -> None:
    """Makes a model's own TFMOT wrappers keep the masks they have, from now on, as ours do."""
    for wrapper in pruning_wrappers(model):
        if not isinstance(wrapper, wrapper_class()):
            wrapper.__class__ = wrapper_class()
            weights = {id(w) for w, _, _ in wrapper.pruning_vars}
            wrapper.prunable = _names(wrapper.layer, weights)
            wrapper.pruning_schedule = wrapper.pruning_obj._pruning_schedule = _masks_held()


def _check_flavour(model: Any) -> None:
    if flavour_of(model).name != "tf_keras":
        raise ArgumentError(
            "model",
            f"{type(model).__module__}.{type(model).__name__}",
            "a model of tf_keras (Keras 2)",
            "It is of keras (Keras 3), which TFMOT does not know; tf_prac.prune takes both.",
        )


def _names(layer: Any, ids: set[int]) -> tuple[str, ...]:
    """The names, within a layer, of the weights with these ids."""
    return tuple(w.name for w in named_weights(layer) if id(w.variable) in ids)


def masks_of_wrappers(model: Any) -> dict[int, list[Any]]:
    """Returns the mask variables of a model's TFMOT wrappers, by the id of their weight."""
    found: dict[int, list[Any]] = {}
    for wrapper in pruning_wrappers(model):
        for weight, mask, _ in wrapper.pruning_vars:
            found.setdefault(id(weight), []).append(mask)
    return found


def strip(model: Any) -> Any:
    """Returns the model without TFMOT wrappers: TFMOT's own `strip_pruning`."""
    _check_flavour(model)
    return _tfmot().sparsity.keras.strip_pruning(model)


@functools.cache
def wrapper_class() -> type:
    """TFMOT's wrapper, without what it does in every forward pass; tf_keras can load it.

    Masks are held after each step, by the model. So nothing needs `UpdatePruningStep`, and the
    wrapped layer runs as it does by itself.
    """
    keras = Flavour("tf_keras")
    plain = keras.module.layers.Dense(1)
    base = type(_tfmot().sparsity.keras.prune_low_magnitude(plain))

    class PruneLowMagnitude(base):  # type: ignore[misc, valid-type]
        def __init__(self, layer: Any, pruning_schedule: Any = None, prunable=(), **kwargs: Any):
            self.prunable = tuple(prunable)
            with self._choosing(layer):
                super().__init__(layer, pruning_schedule or _masks_held(), **kwargs)

        @contextlib.contextmanager
        def _choosing(self, layer: Any) -> Iterator[None]:
            """Names the prunable weights the way TFMOT asks for them, and only meanwhile."""
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
            if self.layer.weights:  # else the layer makes them when it is called
                with self._choosing(self.layer):
                    super().build(input_shape)

        def call(self, inputs: Any, training: Any = None, **kwargs: Any) -> Any:
            if self.layer._call_spec.expects_training_arg:
                kwargs["training"] = training
            outputs = self.layer(inputs, **kwargs)
            if len(self.pruning_vars) < len(self.prunable):
                with tf.init_scope():
                    self.build()
            return outputs

        def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
            return self.layer.compute_mask(inputs, mask)

        def get_config(self) -> dict[str, Any]:
            return {
                **super().get_config(),
                "prunable": self.prunable,
                "sparsity_m_by_n": self.sparsity_m_by_n,
            }

        @classmethod
        def from_config(cls, config: dict[str, Any]) -> Any:
            config = {**config, "pruning_schedule": _masks_held()}
            layer = keras.module.layers.deserialize(config.pop("layer"))
            return cls(layer, **config)

    return keras.register(PruneLowMagnitude)


@functools.cache
def _schedule_class() -> type:
    class MasksHeld(_tfmot().sparsity.keras.PruningSchedule):  # type: ignore[misc]
        """A schedule that never computes masks: they are written, and stay."""

        def __call__(self, step: Any) -> tuple[tf.Tensor, tf.Tensor]:
            return tf.constant(False), tf.constant(0.0)

        def get_config(self) -> dict[str, Any]:
            return {"class_name": "tf_prac>MasksHeld", "config": {}}

    return Flavour("tf_keras").register(MasksHeld)


def _tfmot() -> Any:
    with warnings.catch_warnings():  # of distutils, which it imports
        warnings.simplefilter("ignore", DeprecationWarning)
        import tensorflow_model_optimization

    return tensorflow_model_optimization


def _masks_held() -> Any:
    return _schedule_class()()
