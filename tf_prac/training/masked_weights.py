"""`HeldMasks`: masks as variables beside their weights, put in force inside a training step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tf_prac.config import PruningConfig
from tf_prac.keras_api import moving_average, pruning_wrappers
from tf_prac.pruning.masks import Masks
from tf_prac.pruning.weights import prunable_weights


class HeldMasks:
    """Keeps pruned weights at exactly 0, whatever an optimizer does to them.

    A plain class, so that Keras does not track it. `PracModel` and the models of `prune` call
    `hold` at the end of each step; a training loop of one's own does it by itself:

        >>> held = HeldMasks(prunable_weights(model))  # doctest: +SKIP
        >>> held.set(masks)
        >>> for x, y in batches:
        ...     optimizer.apply(gradients(x, y), model.trainable_variables)
        ...     held.hold(optimizer)

    Args:
        variables: the prunable variables, by name.
        factors: variables that hold a mask as zeros and ones, for some of the names; more than
            one for a weight that several TFMOT wrappers share. Default: made here, dense.

    Attributes:
        variables: the prunable variables, by name.
    """

    def __init__(
        self, variables: Mapping[str, Any], factors: Mapping[str, list[Any]] | None = None
    ):
        self.variables = dict(variables)
        self._factors = {
            name: (factors or {}).get(name) or [_ones_like(v)] for name, v in variables.items()
        }

    def get(self) -> Masks:
        """Returns the masks in force."""
        return Masks({name: factors[0].numpy() != 0 for name, factors in self._factors.items()})

    def set(self, masks: Masks) -> None:
        """Puts other masks in force and zeros what they prune; nothing is compiled anew.

        Raises:
            MismatchError: the masks are of another architecture.
        """
        masks.check_shapes({name: tuple(v.shape) for name, v in self.variables.items()})
        for name, factors in self._factors.items():
            for factor in factors:
                factor.assign(tf.cast(masks[name], factor.dtype))
        self.hold()

    def hold(self, optimizer: Any = None) -> None:
        """Sets pruned weights to 0; with an optimizer, their moving averages too.

        Averages of `use_ema` are taken of weights that an update has just moved, and Keras puts
        them into the model, at the end of a `fit` or before.
        """
        for name, variable in self.variables.items():
            factor = tf.convert_to_tensor(self._factors[name][0])
            for held in (variable, moving_average(optimizer, variable)):
                if held is not None:
                    value = tf.convert_to_tensor(held)
                    # Unlike `*`, this gives +0 for negative weights (-0 compresses badly), and
                    # 0 for one that is not a number.
                    held.assign(tf.math.multiply_no_nan(value, tf.cast(factor, value.dtype)))


def held_masks(model: Any, config: PruningConfig | None = None) -> HeldMasks:
    """Returns the masks of a model to hold: those that it brings, or new dense ones.

    A model from `prune` brings its own, and one with wrappers of TFMOT theirs; those wrappers
    keep their masks from then on, whatever their schedule.

    Args:
        model: a built model of either flavour.
        config: which weights are pruned if the model brings no masks.

    Raises:
        ArgumentError: the model has nothing to prune.
    """
    own = getattr(model, "held_masks", None)
    return own or hold_weights(model, prunable_weights(model, config))


def watched_weights(model: Any, config: PruningConfig | None = None) -> dict[str, Any]:
    """Returns the prunable variables of any model, by name: those that it holds masks for, if any.

    Args:
        model: a built model of either flavour.
        config: which weights are prunable if the model brings no masks.

    Raises:
        ArgumentError: the model has nothing to prune.
    """
    held = getattr(model, "held_masks", None)
    return held.variables if held is not None else prunable_weights(model, config)


def masks_in_force(model: Any, config: PruningConfig | None = None) -> Masks:
    """Returns the masks that any model has, without a change to it; dense ones if it has none."""
    held = getattr(model, "held_masks", None)
    if held is not None:
        return held.get()
    weights = prunable_weights(model, config)
    if not pruning_wrappers(model):
        return Masks.ones_like(weights)
    from tf_prac.pruning import tfmot

    found = tfmot.masks_of_wrappers(model)
    return Masks({name: found[id(v)][0].numpy() != 0 for name, v in weights.items()})


def hold_weights(model: Any, variables: Mapping[str, Any]) -> HeldMasks:
    """Returns held masks for some weights of a model, in the wrappers of TFMOT if it has any."""
    if not pruning_wrappers(model):
        return HeldMasks(variables)
    from tf_prac.pruning import tfmot

    tfmot.adopt(model)
    factors = tfmot.masks_of_wrappers(model)
    return HeldMasks(variables, {name: factors.get(id(v), []) for name, v in variables.items()})


def _ones_like(variable: Any) -> tf.Variable:
    return tf.Variable(tf.ones(variable.shape, variable.dtype), trainable=False, name="mask")


def put_masks(model: Any, masks: Masks) -> None:
    """Puts masks in force in a model that holds some; a weight without one becomes dense."""
    if pruning_wrappers(model) or hasattr(model, "held_masks"):
        held = held_masks(model)
        dense = Masks.ones_like(held.variables)
        held.set(Masks({name: masks.get(name, dense[name]) for name in dense}))
