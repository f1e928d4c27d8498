"""Optimizers by name or like another one, their variables, and two forms of SGD."""

from __future__ import annotations

import inspect
from typing import Any

from tf_prac.checks import class_path, first_line
from tf_prac.errors import ArgumentError
from tf_prac.keras_api.flavor import Flavor
from tf_prac.keras_api.weights import tf_variable, to_numpy


def make_optimizer(
    flavor: Flavor,
    name: str,
    *,
    weight_decay: float = 0.0,
    momentum_form: str = "keras",
    **options: Any,
):
    """Builds an optimizer by name; options that its constructor does not have are ignored.

    Args:
        flavor: which Keras.
        name: class name in lower case, such as "sgd".
        weight_decay: coefficient of an L2 term that is added to the gradients; for "adamw" and
            others whose name ends with "w", Keras's decoupled weight decay. Default 0.
        momentum_form: form of the momentum of "sgd", "keras" or "pytorch"; see `PyTorchMomentum`.
            Default "keras".
        **options: learning_rate, momentum, ...; None is ignored too.

    Raises:
        ArgumentError: If there is no such optimizer.
    """
    optimizers = flavor.module.optimizers
    classes = {
        key.lower(): value
        for key, value in vars(optimizers).items()
        if isinstance(value, type)
        and issubclass(value, optimizers.Optimizer)
        and value is not optimizers.Optimizer
        and "learning_rate" in inspect.signature(value).parameters  # not a wrapper of others
    }
    if name not in classes:
        raise ArgumentError("optimizer", name, "one of " + ", ".join(sorted(classes)))
    cls = classes[name]
    if weight_decay and name.endswith("w"):
        options["weight_decay"] = weight_decay
    parameters = inspect.signature(cls).parameters
    accepted = {k: v for k, v in options.items() if k in parameters and v is not None}
    if momentum_form == "pytorch" and name == "sgd" and accepted.get("momentum"):
        cls = flavor.subclass(PyTorchMomentum, cls)
    if weight_decay and not name.endswith("w"):
        cls = flavor.subclass(CoupledWeightDecay, cls)
        optimizer = cls(**accepted)
        optimizer.l2 = weight_decay
        return optimizer
    return cls(**accepted)


def like_optimizer(optimizer: Any, learning_rate: Any) -> Any:
    """Returns a new optimizer with the options of another one, and another learning rate.

    Raises:
        ArgumentError: If it cannot be made from its configuration.
    """
    name = type(optimizer).__name__
    if not hasattr(optimizer, "build") or hasattr(optimizer, "inner_optimizer"):
        raise ArgumentError(
            "optimizer",
            class_path(optimizer),
            "an optimizer of keras.optimizers, neither a legacy one nor one with loss scaling",
            "For mixed precision, use TrainingRecipe(mixed_precision=True).",
        )
    try:
        new = type(optimizer).from_config(
            {**optimizer.get_config(), "learning_rate": learning_rate}
        )
    except (TypeError, ValueError, NotImplementedError) as error:
        allowed = "one that its get_config describes"
        raise ArgumentError("optimizer", name, allowed, first_line(error)) from error
    for attribute in ("_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern"):
        if hasattr(optimizer, attribute):
            setattr(new, attribute, getattr(optimizer, attribute))
    return new


def learning_rate_of(optimizer: Any) -> Any:
    """Returns the learning rate of an optimizer: a Keras schedule, or a number."""
    rate = optimizer._learning_rate
    if hasattr(rate, "get_config") and callable(rate):
        return rate
    if callable(rate) and not hasattr(rate, "numpy"):
        raise ArgumentError(
            "learning_rate", rate, "a number or a LearningRateSchedule of Keras, which has a step"
        )
    return float(to_numpy(rate))


def moving_average(optimizer: Any, variable: Any) -> Any:
    """Returns the moving average of `variable` in an optimizer with `use_ema`, or None."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of a LossScaleOptimizer
    averages = getattr(optimizer, "_model_variables_moving_average", None)
    if not averages:
        return None
    index = _index_in(optimizer, variable)
    return None if index is None else averages[index]


def momentum_of(optimizer: Any, variable: Any) -> Any:
    """Returns the momentum of `variable` in an SGD optimizer with momentum, or None."""
    index = _index_in(optimizer, variable)
    return None if index is None else optimizer.momentums[index]


def _index_in(optimizer: Any, variable: Any) -> int | None:
    """Returns the position of a variable among those of an optimizer."""
    if hasattr(optimizer, "_index_dict"):  # tf_keras
        return optimizer._index_dict.get(optimizer._var_key(variable))
    return optimizer._trainable_variables_indices.get(optimizer._var_key(variable))


class CoupledWeightDecay:
    """An optimizer mixin that adds the gradient of an L2 penalty, as the papers' SGD does."""

    l2: float

    def update_step(self, gradient: Any, variable: Any, *learning_rate: Any) -> None:
        """Updates one variable, with the gradient of the penalty added."""
        gradient = self.decayed(gradient, variable)
        super().update_step(gradient, variable, *learning_rate)  # type: ignore[misc]

    def decayed(self, gradient: Any, variable: Any) -> Any:
        """Returns the gradient of the loss and the penalty."""
        import tensorflow as tf

        value = tf.convert_to_tensor(variable)
        return tf.convert_to_tensor(gradient) + tf.cast(self.l2, value.dtype) * value


class PyTorchMomentum:
    """A mixin of SGD: the momentum is a sum of gradients, times the current learning rate.

    velocity = momentum * velocity + gradient; weight -= learning_rate * velocity

    Source: `torch.optim.SGD`, which the PrAC authors and open_lth use; TensorFlow 1's
    `MomentumOptimizer`, of "Stabilizing the Lottery Ticket Hypothesis", has the same form.
    """

    momentum: float
    momentums: list[Any]
    learning_rate: Any

    def update_step(self, gradient: Any, variable: Any, *learning_rate: Any) -> None:
        """Updates one variable."""
        import tensorflow as tf

        velocity = tf_variable(momentum_of(self, variable))
        rate = tf.cast(learning_rate[0] if learning_rate else self.learning_rate, velocity.dtype)
        gradient = tf.cast(tf.convert_to_tensor(gradient), velocity.dtype)
        velocity.assign(tf.cast(self.momentum, velocity.dtype) * velocity + gradient)
        tf_variable(variable).assign_sub(tf.cast(rate * velocity, variable.dtype))
