"""`prune`: a masked model of either flavor that is compiled, fitted and saved as usual."""

from __future__ import annotations

import dataclasses
import functools
import os
import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tf_prac.config import PruningConfig
from tf_prac.errors import ArgumentError
from tf_prac.keras_api import (
    Flavor,
    flavor_of,
    named_weights,
    pruning_wrappers,
    structures,
    symbolic_inputs,
    to_numpy,
)
from tf_prac.loading.models import ModelFile
from tf_prac.pruning import tfmot
from tf_prac.pruning.criteria import PruneRule
from tf_prac.pruning.masks import Masks
from tf_prac.pruning.report import PruningReport
from tf_prac.pruning.sparsity_schedules import as_schedule
from tf_prac.pruning.weights import (
    FROZEN,
    prunable_weights,
    rewind,
    transposed_kernels,
    weight_report,
)
from tf_prac.storage.names import check_name
from tf_prac.training.gradual import GradualPruning, fit_arguments, with_schedule
from tf_prac.training.masked_model import MaskedModelMixin, network_of
from tf_prac.training.masked_weights import attach_masks, has_masks, set_masks
from tf_prac.training.prac_model import PracModel
from tf_prac.training.strategies import check_fit
from tf_prac.training.wrapped_network import (
    LOAD_WITH,
    check_no_overrides,
    keras_class,
    network_config,
    network_from_config,
)


def prune(
    model: Any,
    *,
    masks: Masks | None = None,
    ticket: Any = None,
    sparsity: float | None = None,
    schedule: Any = None,
    policy: Any = None,
    layers: Collection[str] | None = None,
    pruning: PruningConfig | None = None,
) -> Pruned:
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
        >>> model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        >>> model.fit(x, y)
        >>> model.save("pruned.keras")
        >>> small = tf_prac.strip(model)

    Args:
        model: a built model of either flavor.
        masks: the masks to apply, such as `ticket.masks`; they select the prunable weights.
        ticket: a `Ticket`; sets the weights to its masked W_k and applies its masks.
        sparsity: prune now to this fraction of zeros among the prunable weights, in [0, 1), with
            weights ranked as configured by `pruning`.
        schedule: prune during `fit`: a `ConstantSparsity` or `PolynomialDecay`, of tf_prac or
            TFMOT. It counts steps of the optimizer. Masks change before a step, or with
            `steps_per_execution` before the next execution.
        policy: which layers to prune, as a `PruningPolicy` of TFMOT. Default: the policy that
            `pruning.policy` names.
        layers: groups of layers to prune, of "conv", "dense", "depthwise", "embedding",
            "recurrent". Default: `pruning.layers`.
        pruning: which weights are prunable, how they are ranked, and in what pattern they are
            pruned. Default `PruningConfig()`.

    Returns:
        A model with the properties `masks` and `pruning_report` and the method `set_masks`. A
        functional or sequential model stays one; any other model is wrapped and available as
        `network`.

    Raises:
        ArgumentError: If more than one of masks, ticket, sparsity and schedule is given, `pruning`
            says how much is pruned too (`layer_rates`, `sparsities`, `sparsity_m_by_n`), the
            sparsity is below that of the current masks, there is nothing to prune, a pattern or
            policy does not suit the model, or its class overrides a training method such as
            `train_step` or `compute_loss`.
        MismatchError: If masks or ticket are of another architecture.

    Warns:
        UserWarning: If layers are skipped because they are frozen (`trainable=False`), or keep
            (almost) no weights of masks that are computed here.
    """
    if flavor_of(model).name == "tf_keras":
        tfmot.require_tfmot()
    options = {"masks": masks, "ticket": ticket, "sparsity": sparsity, "schedule": schedule}
    given = [name for name, value in options.items() if value is not None]
    if len(given) > 1:
        raise ArgumentError("prune", ", ".join(given), "one of " + ", ".join(options))
    pruning = pruning or PruningConfig()
    if layers is not None:
        pruning = dataclasses.replace(pruning, layers=tuple(layers))
    if sparsity is not None or schedule is not None:
        _check_no_amounts(pruning, *given)
    if ticket is not None:
        masks = ticket.masks
    rule = PruneRule(
        criterion=pruning.criterion,
        scope=pruning.scope,
        sparsity=sparsity,
        pattern=pruning.make_pattern().of_network(transposed_kernels(model)),
        min_layer_density=pruning.min_layer_density,
    )
    gradual = None if schedule is None else GradualPruning(as_schedule(schedule), rule)
    has_own = has_masks(model)
    variables = _prunable_variables(model, masks, pruning, policy)
    initial_masks = _initial_masks(model, variables, rule, gradual)
    pruned = _masked_model(model, variables)
    pruned._gradual = gradual
    if ticket is not None:
        rewind(network_of(pruned), ticket.weights, ticket.masks)
    if masks is not None:
        set_masks(pruned, masks)
    else:
        pruned.set_masks(initial_masks)
    if masks is None and not has_own:
        _warn_of_frozen(model, pruning, policy)
    if masks is None and ticket is None:
        pruned.pruning_report.warn_of_dead_layers()
    return pruned


def strip(model: Any) -> Any:
    """Returns the plain model of a pruned one: weights with zeros, without masks or wrappers.

    Takes a model that `prune` returned, a `PracModel`, or a model with TFMOT's own wrappers; any
    other model is returned unchanged. The layers are shared, not copied.

    Example:

        >>> import keras
        >>> layers = [keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(1)]
        >>> plain = strip(prune(keras.Sequential(layers), sparsity=0.5))
        >>> float((plain.get_weights()[0] == 0).mean())
        0.5

    Args:
        model: a model of either flavor.

    Raises:
        ArgumentError: If it is not a Keras model.
    """
    flavor_of(model)
    wrapped = bool(pruning_wrappers(model))
    if isinstance(model, (PracModel, Pruned)) or wrapped:
        attach_masks(model).apply_masks()
    if isinstance(model, (PracModel, PrunedNetwork)):
        return strip(model.network)
    if wrapped:
        return _without_pruned_parts(tfmot.strip(model))
    return _without_pruned_parts(_plain_graph(model) if isinstance(model, _PrunedGraph) else model)


def _without_pruned_parts(model: Any) -> Any:
    """Returns a functional or sequential model with plain models in place of pruned ones in it."""
    if structures(model)[0] is None or not any(isinstance(e, Pruned) for e in model.layers):
        return model

    def plain(layer: Any) -> Any:
        return strip(layer) if isinstance(layer, Pruned) else layer

    return flavor_of(model).module.models.clone_model(model, clone_function=plain)


def load_model(path: str | os.PathLike, **options: Any) -> Any:
    """Loads a saved model of either flavor, with its masks if it is pruned.

    The file is checked before Keras reads it: it may name Keras's own classes, the classes and
    functions that are registered with `register_keras_serializable`, and those in
    `custom_objects`. Layers that contain code, such as Lambda, are refused. After a call of this
    function or `prune`, Keras's own `load_model` loads pruned models too, without these checks.

    Example:

        >>> model = load_model("pruned.keras", custom_objects={"Mine": Mine})  # doctest: +SKIP

    Args:
        path: a `.keras` file, or a SavedModel directory of tf_keras.
        **options: passed to Keras's `load_model`, such as `custom_objects` and `compile`. With
            `safe_mode=False`, the file may run any code; use it only for files of your own.

    Raises:
        UnsafeFileError: If the file names other classes or functions, or declares more variables
            than it has weights.
        FileError: If the file does not exist, is damaged, or cannot be loaded by Keras.
    """
    check_name(path)
    file = ModelFile(path)
    known = {cls.__name__: cls for cls in register_classes(file.flavor)}
    if file.flavor.name == "tf_keras":
        known |= tfmot.custom_objects()
    return file.load({**known, **(options.pop("custom_objects", None) or {})}, **options)


class Pruned(MaskedModelMixin):
    """What `prune` adds to a Keras model: masks that are applied after each training step.

    The other methods and properties are those of the Keras model.

    Attributes:
        masked_weights: the prunable variables and their masks as variables.
        masks: the current masks.
        prunable: the prunable variables, by name.
    """

    # Provided by Keras.
    name: str
    compile: Any
    optimizer: Any
    layers: list[Any]
    weights: list[Any]
    _gradual: GradualPruning | None = None

    @classmethod
    def of_keras(cls, flavor: Flavor) -> type:
        """Returns the subclass for a Keras, registered with it for loading, as are wrappers."""
        if flavor.name == "tf_keras":
            tfmot.register()
        return super().of_keras(flavor)

    @property
    def pruning_report(self) -> PruningReport:
        """The overall sparsity and that of each layer."""
        return PruningReport.of(self.masks)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {self.pruning_report}>"

    def fit(self, *args: Any, **options: Any) -> Any:
        """Keras's own `fit`; with a schedule, masks are updated during training."""
        check_fit(self)
        arguments = fit_arguments(self, *args, **options)
        return super().fit(**with_schedule(arguments, self, self._gradual))

    def train_step(self, data: Any) -> Any:
        """Keras's own training step, followed by applying the masks."""
        logs = super().train_step(data)  # type: ignore[misc]
        self.masked_weights.apply_masks(self.optimizer)
        return logs

    def _pruning_config(self) -> dict[str, Any]:
        gradual = None if self._gradual is None else self._gradual.to_json()
        return {**self._mask_config(), "gradual": gradual}

    def _set_pruning_config(
        self,
        pruned: Collection[str],
        gradual: dict[str, Any] | None,
        masks: Mapping[str, Collection[int]] | None = None,
    ) -> None:
        self._set_mask_config(pruned, masks)
        self._gradual = None if gradual is None else GradualPruning.from_json(gradual)


class _PrunedGraph(Pruned):
    """A functional or sequential model with masks.

    Keras builds the model as one of its own class, then its class is replaced by this one. The
    constructor creates a plain model, so copies that Keras or TFMOT build (`clone_model`) are
    plain.
    """

    output_names: list[str]
    _kept_output_names: list[str] | None = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Creates a plain model."""
        return cls.__bases__[1](*args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """Keras's own config of the model, the names of the prunable weights and the schedule."""
        keras_config = super().get_config()  # type: ignore[misc]
        config = {"load_with": LOAD_WITH, **keras_config, **self._pruning_config()}
        return config | (
            {"output_names": self._kept_output_names} if self._kept_output_names else {}
        )

    def _keep_output_names(self, names: Sequence[str] | None) -> None:
        """Names the outputs as before wrapping (tf_keras): losses and targets are given by name."""
        if names and list(names) != list(self.output_names):
            self._kept_output_names = self.output_names = list(names)

    def _plain_model(self) -> Any:
        return tfmot.strip(self) if pruning_wrappers(self) else _plain_graph(self)

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """Creates a model from its `get_config`."""
        cls = keras_class(cls)
        config = {key: config[key] for key in config if key != "load_with"}
        output_names = config.pop("output_names", None)
        keys = ("pruned", "masks", "gradual")
        pruning_config = {key: config[key] for key in keys if key in config}
        keras_config = {key: config[key] for key in config if key not in pruning_config}
        base: Any = cls.__bases__[1]
        model = base.from_config(keras_config, custom_objects)
        model.__class__ = cls
        model._set_pruning_config(**pruning_config)
        model._keep_output_names(output_names)
        return model


class PrunedFunctional(_PrunedGraph):
    """A functional model that `prune` returned."""

    @staticmethod
    def _keras_base(flavor: Flavor) -> type:
        return _functional_class(flavor)


class PrunedSequential(_PrunedGraph):
    """A sequential model that `prune` returned."""

    @staticmethod
    def _keras_base(flavor: Flavor) -> type:
        return flavor.module.Sequential


class PrunedNetwork(Pruned):
    """A wrapper that `prune` returns for any other model.

    Args:
        network: a built model of a user-defined subclass.
        pruned: the names of its prunable weights.
        gradual: the config of a `GradualPruning`. Default None.
        masks: the shapes of the masks to create, by name. Default None: those of the weights.
        **options: passed to `keras.Model`.
    """

    def __new__(cls, network: Any, *args: Any, **kwargs: Any) -> Any:
        """Creates an instance of the subclass for the Keras of `network`."""
        if cls is not PrunedNetwork:
            return super().__new__(cls)
        return super().__new__(cls.of_keras(flavor_of(network)))

    def __init__(
        self,
        network: Any,
        pruned: Collection[str],
        gradual: Any = None,
        masks: Mapping[str, Collection[int]] | None = None,
        **options: Any,
    ):
        super().__init__(**options)
        self.network = network
        if (names := getattr(network, "output_names", None)) is not None:
            self.output_names = names  # Keras maps losses and targets to outputs by these names.
        self._set_pruning_config(pruned, gradual, masks)
        self.built = bool(network.built)

    def _plain_model(self) -> Any:
        return self.network

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Runs the network."""
        return self.network(inputs, training=training)

    def get_config(self) -> dict[str, Any]:
        """The network, which Keras must be able to serialize, and the names of its weights."""
        return {**network_config(self), **self._pruning_config()}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """Creates a model from its `get_config`."""
        cls = keras_class(cls)
        return cls(**network_from_config(cls, config, custom_objects))


@functools.cache
def _functional_class(flavor: Flavor) -> type:
    """Returns the class of functional models, which not every Keras exports."""
    inputs = flavor.module.Input((1,))
    outputs = flavor.module.layers.Activation("linear", name="outputs")(inputs)
    return type(flavor.module.Model(inputs, outputs))  # Keras 3.12 refuses the inputs as outputs


def register_classes(flavor: Flavor) -> tuple[type, ...]:
    """Creates the classes of a flavor's masked models and registers them with its Keras."""
    classes = (PrunedFunctional, PrunedSequential, PrunedNetwork, PracModel)
    return tuple(cls.of_keras(flavor) for cls in classes)


def _masked_model(model: Any, variables: Mapping[str, Any]) -> Any:
    """Returns a model with dense masks for some of its weights, the variables by name."""
    if isinstance(model, Pruned):
        return model
    flavor = flavor_of(model)
    functional, sequential, other, _ = register_classes(flavor)
    graphs = {functional.__bases__[1]: functional, sequential.__bases__[1]: sequential}
    if type(model) in graphs:
        if flavor.name == "tf_keras":
            pruned = tfmot.wrap(model, list(variables.values()))
        else:
            pruned = _plain_graph(model)
        names = getattr(model, "output_names", None)
        pruned.__class__ = graphs[type(model)]
        pruned._keep_output_names(names)
    else:
        check_no_overrides(model)
        pruned = other(model, variables)
    network = network_of(pruned)
    pruned._set_masked_weights(attach_masks(network, variables=variables))
    return pruned


def _plain_graph(model: Any) -> Any:
    """Returns a plain functional or sequential model with the layers of `model`."""
    base = type(model).__bases__[1] if isinstance(model, _PrunedGraph) else type(model)
    if "Functional" in base.__name__:
        return base(*structures(model), name=model.name)
    inputs = symbolic_inputs(model) if flavor_of(model).name == "keras" else []
    plain = base([*inputs, *model.layers], name=model.name)
    if not inputs:
        plain.build(model.input_shape)
    return plain


def _check_no_amounts(pruning: PruningConfig, given: str) -> None:
    """Raises `ArgumentError` if options that `given` would replace say how much is pruned."""
    if pruning.sets_sparsity:
        remedy = "The pattern of `pruning` alone determines how many weights are pruned."
        name = "sparsity_m_by_n" if pruning.sparsity_m_by_n else "pattern"
        raise ArgumentError("prune", f"{given} and {name}", "one of the two", remedy)
    for name in ("layer_rates", "sparsities"):
        if getattr(pruning, name):
            remedy = f"Leave {name} out of `pruning`; a search uses it."
            raise ArgumentError("prune", f"{given} and {name}", "one of the two", remedy)


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
    has_own = isinstance(model, Pruned) or bool(pruning_wrappers(model))
    own = prunable_weights(model, pruning) if has_own else {}
    by_name = {w.name: w.variable for w in named_weights(model)}
    named = {name: v for name, v in by_name.items() if name in masks}
    masks.check_shapes({name: tuple(v.shape) for name, v in named.items()})
    return {name: v for name, v in by_name.items() if name in masks or name in own}


def _warn_of_frozen(model: Any, pruning: PruningConfig, policy: Any) -> None:
    frozen = [i.name for i in weight_report(model, pruning, policy) if i.reason == FROZEN]
    if frozen:
        warnings.warn(
            f"prune: {len(frozen)} kernels of frozen layers stay dense (trainable=False), "
            f"{frozen[0]} and so on. To prune them too, set trainable=True before.",
            stacklevel=3,
        )
