"""`MaskedWeights`: masks as variables next to the weights, applied inside a training step."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.config import PruningConfig
from tf_prac.errors import ArgumentError, MismatchError
from tf_prac.keras_api import (
    FLAVOURS,
    Flavour,
    flavour_of,
    moving_average,
    named_weights,
    pruning_wrappers,
)
from tf_prac.pruning.masks import Masks
from tf_prac.pruning.weights import prunable_weights
from tf_prac.training.weight_files import contains_masks, is_legacy_h5, replacing


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


def _masked(value: tf.Tensor, kept: tf.Tensor) -> tf.Tensor:
    """Returns the kept elements, and 0 for the others.

    Unlike a product, this returns +0 for negative weights (-0 compresses badly) and 0 for NaN.
    `tf.where` takes twice the time for a matrix and five times for a convolution, as it broadcasts.
    """
    return tf.raw_ops.Select(condition=kept, x=value, y=tf.zeros_like(value))


class MaskedModelMixin:
    """Masks as part of the state of a Keras model: `PracModel`, and the models of `prune`.

    Keras does not count masks among the weights, so that optimizers, `summary` and `count_params`
    see the network alone. They are state all the same: `get_weights` and `set_weights` contain
    them, after the weights, every file format saves and loads them, and TensorFlow's checkpoints
    track them. After anything that writes weights, the masks are applied again. Weights of a plain
    model, without masks, are accepted; the current masks are then applied to them.

    A subclass calls `_set_masked_weights`; a loaded model calls `_set_mask_config`, and its
    `masked_weights` are created when they are first used, as its weights may not exist before.
    """

    _masked_weights: MaskedWeights | None = None
    _pruned_names: tuple[str, ...] = ()
    _mask_names: tuple[str, ...] = ()
    # Has the masks that the model owns as attributes, for TensorFlow to track; Keras does not see
    # them. Without a default, because tf_keras does not track attributes that the class has too.
    _mask_state: Any

    @classmethod
    def of_keras(cls, flavour: Flavour) -> type:
        """Returns the subclass for a Keras, registered with it for loading."""
        return flavour.register(flavour.subclass(cls, cls._keras_base(flavour)))

    @staticmethod
    def _keras_base(flavour: Flavour) -> type:
        """Returns the class of Keras that `of_keras` inherits from."""
        return flavour.module.Model

    @property
    def masked_weights(self) -> MaskedWeights:
        """The prunable variables and their masks as variables, for a custom training loop."""
        if self._masked_weights is None:
            self._set_masked_weights(self._masks_of_loaded_model())
        assert self._masked_weights is not None
        return self._masked_weights

    def _masks_of_loaded_model(self) -> MaskedWeights:
        """Returns the masks that the config describes.

        A config that version 0.1 wrote has no shapes of masks. They are then the non-zero elements
        of the weights, unless the file has masks.
        """
        network = getattr(self, "network", self)
        if network is not self and hasattr(network, "masked_weights"):
            return network.masked_weights
        by_name = {weight.name: weight.variable for weight in named_weights(network)}
        variables = {name: by_name[name] for name in self._pruned_names}
        masked = attach_masks(network, variables=variables, mask_variables=self._owned_masks())
        if not hasattr(self, "_mask_state"):
            masked.set_masks(_nonzero(masked))
        return masked

    def _set_masked_weights(self, masked: MaskedWeights) -> None:
        self._masked_weights = masked
        network = getattr(self, "network", self)
        if network is self or not hasattr(network, "masked_weights"):
            self._track_masks(_variables_of_own(masked, network))

    def _mask_config(self) -> dict[str, Any]:
        """Returns the names of the masked weights and the shapes of the model's own masks."""
        names = list(self.masked_weights.variables)
        shapes = {name: list(mask.shape) for name, mask in self._owned_masks().items()}
        return {"pruned": names, "masks": shapes}

    def _set_mask_config(
        self, pruned: Collection[str], masks: Mapping[str, Collection[int]] | None
    ) -> None:
        """Creates the masks of a model that is being loaded, dense, before its weights exist."""
        self._pruned_names = tuple(pruned)
        if masks is not None:
            shapes = enumerate(masks.items())
            self._track_masks({name: dense_mask(shape, n) for n, (name, shape) in shapes})

    def _track_masks(self, masks: Mapping[str, tf.Variable]) -> None:
        self._mask_names = tuple(masks)
        state = tf.__internal__.tracking.AutoTrackable()
        for number, mask in enumerate(masks.values()):
            setattr(state, f"mask_{number}", mask)
        self._mask_state = state

    def _owned_masks(self) -> dict[str, tf.Variable]:
        """Returns the mask variables that the model owns, by name of their weight."""
        if not hasattr(self, "_mask_state"):
            return {}
        names = enumerate(self._mask_names)
        return {name: getattr(self._mask_state, f"mask_{number}") for number, name in names}

    @property
    def prunable(self) -> dict[str, Any]:
        """The prunable variables, by name."""
        return self.masked_weights.variables

    @property
    def masks(self) -> Masks:
        """The current masks."""
        return self.masked_weights.masks

    def set_masks(self, masks: Masks) -> None:
        """Sets the masks and zeros the weights they prune, without retracing.

        Raises:
            MismatchError: If the masks are of another architecture.
        """
        self.masked_weights.set_masks(masks)

    def _masks_after_weights(self) -> list[Any]:
        """Returns the masks that follow the weights in `get_weights`: all but TFMOT's."""
        masks = [variables[0] for variables in self.masked_weights.mask_variables.values()]
        weights = {id(weight) for weight in self.weights}  # type: ignore[attr-defined]
        return [mask for mask in masks if id(mask) not in weights]

    def get_weights(self) -> list[np.ndarray]:
        """Returns the weights, followed by the masks as booleans.

        TFMOT's wrappers (tf_keras) have their masks among the weights.
        """
        weights = super().get_weights()  # type: ignore[misc]
        return [*weights, *(mask.numpy() for mask in self._masks_after_weights())]

    def set_weights(self, weights: Sequence[np.ndarray]) -> None:
        """Sets weights and masks, or only the weights, to which the current masks are applied.

        Args:
            weights: what `get_weights` of this model returned, or of the same model without masks.

        Raises:
            ValueError: If their number or shapes are not those of the model, from Keras.
            MismatchError: If a mask has elements other than zeros and ones; nothing is changed.
        """
        weights = list(weights)
        own: list[Any] = self.weights  # type: ignore[attr-defined]
        masks = self._masks_after_weights()
        values = weights[len(own) :] if len(weights) == len(own) + len(masks) else []
        for mask, value in zip(masks, values, strict=False):
            _check_mask(mask, value)
        plain = [weight.variable for weight in named_weights(self)]
        if len(weights) == len(plain) < len(own):  # of a model without TFMOT's wrappers
            kept = {id(variable) for variable in plain}
            replaced = iter(weights)
            weights = [next(replaced) if id(w) in kept else w.numpy() for w in own]
        super().set_weights(weights[: len(own)] if values else weights)  # type: ignore[misc]
        for mask, value in zip(masks, values, strict=False):
            mask.assign(np.asarray(value, bool))
        self.masked_weights.apply_masks()

    def save_own_variables(self, store: Any) -> None:
        """Saves the weights, and the masks with one bit per element."""
        self.masked_weights.apply_masks()  # the weights of the layers are saved afterwards
        super().save_own_variables(store)  # type: ignore[misc]
        for number, mask in enumerate(self.masks.values()):
            store[f"mask_{number}"] = np.packbits(mask)

    def load_own_variables(self, store: Any) -> None:
        """Loads the weights and the masks; keeps the masks if the file is of a plain model."""
        values = {key: np.asarray(store[key]) for key in list(store.keys())}
        packed = {key: values.pop(key) for key in list(values) if key.startswith("mask_")}
        super().load_own_variables(values)  # type: ignore[misc]
        if not packed:
            return
        masks = {}
        for number, (name, mask) in enumerate(self.masks.items()):
            bits = np.unpackbits(packed[f"mask_{number}"], count=mask.size)
            masks[name] = bits.reshape(mask.shape)
        self.set_masks(Masks(masks))

    def fit(self, *args: Any, **options: Any) -> Any:
        """Keras's own `fit`; the masks are applied before and after it."""
        self.masked_weights.apply_masks()
        history = super().fit(*args, **options)  # type: ignore[misc]
        self.masked_weights.apply_masks()  # to what callbacks wrote at the end
        return history

    def evaluate(self, *args: Any, **options: Any) -> Any:
        """Keras's own `evaluate`, after applying the masks."""
        self.masked_weights.apply_masks()
        return super().evaluate(*args, **options)  # type: ignore[misc]

    def predict(self, *args: Any, **options: Any) -> Any:
        """Keras's own `predict`, after applying the masks."""
        self.masked_weights.apply_masks()
        return super().predict(*args, **options)  # type: ignore[misc]

    def save(self, filepath: Any, overwrite: bool = True, *args: Any, **options: Any) -> Any:
        """Keras's own `save`; if it fails, an existing file stays as it is."""
        self.masked_weights.apply_masks()
        with replacing(filepath, overwrite) as path:
            return super().save(path, overwrite, *args, **options)  # type: ignore[misc]

    def save_weights(self, filepath: Any, overwrite: bool = True, **options: Any) -> Any:
        """Keras's own `save_weights`, with the masks."""
        self.masked_weights.apply_masks()
        legacy = is_legacy_h5(filepath, options.get("save_format"))
        with replacing(filepath, overwrite) as path, self._masks_among_weights(legacy):
            return super().save_weights(path, overwrite=overwrite, **options)  # type: ignore[misc]

    def load_weights(self, filepath: Any, *args: Any, **options: Any) -> Any:
        """Keras's own `load_weights`: weights and masks, or the weights of a plain model.

        The current masks are applied to weights from a file without masks.
        """
        has_masks, plain = contains_masks(filepath), self._plain_model()
        load = super().load_weights  # type: ignore[misc]
        if not has_masks and plain is not None:
            # A file that version 0.1 wrote may have the layers of this model and no masks.
            load = _first_of(plain.load_weights, load)
        with self._masks_among_weights(has_masks and is_legacy_h5(filepath)):
            status = load(filepath, *args, **options)
        self.masked_weights.apply_masks()
        return status

    def _plain_model(self) -> Any:
        """Returns a model without masks that shares the weights, or None if it has the same layers.

        Files of its weights have other names than those of this model.
        """
        return None

    @contextlib.contextmanager
    def _masks_among_weights(self, legacy: bool) -> Iterator[None]:
        """Adds the masks to the weights that tf_keras writes to and reads from a legacy file."""
        if not legacy or flavour_of(self).name == "keras":
            yield
            return
        weights = self._non_trainable_weights  # type: ignore[has-type]
        self._non_trainable_weights = [*weights, *self._masks_after_weights()]
        try:
            yield
        finally:
            self._non_trainable_weights = weights

    def __reduce__(self) -> Any:
        """Pickles the model as Keras does, so that it can be read before tf_prac is used."""
        reduced: Any = super().__reduce__()
        function, arguments, *rest = reduced
        if getattr(function, "__self__", None) is type(self):  # Keras 3: a class method
            function = getattr(flavour_of(self).module.Model, function.__name__)
        models = (self, getattr(self, "network", None))
        classes = [type(m).__mro__[1] for m in models if isinstance(m, MaskedModelMixin)]
        return (_unpickle, (classes, flavour_of(self).name, function, arguments), *rest)


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
        model: a built model of either flavour.
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
    return MaskedWeights(variables, masks)


def get_prunable(model: Any, config: PruningConfig | None = None) -> dict[str, Any]:
    """Returns the prunable variables of any model, by name: those that have masks, if it has any.

    Args:
        model: a built model of either flavour.
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
        model: a built model of either flavour.
        config: selects the prunable weights of a model without masks.
            Default `PruningConfig()`.

    Raises:
        ArgumentError: If the model has nothing to prune.
    """
    masked = getattr(model, "masked_weights", None)
    if masked is not None:
        return masked.masks
    weights = prunable_weights(model, config)
    if not pruning_wrappers(model):
        return Masks.ones_like(weights)
    from tf_prac.pruning import tfmot

    by_id = tfmot.masks_of_wrappers(model)
    return Masks({name: by_id[id(v)][0].numpy() != 0 for name, v in weights.items()})


def set_masks(model: Any, masks: Masks) -> None:
    """Sets the masks of a model that has some; does nothing to a model that has none.

    Args:
        model: a built model of either flavour.
        masks: masks by name of the weight; a prunable weight without one becomes dense.

    Raises:
        MismatchError: If a mask has another shape than its weight.
    """
    if has_masks(model):
        masked = attach_masks(model)
        dense = Masks.ones_like(masked.variables)
        masked.set_masks(Masks({name: masks.get(name, dense[name]) for name in dense}))


def has_masks(model: Any) -> bool:
    """Returns whether a model has masks, its own or those of TFMOT wrappers."""
    return hasattr(model, "masked_weights") or bool(pruning_wrappers(model))


def dense_mask(shape: Collection[int], number: int) -> tf.Variable:
    """Returns a boolean mask variable, number `number` of a model, that keeps every weight."""
    return tf.Variable(
        lambda: tf.ones(shape, tf.bool),  # after `loading` has checked the shape from a file
        shape=tuple(shape),
        trainable=False,
        name=f"mask_{number}",
    )


def _unpickle(classes: Sequence[type], flavour: str, function: Any, arguments: Any) -> Any:
    """Calls the function with which Keras restores a pickled model, after registering classes."""
    for cls in classes:
        cls.of_keras(Flavour(flavour))  # type: ignore[attr-defined]
    return function(*arguments)


def _first_of(load: Any, otherwise: Any) -> Any:
    """Returns a function that calls `load` and, if it fails, `otherwise`."""

    def load_either(*args: Any, **options: Any) -> Any:
        try:
            return load(*args, **options)
        except Exception:  # Kerases and their formats raise errors of many classes
            return otherwise(*args, **options)

    return load_either


def _nonzero(masked: MaskedWeights) -> Masks:
    """Returns the masks without the elements whose weight is 0."""
    nonzero = {name: variable.numpy() != 0 for name, variable in masked.variables.items()}
    return Masks({name: mask & nonzero[name] for name, mask in masked.masks.items()})


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
    keras_model = flavour_of(network).module.Model
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
    saving = flavour_of(model).module.saving
    network = saving.serialize_keras_object(model.network)
    return {"load_with": LOAD_WITH, "name": model.name, "network": network}


def network_from_config(
    cls: type, config: Mapping[str, Any], custom_objects: Any = None
) -> dict[str, Any]:
    """Returns the config of a wrapper of class `cls` with its network instead of its config."""
    layers = Flavour(cls.__bases__[1].__module__.split(".")[0]).module.layers
    network = layers.deserialize(config["network"], custom_objects)
    return {**{key: config[key] for key in config if key != "load_with"}, "network": network}


def keras_class(cls: type) -> type:
    """Returns the class to load for a class that is named in a file.

    tf_keras finds the class of this library by its module, without Keras's own as its base, in a
    process in which `tf_prac.load_model` and `prune` were not called.
    """
    if len(cls.__bases__) > 1:
        return cls
    loaded = [name for name in FLAVOURS if name in sys.modules]
    flavour = Flavour(loaded[0] if len(loaded) == 1 else "tf_keras")
    return cls.of_keras(flavour)  # type: ignore[attr-defined]


def _variables_of_own(masked: MaskedWeights, model: Any) -> dict[str, tf.Variable]:
    """Returns the mask variables that are not those of TFMOT's wrappers, by name."""
    wrapped = {id(weight) for weight in model.weights}
    masks = {name: variables[0] for name, variables in masked.mask_variables.items()}
    return {name: mask for name, mask in masks.items() if id(mask) not in wrapped}


def _check_mask(mask: tf.Variable, value: np.ndarray) -> None:
    """Raises `MismatchError` unless a value can be assigned to a mask."""
    if np.shape(value) != tuple(mask.shape):
        raise MismatchError(
            f"set_weights: received a mask of shape {np.shape(value)}; allowed: "
            f"{tuple(mask.shape)}. Use weights of a model of the same architecture."
        )
    if not np.isin(value, (0, 1)).all():
        raise MismatchError(
            "set_weights: received a mask with values other than 0 and 1; allowed: the masks that "
            "get_weights returned after the weights. To change only the weights, pass only the "
            "first len(model.weights) arrays; the current masks are applied to them."
        )
