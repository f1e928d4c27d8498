"""`prune`: a model of either flavour with masks that hold, compiled, fitted and saved as usual."""

from __future__ import annotations

import functools
import json
import os
import zipfile
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from tf_prac.config import PruningConfig
from tf_prac.errors import ArgumentError, FileError
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
from tf_prac.pruning.patterns import get_pattern
from tf_prac.pruning.sparsity_schedules import as_schedule
from tf_prac.pruning.weights import prunable_weights
from tf_prac.training.distribution import check_fit
from tf_prac.training.gradual import Gradual
from tf_prac.training.masked_weights import HeldMasks, held_masks, hold_weights, put_masks
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

    It is compiled, fitted, evaluated, saved and loaded (`tf_prac.load_model`) like any other, and
    needs no callback. It shares its layers with `model`, as TFMOT's `prune_low_magnitude` does.
    Layers of tf_keras models get TFMOT's wrappers, so that TFMOT's own functions work on the
    result; those of a model that has such wrappers already stay, with their masks. Keras 3
    models have no wrappers; masks lie beside the weights, and in the saved file.

    Example:

        >>> model = tf_prac.prune(network, sparsity=0.8)  # doctest: +SKIP
        >>> model.compile("adam", "sparse_categorical_crossentropy")
        >>> model.fit(x, y)
        >>> model.save("pruned.keras")
        >>> small = tf_prac.strip(model)

    Args:
        model: a built model of either flavour.
        masks: masks to hold, such as `ticket.masks`; the weights they name are the pruned ones.
        ticket: a `Ticket`: sets weights to its masked W_k and holds its masks.
        sparsity: prune at once, as `pruning` ranks weights, until this fraction of the prunable
            ones is 0, in [0, 1).
        schedule: prune during `fit`: a `ConstantSparsity` or `PolynomialDecay`, of tf_prac or
            TFMOT. Its steps are those of the optimizer; masks change before a step, and with
            `steps_per_execution` before the next execution. Default, without any of these: the
            masks that the model brings, or dense ones, to be changed by `set_masks`.
        policy: which layers to prune, as TFMOT's `PruningPolicy` says it. Default: what
            `pruning.policy` names.
        pruning: which weights are prunable, how they are ranked, and in what pattern they are
            pruned. Default `PruningConfig()`.

    Returns:
        A model with the attribute `masks` and the method `set_masks`. A functional or sequential
        model stays one; another is wrapped, its own object being `network`.

    Raises:
        ArgumentError: more than one of masks, ticket, sparsity and schedule; a sparsity below
            that of the masks in force; nothing to prune; a pattern or policy that does not suit
            the model; a model with a training step of its own.
        MismatchError: masks or a ticket of another architecture.
    """
    flavour_of(model)
    given = {"masks": masks, "ticket": ticket, "sparsity": sparsity, "schedule": schedule}
    chosen = [name for name, value in given.items() if value is not None]
    if len(chosen) > 1:
        raise ArgumentError("prune", ", ".join(chosen), "one of " + ", ".join(given))
    pruning = pruning or PruningConfig()
    if ticket is not None:
        masks = ticket.masks
    rule = PruneRule(
        criterion=pruning.criterion,
        scope=pruning.scope,
        sparsity=sparsity,
        pattern=get_pattern(pruning),
    )
    gradual = None if schedule is None else Gradual(as_schedule(schedule), rule)
    variables = _variables(model, masks, pruning, policy)
    start = _start_masks(model, variables, rule, gradual)
    pruned = _pruned(model, variables)
    pruned._gradual = gradual
    if ticket is not None:
        ticket.apply(pruned)
    elif masks is not None:
        put_masks(pruned, masks)
    else:
        pruned.set_masks(start)
    return pruned


def strip(model: Any) -> Any:
    """Returns the plain model of a pruned one, with zeros in place and no trace of pruning.

    Takes models of `prune`, a `PracModel`, and models with TFMOT's own wrappers; anything else
    is returned as it is. The layers are shared, not copied.

    Raises:
        ArgumentError: not a Keras model.
    """
    flavour_of(model)
    wrapped = bool(pruning_wrappers(model))
    if isinstance(model, (PracModel, _Pruned)) or wrapped:
        held_masks(model).hold()
    if isinstance(model, (PracModel, PrunedNetwork)):
        return strip(model.network)
    if wrapped:
        return tfmot.strip(model)
    return _again(model) if isinstance(model, _PrunedGraph) else model


def load_model(path: str | os.PathLike, **options: Any) -> Any:
    """Loads a saved model of either flavour, with its masks in force if it is pruned.

    Once this or `prune` has been called, Keras's own `load_model` knows pruned models too.

    Args:
        path: a `.keras` file, or a SavedModel directory of tf_keras.
        **options: for Keras's `load_model`.

    Raises:
        FileError: there is no such file, or Keras writes none like it.
    """
    flavour = _flavour_of_file(os.fspath(path))
    classes = {cls.__name__: cls for cls in _register(flavour)}
    own = options.pop("custom_objects", None) or {}
    return flavour.module.models.load_model(path, custom_objects={**classes, **own}, **options)


class _Pruned:
    """What the models of `prune` add to a Keras model: masks, held after each training step.

    Masks are saved with the weights. Where a format has no place for them (a SavedModel, for
    layers without a TFMOT wrapper), the weights that are 0 give them back.
    """

    _names: tuple[str, ...] = ()
    _held: HeldMasks | None = None
    _gradual: Gradual | None = None

    @property
    def held_masks(self) -> HeldMasks:
        """The masks as variables, for a training loop of one's own."""
        if self._held is None:
            network = getattr(self, "network", self)
            by_name = {w.name: w.variable for w in named_weights(network)}
            self._held = hold_weights(network, {n: by_name[n] for n in self._names})
            zeros = {n: v.numpy() != 0 for n, v in self._held.variables.items()}
            self._held.set(Masks({n: zeros[n] & m for n, m in self._held.get().items()}))
        return self._held

    @property
    def prunable(self) -> dict[str, Any]:
        """The prunable variables, by name."""
        return self.held_masks.variables

    @property
    def masks(self) -> Masks:
        """The masks in force."""
        return self.held_masks.get()

    def set_masks(self, masks: Masks) -> None:
        """Puts other masks in force, and zeros what they prune; nothing is compiled anew.

        Raises:
            MismatchError: the masks are of another architecture.
        """
        self.held_masks.set(masks)

    def fit(self, *args: Any, callbacks: Any = None, **options: Any) -> Any:
        """Keras's own `fit`; with a schedule, masks are updated on the way."""
        check_fit(self)
        if self._gradual is not None:
            callbacks = [*(callbacks or []), self._gradual]
        return super().fit(*args, callbacks=callbacks, **options)  # type: ignore[misc]

    def train_step(self, data: Any) -> Any:
        """Keras's own training step, then masks held."""
        logs = super().train_step(data)  # type: ignore[misc]
        self.held_masks.hold(self.optimizer)  # type: ignore[attr-defined]
        return logs

    def _own_config(self) -> dict[str, Any]:
        gradual = None if self._gradual is None else self._gradual.to_json()
        return {"pruned": list(self._names), "gradual": gradual}

    def _restore(self, pruned: Collection[str], gradual: dict[str, Any] | None) -> None:
        self._names = tuple(pruned)
        self._gradual = None if gradual is None else Gradual.from_json(gradual)

    def save_own_variables(self, store: Any) -> None:
        """Saves the masks too, a bit for each weight."""
        super().save_own_variables(store)  # type: ignore[misc]
        for number, mask in enumerate(self.masks.values()):
            store[f"mask_{number}"] = np.packbits(mask)

    def load_own_variables(self, store: Any) -> None:
        """Puts the saved masks in force; those of a plain model's weights are left as they are."""
        saved = {key: np.asarray(store[key]) for key in list(store.keys())}
        packed = {key: saved.pop(key) for key in list(saved) if key.startswith("mask_")}
        super().load_own_variables(saved)  # type: ignore[misc]
        if packed:
            masks = {}
            for number, (name, mask) in enumerate(self.masks.items()):
                bits = np.unpackbits(packed[f"mask_{number}"], count=mask.size)
                masks[name] = bits.reshape(mask.shape)
            self.set_masks(Masks(masks))


class _PrunedGraph(_Pruned):
    """A functional or sequential model that holds masks.

    Its class is put in place of Keras's own after Keras has built the model, and its constructor
    makes a plain model. So a copy that Keras or TFMOT builds of it is plain.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Makes a plain model."""
        return cls.__bases__[1](*args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """Keras's own description of the model, with the names of the pruned weights."""
        return {**super().get_config(), **self._own_config()}  # type: ignore[misc]

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """Builds the model that `get_config` describes."""
        own = {key: config[key] for key in ("pruned", "gradual")}
        rest = {key: value for key, value in config.items() if key not in own}
        model = cls.__bases__[1].from_config(rest, custom_objects)  # type: ignore[attr-defined]
        model.__class__ = cls
        model._restore(**own)
        return model


class PrunedFunctional(_PrunedGraph):
    """A functional model of `prune`."""


class PrunedSequential(_PrunedGraph):
    """A sequential model of `prune`."""


class PrunedNetwork(_Pruned):
    """Any other model of `prune`, wrapped.

    Args:
        network: a built model of a user's own class.
        pruned: the names of its pruned weights.
    """

    def __new__(cls, network: Any, *args: Any, **kwargs: Any) -> Any:
        """Chooses the subclass whose Keras is that of `network`."""
        if cls is not PrunedNetwork:
            return super().__new__(cls)
        return super().__new__(_register(flavour_of(network))[2])

    def __init__(self, network: Any, pruned: Collection[str], gradual: Any = None, **options: Any):
        super().__init__(**options)
        self.network = network
        self._restore(pruned, gradual)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Runs the network."""
        return self.network(inputs, training=training)

    def get_config(self) -> dict[str, Any]:
        """The network, which must be one that Keras can save, and the names of pruned weights."""
        saving = flavour_of(self).module.saving
        network = saving.serialize_keras_object(self.network)
        return {"name": self.name, "network": network, **self._own_config()}  # type: ignore[attr-defined]

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """Builds the model that `get_config` describes."""
        saving = Flavour(cls.__bases__[1].__module__.split(".")[0]).module.saving
        network = saving.deserialize_keras_object(config["network"], custom_objects)
        return cls(**{**config, "network": network})


@functools.cache
def _register(flavour: Flavour) -> tuple[type, type, type]:
    """Makes the three classes of a flavour, which can load them from then on."""
    if flavour.name == "tf_keras":
        tfmot.register()
    keras = flavour.module
    tensor = keras.Input((1,))
    bases = (
        (PrunedFunctional, type(keras.Model(tensor, tensor))),
        (PrunedSequential, keras.Sequential),
        (PrunedNetwork, keras.Model),
    )
    functional, sequential, other = (
        flavour.register(flavour.subclass(mixin, base)) for mixin, base in bases
    )
    return functional, sequential, other


def _pruned(model: Any, variables: Mapping[str, Any]) -> Any:
    """Returns a model that holds masks for some of its weights."""
    if isinstance(model, _Pruned):
        return model
    flavour = flavour_of(model)
    functional, sequential, other = _register(flavour)
    graphs = {functional.__bases__[1]: functional, sequential.__bases__[1]: sequential}
    if type(model) in graphs:
        wraps = flavour.name == "tf_keras"
        pruned = tfmot.wrap(model, list(variables.values())) if wraps else _again(model)
        pruned.__class__ = graphs[type(model)]
    elif type(model).train_step is not flavour.module.Model.train_step:
        raise ArgumentError(
            "model",
            f"{type(model).__name__}, which has a train_step of its own",
            "a model that trains as Keras does",
            "Hold masks at the end of your train_step, with tf_prac.HeldMasks.",
        )
    else:
        pruned = other(model, variables)
    pruned._names = tuple(variables)
    pruned._held = hold_weights(getattr(pruned, "network", pruned), variables)
    return pruned


def _again(model: Any) -> Any:
    """Returns a plain functional or sequential model with the layers of `model`."""
    base = type(model).__bases__[1] if isinstance(model, _PrunedGraph) else type(model)
    if "Functional" in base.__name__:
        return base(*structures(model), name=model.name)
    again = base(model.layers, name=model.name)
    again.build(model.input_shape)
    return again


def _start_masks(
    model: Any, variables: Mapping[str, Any], rule: PruneRule, gradual: Gradual | None
) -> Masks:
    """The masks that a model brings, pruned to the sparsity asked for at once."""
    brings = hasattr(model, "held_masks") or bool(pruning_wrappers(model))
    masks = held_masks(model).get() if brings else Masks.ones_like(variables)
    if gradual is not None:
        gradual.check(masks)
    if rule.sparsity is None and (gradual is not None or not rule.pattern.sets_sparsity):
        return masks
    return rule({name: to_numpy(v) for name, v in variables.items()}, masks)


def _variables(
    model: Any, masks: Masks | None, pruning: PruningConfig, policy: Any
) -> dict[str, Any]:
    """The weights to hold: those that masks name, those that the model brings, or `pruning`'s."""
    brings = isinstance(model, _Pruned) or bool(pruning_wrappers(model))
    if masks is None:
        return prunable_weights(model, pruning, policy)
    brought = prunable_weights(model, pruning) if brings else {}
    by_name = {w.name: w.variable for w in named_weights(model)}
    named = {name: v for name, v in by_name.items() if name in masks}
    masks.check_shapes({name: tuple(v.shape) for name, v in named.items()})
    return {name: v for name, v in by_name.items() if name in masks or name in brought}


def _flavour_of_file(path: str) -> Flavour:
    """The Keras that wrote a saved model."""
    if os.path.isdir(path):
        return Flavour("tf_keras")
    if not os.path.isfile(path):
        raise FileError(f"{path}: there is no such file.")
    if not zipfile.is_zipfile(path):
        raise FileError(f"{path}: neither a .keras file nor a SavedModel directory.")
    with zipfile.ZipFile(path) as archive:
        version = json.loads(archive.read("metadata.json"))["keras_version"]
    return Flavour("tf_keras" if str(version).startswith("2.") else "keras")
