"""`MaskedWeights`: masks as variables next to the weights, applied inside a training step."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import tensorflow as tf

from tf_prac.config import PruningConfig
from tf_prac.keras_api import moving_average, pruning_wrappers
from tf_prac.pruning.masks import Masks
from tf_prac.pruning.weights import prunable_weights


class MaskedWeights:
    """Keeps pruned weights at exactly 0, with any optimizer.

    `PracModel` and the models that `prune` returns call `apply_masks` at the end of each training
    step. In a custom training loop, call it yourself.

    Example:

        >>> masked = MaskedWeights(prunable_weights(model))  # doctest: +SKIP
        >>> masked.set_masks(masks)
        >>> for x, y in batches:
        ...     optimizer.apply(gradients(x, y), model.trainable_variables)
        ...     masked.apply_masks(optimizer)

    Args:
        variables: the prunable variables, by name.
        mask_variables: for some of the names, existing variables that contain the mask as zeros
            and ones; several for a weight that several TFMOT wrappers share. Masks of the other
            names are created, dense, as boolean variables (one byte per weight). Default: all are
            created.

    Attributes:
        variables: the prunable variables, by name.
        mask_variables: the mask variables of each name.
    """

    def __init__(
        self, variables: Mapping[str, Any], mask_variables: Mapping[str, list[Any]] | None = None
    ):
        self.variables = dict(variables)
        self.mask_variables = {
            name: (mask_variables or {}).get(name) or [dense_mask(variable.shape, number)]
            for number, (name, variable) in enumerate(variables.items())
        }

    @property
    def masks(self) -> Masks:
        """The current masks."""
        return Masks({name: masks[0].numpy() != 0 for name, masks in self.mask_variables.items()})

    def set_masks(self, masks: Masks) -> None:
        """Sets the masks and zeros the weights they prune, without retracing.

        Raises:
            MismatchError: If the masks are of another architecture.
        """
        masks.check_shapes({name: tuple(v.shape) for name, v in self.variables.items()})
        for name, mask_variables in self.mask_variables.items():
            for mask in mask_variables:
                mask.assign(tf.cast(masks[name], mask.dtype))
        self.apply_masks()

    def apply_masks(self, optimizer: Any = None) -> None:
        """Sets pruned weights to 0.

        Args:
            optimizer: if given, the moving averages that it keeps with `use_ema` are masked too.
                Keras computes them from weights just updated and copies them into the model
                during or at the end of `fit`. Default None.
        """
        for name, variable in self.variables.items():
            kept = tf.cast(tf.convert_to_tensor(self.mask_variables[name][0]), tf.bool)
            for target in (variable, moving_average(optimizer, variable)):
                if target is not None:
                    value = tf.convert_to_tensor(target)
                    target.assign(_masked(value, kept))


def attach_masks(
    model: Any,
    config: PruningConfig | None = None,
    variables: Mapping[str, Any] | None = None,
    mask_variables: Mapping[str, tf.Variable] | None = None,
) -> MaskedWeights:
    """Returns the masked weights of a model: its own, or new ones with dense masks.

    In a model with TFMOT wrappers, the wrappers' mask variables are used, and from then on the
    wrappers keep their masks, regardless of their schedule.

    Args:
        model: a built model of either flavor.
        config: selects the prunable weights of a model without masks.
            Default `PruningConfig()`.
        variables: the variables to mask, by name, in a new `MaskedWeights`. Default: the model's
            own `MaskedWeights`, or a new one for the weights that `config` selects.
        mask_variables: existing masks of some of these variables, by name. Default: none.

    Raises:
        ArgumentError: If the model has nothing to prune.
    """
    masks = {name: [mask] for name, mask in (mask_variables or {}).items()}
    if variables is None:
        existing = getattr(model, "masked_weights", None)
        if existing is not None:
            return existing
        variables = prunable_weights(model, config)
    if pruning_wrappers(model):
        from tf_prac.pruning import tfmot

        tfmot.adopt(model)
        by_id = tfmot.masks_of_wrappers(model)
        masks |= {name: by_id[id(v)] for name, v in variables.items() if id(v) in by_id}
    nested = _masks_of_parts(model)
    masks |= {name: nested[id(v)] for name, v in variables.items() if id(v) in nested}
    return MaskedWeights(variables, masks)


def get_prunable(model: Any, config: PruningConfig | None = None) -> dict[str, Any]:
    """Returns the prunable variables of any model, by name: those that have masks, if it has any.

    Args:
        model: a built model of either flavor.
        config: selects the prunable weights of a model without masks.
            Default `PruningConfig()`.

    Raises:
        ArgumentError: If the model has nothing to prune.
    """
    masked = getattr(model, "masked_weights", None)
    return masked.variables if masked is not None else prunable_weights(model, config)


def get_masks(model: Any, config: PruningConfig | None = None) -> Masks:
    """Returns the current masks of any model, dense ones if it has none. Never changes the model.

    Args:
        model: a built model of either flavor.
        config: selects the prunable weights of a model without masks.
            Default `PruningConfig()`.

    Raises:
        ArgumentError: If the model has nothing to prune.
    """
    masked = getattr(model, "masked_weights", None)
    if masked is not None:
        return masked.masks
    if not has_masks(model):
        return Masks.ones_like(prunable_weights(model, config))
    by_id = _masks_of_parts(model)
    if pruning_wrappers(model):
        from tf_prac.pruning import tfmot

        by_id |= tfmot.masks_of_wrappers(model)
    weights = prunable_weights(model, config)
    dense = Masks.ones_like(weights)
    return Masks(
        {
            name: by_id[id(v)][0].numpy() != 0 if id(v) in by_id else dense[name]
            for name, v in weights.items()
        }
    )


def set_masks(model: Any, masks: Masks) -> None:
    """Sets the masks of a model that has some; does nothing to a model that has none.

    Args:
        model: a built model of either flavor.
        masks: masks by name of the weight; a prunable weight without one becomes dense.

    Raises:
        MismatchError: If a mask has another shape than its weight.
    """
    if has_masks(model):
        masked = attach_masks(model)
        dense = Masks.ones_like(masked.variables)
        masked.set_masks(Masks({name: masks.get(name, dense[name]) for name in dense}))


def has_masks(model: Any) -> bool:
    """Returns whether a model has masks: its own, of TFMOT wrappers, or of models it contains."""
    if hasattr(model, "masked_weights") or pruning_wrappers(model):
        return True
    return bool(_masks_of_parts(model))


def _masks_of_parts(model: Any) -> dict[int, list[Any]]:
    """Returns the mask variables of pruned models inside a model, by id of the weight."""
    layers = model._flatten_layers(include_self=False)
    parts = (getattr(each, "masked_weights", None) for each in layers)
    return {
        id(variable): part.mask_variables[name]
        for part in parts
        if part is not None
        for name, variable in part.variables.items()
    }


def dense_mask(shape: Collection[int], number: int) -> tf.Variable:
    """Returns a boolean mask variable, number `number` of a model, that keeps every weight."""
    return tf.Variable(
        lambda: tf.ones(shape, tf.bool),  # after `loading` has checked the shape from a file
        shape=tuple(shape),
        trainable=False,
        name=f"mask_{number}",
    )


def _masked(value: tf.Tensor, kept: tf.Tensor) -> tf.Tensor:
    """Returns the kept elements, and 0 for the others.

    Unlike a product, this returns +0 for negative weights (-0 compresses badly) and 0 for NaN.
    `tf.where` takes twice the time for a matrix and five times for a convolution, as it broadcasts.
    """
    return tf.raw_ops.Select(condition=kept, x=value, y=tf.zeros_like(value))
