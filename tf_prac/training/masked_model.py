"""`MaskedModelMixin`: masks as state of a Keras model, in its weights and in its files."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.errors import MismatchError
from tf_prac.keras_api import Flavor, flavor_of, named_weights
from tf_prac.pruning.masks import Masks
from tf_prac.training.masked_weights import MaskedWeights, attach_masks, dense_mask
from tf_prac.training.weight_files import contains_masks, is_legacy_h5, replacing


def network_of(model: Any) -> Any:
    """Returns the network that a wrapper of this library trains; another model is its own.

    A model of the user may have an attribute `network`, which is only a part of it.
    """
    return getattr(model, "network", model) if isinstance(model, MaskedModelMixin) else model


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
    def of_keras(cls, flavor: Flavor) -> type:
        """Returns the subclass for a Keras, registered with it for loading."""
        return flavor.register(flavor.subclass(cls, cls._keras_base(flavor)))

    @staticmethod
    def _keras_base(flavor: Flavor) -> type:
        """Returns the class of Keras that `of_keras` inherits from."""
        return flavor.module.Model

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
        network = network_of(self)
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
        network = network_of(self)
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
        if not legacy or flavor_of(self).name == "keras":
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
            function = getattr(flavor_of(self).module.Model, function.__name__)
        models = (self, getattr(self, "network", None))
        classes = [type(m).__mro__[1] for m in models if isinstance(m, MaskedModelMixin)]
        return (_unpickle, (classes, flavor_of(self).name, function, arguments), *rest)


def _unpickle(classes: Sequence[type], flavor: str, function: Any, arguments: Any) -> Any:
    """Calls the function with which Keras restores a pickled model, after registering classes."""
    for cls in classes:
        cls.of_keras(Flavor(flavor))  # type: ignore[attr-defined]
    return function(*arguments)


def _first_of(load: Any, otherwise: Any) -> Any:
    """Returns a function that calls `load` and, if it fails, `otherwise`."""

    def load_either(*args: Any, **options: Any) -> Any:
        try:
            return load(*args, **options)
        except Exception:  # Keras flavors and their formats raise errors of many classes
            return otherwise(*args, **options)

    return load_either


def _nonzero(masked: MaskedWeights) -> Masks:
    """Returns the masks without the elements whose weight is 0."""
    nonzero = {name: variable.numpy() != 0 for name, variable in masked.variables.items()}
    return Masks({name: mask & nonzero[name] for name, mask in masked.masks.items()})


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
