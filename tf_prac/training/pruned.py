"""`prune`: a masked model of either flavour that is compiled, fitted and saved as usual."""

from __future__ import annotations

import functools
import json
import os
import zipfile
import zlib
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from tf_prac.config import PruningConfig
from tf_prac.errors import ArgumentError, DamagedFileError, FileError
from tf_prac.keras_api import (
    Flavour,
    flavour_of,
    named_weights,
    pruning_wrappers,
    structures,
    to_numpy,
)
from tf_prac.pruning import tfmot
from tf_prac.pruning.criteria import PruneRule
from tf_prac.pruning.masks import Masks
from tf_prac.pruning.sparsity_schedules import as_schedule
from tf_prac.pruning.weights import prunable_weights
from tf_prac.storage.files import check_name
from tf_prac.training.distribution import check_fit
from tf_prac.training.gradual import GradualPruning
from tf_prac.training.masked_weights import (
    MaskedModelMixin,
    MaskedWeights,
    attach_masks,
    has_masks,
    set_masks,
)
from tf_prac.training.prac_model import PracModel


def prune(
    model: Any,
    *,
    masks: Masks | None = None,
    ticket: Any = None,
    sparsity: float | None = None,
    schedule: Any = None,
    policy: Any = None,
    pruning: PruningConfig | None = None,
) -> Any:
    """Returns a model whose pruned weights are exactly 0 after every training step.

    The model is compiled, fitted, evaluated, saved and loaded (`tf_prac.load_model`) like any
    other, and needs no callback. It shares its layers with `model`, as with TFMOT's
    `prune_low_magnitude`. Layers of tf_keras models are wrapped by TFMOT's wrappers, so that
    TFMOT's own functions work on the result; existing wrappers are kept, with their masks. Keras 3
    models have no wrappers; their masks are stored next to the weights, in the saved file too.

    Pass at most one of `masks`, `ticket`, `sparsity` and `schedule`. Without any, the model keeps
    the masks it has, or gets dense ones; change them with `set_masks`.

    Example:

        >>> model = tf_prac.prune(network, sparsity=0.8)  # doctest: +SKIP
        >>> model.compile("adam", "sparse_categorical_crossentropy")
        >>> model.fit(x, y)
        >>> model.save("pruned.keras")
        >>> small = tf_prac.strip(model)

    Args:
        model: a built model of either flavour.
        masks: the masks to apply, such as `ticket.masks`; they select the prunable weights.
        ticket: a `Ticket`; sets the weights to its masked W_k and applies its masks.
        sparsity: prune now to this fraction of zeros among the prunable weights, in [0, 1), with
            weights ranked as configured by `pruning`.
        schedule: prune during `fit`: a `ConstantSparsity` or `PolynomialDecay`, of tf_prac or
            TFMOT. It counts steps of the optimizer. Masks change before a step, or with
            `steps_per_execution` before the next execution.
        policy: which layers to prune, as a `PruningPolicy` of TFMOT. Default: the policy that
            `pruning.policy` names.
        pruning: which weights are prunable, how they are ranked, and in what pattern they are
            pruned. Default `PruningConfig()`.

    Returns:
        A model with the property `masks` and the method `set_masks`. A functional or sequential
        model stays one; any other model is wrapped and available as `network`.

    Raises:
        ArgumentError: If more than one of masks, ticket, sparsity and schedule is given, the
            sparsity is below that of the current masks, there is nothing to prune, a pattern or
            policy does not suit the model, or its class overrides `train_step`.
        MismatchError: If masks or ticket are of another architecture.
    """
    flavour_of(model)
    options = {"masks": masks, "ticket": ticket, "sparsity": sparsity, "schedule": schedule}
    given = [name for name, value in options.items() if value is not None]
    if len(given) > 1:
        raise ArgumentError("prune", ", ".join(given), "one of " + ", ".join(options))
    pruning = pruning or PruningConfig()
    if ticket is not None:
        masks = ticket.masks
    rule = PruneRule(
        criterion=pruning.criterion,
        scope=pruning.scope,
        sparsity=sparsity,
        pattern=pruning.make_pattern(),
    )
    gradual = None if schedule is None else GradualPruning(as_schedule(schedule), rule)
    variables = _prunable_variables(model, masks, pruning, policy)
    initial_masks = _initial_masks(model, variables, rule, gradual)
    pruned = _masked_model(model, variables)
    pruned._gradual = gradual
    if ticket is not None:
        ticket.apply(pruned)
    elif masks is not None:
        set_masks(pruned, masks)
    else:
        pruned.set_masks(initial_masks)
    return pruned


def strip(model: Any) -> Any:
    """Returns the plain model of a pruned one: weights with zeros, without masks or wrappers.

    Takes a model that `prune` returned, a `PracModel`, or a model with TFMOT's own wrappers; any
    other model is returned unchanged. The layers are shared, not copied.

    Args:
        model: a model of either flavour.

    Raises:
        ArgumentError: If it is not a Keras model.
    """
    flavour_of(model)
    wrapped = bool(pruning_wrappers(model))
    if isinstance(model, (PracModel, _Pruned)) or wrapped:
        attach_masks(model).apply_masks()
    if isinstance(model, (PracModel, PrunedNetwork)):
        return strip(model.network)
    if wrapped:
        return tfmot.strip(model)
    return _plain_graph(model) if isinstance(model, _PrunedGraph) else model


def load_model(path: str | os.PathLike, **options: Any) -> Any:
    """Loads a saved model of either flavour, with its masks if it is pruned.

    After a call of this function or `prune`, Keras's own `load_model` loads pruned models too.

    Args:
        path: a `.keras` file, or a SavedModel directory of tf_keras.
        **options: passed to Keras's `load_model`.

    Raises:
        FileError: If the file does not exist or has a format that Keras does not write.
    """
    flavour = _flavour_of_file(os.fspath(path))
    classes = {cls.__name__: cls for cls in _register(flavour)}
    custom_objects = {**classes, **(options.pop("custom_objects", None) or {})}
    try:
        return flavour.module.models.load_model(path, custom_objects=custom_objects, **options)
    except ValueError as error:
        if "No cast function" not in str(error):
            raise
        raise FileError(
            f"{path}: tf_keras cannot read the weights in bfloat16 of a .keras file. Save the "
            "model as a SavedModel directory, or build it with weights in float32."
        ) from error


class _Pruned(MaskedModelMixin):
    """What `prune` adds to a Keras model: masks that are applied after each training step.

    Masks are saved with the weights. A format that cannot store them (a SavedModel, for layers
    without a TFMOT wrapper) still stores the weights, and the masks are their non-zero elements.
    """

    _names: tuple[str, ...] = ()
    _gradual: GradualPruning | None = None

    @property
    def masked_weights(self) -> MaskedWeights:
        """The prunable variables and their masks as variables, for a custom training loop."""
        if self._masked_weights is None:
            self._masked_weights = self._masks_of_loaded_weights()
        return self._masked_weights

    def _masks_of_loaded_weights(self) -> MaskedWeights:
        network = getattr(self, "network", self)
        by_name = {w.name: w.variable for w in named_weights(network)}
        masked = attach_masks(network, variables={n: by_name[n] for n in self._names})
        nonzero = {n: v.numpy() != 0 for n, v in masked.variables.items()}
        masked.set_masks(Masks({n: nonzero[n] & mask for n, mask in masked.masks.items()}))
        return masked

    def fit(self, *args: Any, callbacks: Any = None, **options: Any) -> Any:
        """Keras's own `fit`; with a schedule, masks are updated during training."""
        check_fit(self)
        if self._gradual is not None:
            callbacks = [*(callbacks or []), self._gradual]
        return super().fit(*args, callbacks=callbacks, **options)  # type: ignore[misc]

    def train_step(self, data: Any) -> Any:
        """Keras's own training step, followed by applying the masks."""
        logs = super().train_step(data)  # type: ignore[misc]
        self.masked_weights.apply_masks(self.optimizer)  # type: ignore[attr-defined]
        return logs

    def _pruning_config(self) -> dict[str, Any]:
        gradual = None if self._gradual is None else self._gradual.to_json()
        return {"pruned": list(self._names), "gradual": gradual}

    def _set_pruning_config(self, pruned: Collection[str], gradual: dict[str, Any] | None) -> None:
        self._names = tuple(pruned)
        self._gradual = None if gradual is None else GradualPruning.from_json(gradual)

    def save_own_variables(self, store: Any) -> None:
        """Saves the weights, and the masks with one bit per element."""
        super().save_own_variables(store)  # type: ignore[misc]
        for number, mask in enumerate(self.masks.values()):
            store[f"mask_{number}"] = np.packbits(mask)

    def load_own_variables(self, store: Any) -> None:
        """Loads the weights and the masks; keeps the masks if the file is of a plain model."""
        weights = {key: np.asarray(store[key]) for key in list(store.keys())}
        packed = {key: weights.pop(key) for key in list(weights) if key.startswith("mask_")}
        super().load_own_variables(weights)  # type: ignore[misc]
        if packed:
            masks = {}
            for number, (name, mask) in enumerate(self.masks.items()):
                bits = np.unpackbits(packed[f"mask_{number}"], count=mask.size)
                masks[name] = bits.reshape(mask.shape)
            self.set_masks(Masks(masks))


class _PrunedGraph(_Pruned):
    """A functional or sequential model with masks.

    Keras builds the model as one of its own class, then its class is replaced by this one. The
    constructor creates a plain model, so copies that Keras or TFMOT build are plain.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Creates a plain model."""
        return cls.__bases__[1](*args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """Keras's own config of the model, the names of the prunable weights and the schedule."""
        return {**super().get_config(), **self._pruning_config()}  # type: ignore[misc]

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """Creates a model from its `get_config`."""
        pruning_config = {key: config[key] for key in ("pruned", "gradual")}
        keras_config = {key: config[key] for key in config if key not in pruning_config}
        base: Any = cls.__bases__[1]
        model = base.from_config(keras_config, custom_objects)
        model.__class__ = cls
        model._set_pruning_config(**pruning_config)
        return model


class PrunedFunctional(_PrunedGraph):
    """A functional model that `prune` returned."""


class PrunedSequential(_PrunedGraph):
    """A sequential model that `prune` returned."""


class PrunedNetwork(_Pruned):
    """A wrapper that `prune` returns for any other model.

    Args:
        network: a built model of a user-defined subclass.
        pruned: the names of its prunable weights.
        gradual: the config of a `GradualPruning`. Default None.
        **options: passed to `keras.Model`.
    """

    def __new__(cls, network: Any, *args: Any, **kwargs: Any) -> Any:
        """Creates an instance of the subclass for the Keras of `network`."""
        if cls is not PrunedNetwork:
            return super().__new__(cls)
        return super().__new__(_register(flavour_of(network))[2])

    def __init__(self, network: Any, pruned: Collection[str], gradual: Any = None, **options: Any):
        super().__init__(**options)
        self.network = network
        self._set_pruning_config(pruned, gradual)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Runs the network."""
        return self.network(inputs, training=training)

    def get_config(self) -> dict[str, Any]:
        """The network, which Keras must be able to serialize, and the names of its weights."""
        saving = flavour_of(self).module.saving
        network = saving.serialize_keras_object(self.network)
        return {"name": self.name, "network": network, **self._pruning_config()}  # type: ignore[attr-defined]

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """Creates a model from its `get_config`."""
        saving = Flavour(cls.__bases__[1].__module__.split(".")[0]).module.saving
        network = saving.deserialize_keras_object(config["network"], custom_objects)
        return cls(**{**config, "network": network})


@functools.cache
def _register(flavour: Flavour) -> tuple[type, type, type]:
    """Creates the three classes of a flavour and registers them with its Keras, for loading."""
    if flavour.name == "tf_keras":
        tfmot.register()
    keras = flavour.module
    inputs = keras.Input((1,))
    bases = (
        (PrunedFunctional, type(keras.Model(inputs, inputs))),
        (PrunedSequential, keras.Sequential),
        (PrunedNetwork, keras.Model),
    )
    functional, sequential, other = (
        flavour.register(flavour.subclass(mixin, base)) for mixin, base in bases
    )
    return functional, sequential, other


def _masked_model(model: Any, variables: Mapping[str, Any]) -> Any:
    """Returns a model with dense masks for some of its weights, the variables by name."""
    if isinstance(model, _Pruned):
        return model
    flavour = flavour_of(model)
    functional, sequential, other = _register(flavour)
    graphs = {functional.__bases__[1]: functional, sequential.__bases__[1]: sequential}
    if type(model) in graphs:
        if flavour.name == "tf_keras":
            pruned = tfmot.wrap(model, list(variables.values()))
        else:
            pruned = _plain_graph(model)
        pruned.__class__ = graphs[type(model)]
    elif type(model).train_step is not flavour.module.Model.train_step:
        raise ArgumentError(
            "model",
            f"{type(model).__name__}, which overrides train_step",
            "a model with the train_step of Keras",
            "Apply masks at the end of your train_step, with tf_prac.MaskedWeights.",
        )
    else:
        pruned = other(model, variables)
    pruned._names = tuple(variables)
    pruned._masked_weights = attach_masks(getattr(pruned, "network", pruned), variables=variables)
    return pruned


def _plain_graph(model: Any) -> Any:
    """Returns a plain functional or sequential model with the layers of `model`."""
    base = type(model).__bases__[1] if isinstance(model, _PrunedGraph) else type(model)
    if "Functional" in base.__name__:
        return base(*structures(model), name=model.name)
    plain = base(model.layers, name=model.name)
    plain.build(model.input_shape)
    return plain


def _initial_masks(
    model: Any, variables: Mapping[str, Any], rule: PruneRule, gradual: GradualPruning | None
) -> Masks:
    """Returns the masks of a model, or dense ones, pruned further to the sparsity of the rule."""
    masks = attach_masks(model).masks if has_masks(model) else Masks.ones_like(variables)
    if gradual is not None:
        gradual.check(masks)
    if rule.sparsity is None and (gradual is not None or not rule.pattern.sets_sparsity):
        return masks
    return rule({name: to_numpy(v) for name, v in variables.items()}, masks)


def _prunable_variables(
    model: Any, masks: Masks | None, pruning: PruningConfig, policy: Any
) -> dict[str, Any]:
    """Returns the variables to mask: those of `masks` and of the model's masks, or of `pruning`."""
    if masks is None:
        return prunable_weights(model, pruning, policy)
    has_own = isinstance(model, _Pruned) or bool(pruning_wrappers(model))
    own = prunable_weights(model, pruning) if has_own else {}
    by_name = {w.name: w.variable for w in named_weights(model)}
    named = {name: v for name, v in by_name.items() if name in masks}
    masks.check_shapes({name: tuple(v.shape) for name, v in named.items()})
    return {name: v for name, v in by_name.items() if name in masks or name in own}


_ARCHIVE_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,  # an encrypted member, or an unknown compression
    TypeError,
    ValueError,
)


def _flavour_of_file(path: str) -> Flavour:
    """Returns the flavour that wrote a saved model."""
    check_name(path)
    if os.path.isdir(path):
        return Flavour("tf_keras")
    if not os.path.isfile(path):
        raise FileError(f"{path}: there is no such file.")
    if not zipfile.is_zipfile(path):
        raise FileError(f"{path}: neither a .keras file nor a SavedModel directory.")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # compares every member with its CRC-32
            version = json.loads(archive.read("metadata.json"))["keras_version"]
    except _ARCHIVE_ERRORS as error:
        raise DamagedFileError(f"{path}: damaged, not a .keras archive ({error}).") from error
    if damaged is not None:
        raise DamagedFileError(f"{path}: damaged, {damaged} does not have its checksum.")
    return Flavour("tf_keras" if str(version).startswith("2.") else "keras")
