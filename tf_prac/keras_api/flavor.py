"""`Flavor`: one of the two Keras flavors, of a name or a model; and what affects both of them."""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

from tf_prac.checks import check_choice, class_path
from tf_prac.errors import ArgumentError
from tf_prac.extras import require

FLAVORS = ("keras", "tf_keras")


class Flavor:
    """One of the two Keras flavors, `keras` (Keras 3) or `tf_keras` (Keras 2).

    Example:

        >>> Flavor("keras").module.__name__
        'keras'

    Args:
        name: "keras" or "tf_keras".

    Raises:
        ArgumentError: If there is no such flavor.
    """

    def __init__(self, name: str):
        check_choice("keras", name, FLAVORS)
        self.name = name

    @functools.cached_property
    def module(self) -> Any:
        """The Keras package, imported at first use."""
        self.require()
        return importlib.import_module(self.name)

    def require(self) -> None:
        """Raises `MissingPackageError` unless this Keras is installed."""
        if self.name == "tf_keras":  # TensorFlow installs the other
            require("tf_keras", "models of Keras 2")

    def subclass(self, mixin: type, base: type) -> type:
        """Returns the class that inherits from `mixin` and `base`, which is created only once."""
        return _subclass(self.name, mixin, base)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Flavor) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"Flavor({self.name!r})"

    def register(self, cls: type) -> type:
        """Registers a class for loading saved models, and returns it."""
        return _registered(self.name, cls)


@functools.cache
def _subclass(flavor: str, mixin: type, base: type) -> type:
    return type(mixin.__name__, (mixin, base), {"__module__": mixin.__module__})


@functools.cache
def _registered(flavor: str, cls: type) -> type:
    return Flavor(flavor).module.saving.register_keras_serializable("tf_prac")(cls)


def flavor_of(model: Any) -> Flavor:
    """Returns the flavor of a Keras model or layer.

    Raises:
        ArgumentError: If the object is from neither Keras.
    """
    for name in FLAVORS:
        module = sys.modules.get(name)
        if module is not None and isinstance(model, module.layers.Layer):
            return Flavor(name)
    allowed = "a model built with keras (Keras 3) or tf_keras (Keras 2)"
    raise ArgumentError("model", class_path(model), allowed)


def is_model(value: Any) -> bool:
    """Whether a value is a Keras model of either flavor."""
    modules = [sys.modules[name] for name in FLAVORS if name in sys.modules]
    return any(isinstance(value, module.Model) for module in modules)


def new_network(model_fn: Callable[[], Any], mixed_precision: bool) -> Any:
    """Builds a model with `model_fn`, under the policy "mixed_bfloat16" if `mixed_precision`."""
    kerases = [sys.modules[name] for name in FLAVORS if mixed_precision and name in sys.modules]
    policies = [keras.mixed_precision.global_policy() for keras in kerases]
    try:
        for keras in kerases:
            keras.mixed_precision.set_global_policy("mixed_bfloat16")
        return model_fn()
    finally:
        for keras, policy in zip(kerases, policies, strict=True):
            keras.mixed_precision.set_global_policy(policy)


@contextlib.contextmanager
def quiet_log(level: int) -> Iterator[None]:
    """Hides messages of TensorFlow's logger below a level, such as `logging.WARNING`."""
    logger = logging.getLogger("tensorflow")
    before = logger.level
    logger.setLevel(max(before, level))
    try:
        yield
    finally:
        logger.setLevel(before)
