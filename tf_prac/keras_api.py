"""The only module that knows both Kerases.

`keras` (Keras 3) and `tf_keras` (Keras 2, which TensorFlow Model Optimization needs) can be used
in one process. The flavour is a property of each model or layer, not of the process, and a package
is imported only when it is needed.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import json
import logging
import random
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from tf_prac.checks import check_choice, class_path
from tf_prac.errors import ArgumentError
from tf_prac.extras import require

FLAVOURS = ("keras", "tf_keras")


class Flavour:
    """One of the two Kerases, `keras` (Keras 3) or `tf_keras` (Keras 2).

    Example:

        >>> Flavour("keras").module.__name__
        'keras'

    Args:
        name: "keras" or "tf_keras".

    Raises:
        ArgumentError: If there is no such flavour.
    """

    def __init__(self, name: str):
        check_choice("keras", name, FLAVOURS)
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
        return isinstance(other, Flavour) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"Flavour({self.name!r})"

    def register(self, cls: type) -> type:
        """Registers a class for loading saved models, and returns it."""
        return _registered(self.name, cls)


@functools.cache
def _subclass(flavour: str, mixin: type, base: type) -> type:
    return type(mixin.__name__, (mixin, base), {"__module__": mixin.__module__})


@functools.cache
def _registered(flavour: str, cls: type) -> type:
    return Flavour(flavour).module.saving.register_keras_serializable("tf_prac")(cls)


def flavour_of(model: Any) -> Flavour:
    """Returns the flavour of a Keras model or layer.

    Raises:
        ArgumentError: If the object is from neither Keras.
    """
    for name in FLAVOURS:
        module = sys.modules.get(name)
        if module is not None and isinstance(model, module.layers.Layer):
            return Flavour(name)
    allowed = "a model built with keras (Keras 3) or tf_keras (Keras 2)"
    raise ArgumentError("model", class_path(model), allowed)


def seed_everything(seed: int) -> None:
    """Seeds Python, NumPy, TensorFlow and each imported Keras, so initial weights are fixed."""
    import tensorflow as tf

    random.seed(seed)
    np.random.seed(seed)
    tf.random.set_seed(seed)
    for name in FLAVOURS:
        if name in sys.modules:
            sys.modules[name].utils.set_random_seed(seed)


def new_network(model_fn: Callable[[], Any], mixed_precision: bool) -> Any:
    """Builds a model with `model_fn`, under the policy "mixed_bfloat16" if `mixed_precision`."""
    kerases = [sys.modules[name] for name in FLAVOURS if mixed_precision and name in sys.modules]
    policies = [keras.mixed_precision.global_policy() for keras in kerases]
    try:
        for keras in kerases:
            keras.mixed_precision.set_global_policy("mixed_bfloat16")
        return model_fn()
    finally:
        for keras, policy in zip(kerases, policies, strict=True):
            keras.mixed_precision.set_global_policy(policy)


def steps_per_execution(model: Any) -> int:
    """Returns the `steps_per_execution` of a compiled model."""
    variable = getattr(model, "_steps_per_execution", None)  # tf_keras
    return getattr(model, "steps_per_execution", 1) if variable is None else int(variable.numpy())


def random_states(model: Any) -> list[Any]:
    """Returns the state variables of the random generators of a model's layers."""
    if flavour_of(model).name == "keras":
        weights = {id(variable) for variable in model.weights}
        others = [variable for variable in model.variables if id(variable) not in weights]
        return [v for v in others if v.name == "seed_generator_state"]
    generators = [getattr(layer, "_random_generator", None) for layer in model._flatten_layers()]
    return [_stateful_generator(g).state for g in dict.fromkeys(generators) if g is not None]


def reset_random_layers(model: Any, seed: tuple[int, ...]) -> None:
    """Seeds the random generators of a model's layers, such as Dropout.

    By default, Keras 2 keeps the state of random layers inside graph operations, where it can be
    neither read nor written. Such layers are switched to generators whose state is a variable.

    Args:
        model: a built model of either flavour; with Keras 2, not yet traced for training.
        seed: non-negative integers.
    """
    key_index = 0 if flavour_of(model).name == "keras" else -1  # the other elements are counters
    for number, state in enumerate(random_states(model)):
        value = np.zeros(state.shape, np.int64)
        value[key_index] = np.random.SeedSequence([*seed, number]).generate_state(1)[0] >> 1
        state.assign(value)


class NamedWeight(NamedTuple):
    """A weight of a model, with a name that does not depend on flavour or process.

    Attributes:
        name: the path of layers to the weight, such as "conv1/kernel".
        role: the last part of the name, such as "kernel".
        variable: the Keras variable.
        layer: the layer that owns it.
    """

    name: str
    role: str
    variable: Any
    layer: Any


def named_weights(model: Any) -> list[NamedWeight]:
    """Returns every weight of a built model once, in a fixed order.

    A name is the path of layers to the weight, such as "mobilenet/conv1/kernel". Names generated
    by Keras ("dense_7") are renumbered for each model, so that the same architecture always has
    the same names, in both flavours. Pruning wrappers of TFMOT do not appear in the path.

    Args:
        model: a built model or layer of either flavour.

    Returns:
        A `NamedWeight` for each weight.

    Raises:
        ArgumentError: If the model is not built.
    """
    flavour_of(model)
    if not model.built:
        raise ArgumentError(
            "model", model.name, "a built model", "Call it on a batch, or give it an Input."
        )
    weights: dict[int, NamedWeight] = {}
    counts: dict[str, int] = {}
    for path, layer in _layers(model, ()):
        for variable in _own_weights(layer):
            if id(variable) in weights:
                continue
            role = _role(variable, layer)
            name = unique_name("/".join((*path, role)), counts)
            weights[id(variable)] = NamedWeight(name, role, variable, layer)
    return list(weights.values())


def numeric(weights: Iterable[Any]) -> list[Any]:
    """Returns the weights that are variables of numbers; others are tables of words, in Keras 2."""
    return [weight for weight in weights if hasattr(weight, "name") and hasattr(weight, "dtype")]


def class_names(layer: Any) -> list[str]:
    """Returns the names of a layer's class and its base classes, the most derived first."""
    return [cls.__name__ for cls in type(layer).__mro__]


def stable_name(layer: Any) -> str:
    """Returns the name of a layer or model, without its number if Keras generated the name."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", type(layer).__name__)
    kind = _letters(snake)
    generated = {kind, f"forward{kind}", f"backward{kind}", "functional", "model"}
    stem = re.sub(r"_\d+$", "", layer.name)
    if _letters(stem) not in generated:
        return layer.name
    return "model" if _letters(stem) == "functional" else stem


def to_numpy(variable: Any) -> np.ndarray:
    """Returns a copy of a variable's value as an array."""
    return np.array(variable.numpy())


def tf_variable(variable: Any) -> Any:
    """Returns the `tf.Variable` of a weight of either flavour."""
    for attribute in ("_value", "_variable"):  # Keras 3; mixed precision in Keras 2
        if (inner := getattr(variable, attribute, None)) is not None:
            return inner
    return variable


def structures(model: Any) -> tuple[Any, Any]:
    """Returns the symbolic inputs and outputs of a model, in their nested structure.

    Both are None for a subclassed model.
    """
    for names in (("_inputs_struct", "_outputs_struct"), ("_nested_inputs", "_nested_outputs")):
        inputs, outputs = (getattr(model, name, None) for name in names)
        if inputs is not None:
            return inputs, outputs
    inputs = getattr(model, "inputs", None)  # Sequential of Keras 3
    return (inputs[0], model.outputs[0]) if inputs else (None, None)


def symbolic_inputs(model: Any) -> list[Any]:
    """Returns the symbolic inputs of a model, without their structure; none if it has no graph."""
    return list(getattr(model, "inputs", None) or ())


def output_activations(model: Any) -> Any:
    """Returns the name of the activation of each output of a model, in their nested structure.

    None stands for an activation that is not known, as in a subclassed model.
    """
    import tensorflow as tf

    _, outputs = structures(model)
    return None if outputs is None else tf.nest.map_structure(_activation, outputs)


def _activation(tensor: Any) -> str | None:
    history = getattr(tensor, "_keras_history", None)
    layer = getattr(history, "operation", None) or getattr(history, "layer", None)
    if layer is None:
        return None
    if "Model" in class_names(layer):
        activations = output_activations(layer)
        return activations if isinstance(activations, str) else None
    if "Softmax" in class_names(layer):
        return "softmax"
    activation = getattr(layer, "activation", None)
    return getattr(activation, "__name__", None) if activation is not None else None


def compiled_with(model: Any) -> dict[str, Any] | None:
    """Returns the arguments that a model was compiled with; None if it is not compiled."""
    config = getattr(model, "_compile_config", None)
    if config is None or getattr(model, "optimizer", None) is None:
        return None
    return {**config.config, "optimizer": model.optimizer}


def described(model: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the configurations of losses, metrics and an optimizer as JSON values."""
    serialize = flavour_of(model).module.saving.serialize_keras_object

    def describe(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(name): describe(each) for name, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [describe(each) for each in value]
        if isinstance(value, (str, int, float)):
            return value
        if inspect.isfunction(value):
            return f"{value.__module__}.{value.__qualname__}"
        try:
            config = dict(serialize(value)["config"])
        except (TypeError, ValueError, KeyError, NotImplementedError):
            config = {}
        config.pop("name", None)
        return json.loads(json.dumps([type(value).__name__, config], default=str))

    return {name: describe(value) for name, value in arguments.items()}


def is_model(value: Any) -> bool:
    """Whether a value is a Keras model of either flavour."""
    modules = [sys.modules[name] for name in FLAVOURS if name in sys.modules]
    return any(isinstance(value, module.Model) for module in modules)


def copy_of(model: Any) -> Any:
    """Returns a copy of a model with its weights and vocabularies, compiled as it is.

    Raises:
        ArgumentError: If Keras cannot clone it.
    """
    flavour = flavour_of(model)
    try:
        copy = flavour.module.models.clone_model(model)
        for layer, original in zip(copy._flatten_layers(), model._flatten_layers(), strict=True):
            if hasattr(original, "set_vocabulary") and hasattr(original, "get_vocabulary"):
                layer.set_vocabulary(original.get_vocabulary())
        copy.set_weights(model.get_weights())
    except (TypeError, ValueError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ArgumentError(
            "model",
            f"{model.name}, which Keras cannot clone ({reason})",
            "a function that returns a new, built model",
        ) from error
    for layer in copy._flatten_layers():
        if hasattr(layer, "finalize_state"):  # Normalization
            layer.finalize_state()
    if (compiled := compiled_with(model)) is not None:
        names = ("optimizer", "loss", "loss_weights", "metrics", "weighted_metrics", "run_eagerly")
        copy.compile(**{name: compiled[name] for name in names if compiled.get(name) is not None})
    return copy


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
        reason = str(error).splitlines()[0]
        allowed = "one that its get_config describes"
        raise ArgumentError("optimizer", name, allowed, reason) from error
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


def make_optimizer(
    flavour: Flavour,
    name: str,
    *,
    weight_decay: float = 0.0,
    momentum_form: str = "keras",
    **options: Any,
):
    """Builds an optimizer by name; options that its constructor does not have are ignored.

    Args:
        flavour: which Keras.
        name: class name in lower case, such as "sgd".
        weight_decay: coefficient of an L2 term that is added to the gradients; for "adamw" and
            others whose name ends with "w", Keras's decoupled weight decay. Default 0.
        momentum_form: form of the momentum of "sgd", "keras" or "pytorch"; see `PyTorchMomentum`.
            Default "keras".
        **options: learning_rate, momentum, ...; None is ignored too.

    Raises:
        ArgumentError: If there is no such optimizer.
    """
    optimizers = flavour.module.optimizers
    classes = {
        key.lower(): value
        for key, value in vars(optimizers).items()
        if isinstance(value, type)
        and issubclass(value, optimizers.Optimizer)
        and value is not optimizers.Optimizer
    }
    if name not in classes:
        raise ArgumentError("optimizer", name, "one of " + ", ".join(sorted(classes)))
    cls = classes[name]
    if weight_decay and name.endswith("w"):
        options["weight_decay"] = weight_decay
    parameters = inspect.signature(cls).parameters
    accepted = {k: v for k, v in options.items() if k in parameters and v is not None}
    if momentum_form == "pytorch" and name == "sgd" and accepted.get("momentum"):
        cls = flavour.subclass(PyTorchMomentum, cls)
    if weight_decay and not name.endswith("w"):
        cls = flavour.subclass(CoupledWeightDecay, cls)
        optimizer = cls(**accepted)
        optimizer.l2 = weight_decay
        return optimizer
    return cls(**accepted)


def build_metrics(model: Any, inputs: Any, outputs: Any, labels: Any) -> None:
    """Creates the variables of a compiled model's metrics before its first step is traced.

    Replicas cannot create variables, and a step that creates variables is traced twice.

    Args:
        model: a compiled model, created in the scope of the current strategy.
        inputs: a batch of inputs.
        outputs: the model's outputs for them, float [batch, ...] or nested.
        labels: their labels.
    """
    import tensorflow as tf

    if not tf.distribute.has_strategy():
        model.compute_metrics(inputs, labels, outputs)
        model.reset_metrics()
    elif flavour_of(model).name == "keras":
        model._symbolic_build(data_batch=(inputs, labels))


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


def vocabulary(model: Any) -> list[str]:
    """Returns words of the vocabularies of a model's layers, such as TextVectorization."""
    words = []
    for layer in model._flatten_layers():
        if hasattr(layer, "get_vocabulary") and "IntegerLookup" not in class_names(layer):
            words += [str(word) for word in layer.get_vocabulary()]
    return [word for word in dict.fromkeys(words) if word.strip() and word != "[UNK]"]


def pruning_wrappers(model: Any) -> list[Any]:
    """Returns the `PruneLowMagnitude` layers of TFMOT in a model, including nested ones."""
    return [layer for layer in model._flatten_layers() if _is_wrapper(layer)]


def producers(layer: Any) -> list[Any]:
    """Returns the layers whose outputs are inputs of a layer, in a functional model."""
    layers = []
    for node in layer._inbound_nodes:
        if hasattr(node, "operation"):  # Keras 3
            layers += [parent.operation for parent in node.parent_nodes]
        else:
            inbound = node.inbound_layers
            layers += inbound if isinstance(inbound, list) else [inbound]
    return list(dict.fromkeys(layers))


def consumers(layer: Any) -> list[Any]:
    """Returns the layers that use a layer's outputs; for a Sequential model, its first layer."""
    layers = []
    for node in layer._outbound_nodes:
        consumer = node.operation if hasattr(node, "operation") else node.outbound_layer
        while "Sequential" in class_names(consumer):
            consumer = consumer.layers[0]
        layers.append(consumer)
    return list(dict.fromkeys(layers))


class Value:
    """A tensor in a `Graph`.

    Attributes:
        shape: its shape; None stands for an unknown size.
    """

    def __init__(self, shape: Iterable[int | None]):
        self.shape: tuple[Any, ...] = tuple(shape)


class Call(NamedTuple):
    """A call of a layer in a `Graph`.

    Attributes:
        layer: the layer, or an operation of Keras 3.
        path: the names of the nested models that contain it, such as "encoder/", or "".
        args, kwargs: its arguments, in which a `Value` stands for each tensor.
        inputs: the tensors in its arguments.
        outputs: the tensors that it returns.
    """

    layer: Any
    path: str
    args: Any
    kwargs: Any
    inputs: list[Value]
    outputs: list[Value]


class Graph(NamedTuple):
    """The calls of a functional model in topological order, nested models inlined.

    Attributes:
        inputs: for each input, its layer and tensor.
        calls: all calls that the outputs depend on.
        input_structure, output_structure: the tensors, nested as in the model.
    """

    inputs: list[tuple[Any, Value]]
    calls: list[Call]
    input_structure: Any
    output_structure: Any


def graph_of(model: Any) -> Graph:
    """Returns the graph of a functional or sequential model.

    Raises:
        ArgumentError: If the model is another one, whose calls Keras does not record.
    """
    import tensorflow as tf

    if not _has_graph(model):
        raise ArgumentError(
            "model",
            f"{model.name} of class {type(model).__name__}, a subclass whose graph Keras does not "
            "record",
            "a functional or sequential model, built",
            "Build the same layers as a functional model and copy the weights with set_weights.",
        )
    inputs, outputs = structures(model)
    flat = tf.nest.flatten(inputs)
    values = {id(tensor): Value(tensor.shape) for tensor in flat}
    calls: list[Call] = []
    _inline(model, values, "", calls)
    return Graph(
        [(tensor._keras_history[0], values[id(tensor)]) for tensor in flat],
        calls,
        tf.nest.map_structure(lambda tensor: values[id(tensor)], inputs),
        tf.nest.map_structure(lambda tensor: values[id(tensor)], outputs),
    )


def _has_graph(layer: Any) -> bool:
    """Whether a layer is a model of one of Keras's own functional classes, built."""
    kinds = {"Functional", "Sequential"} & {type(layer).__name__}
    own = type(layer).__module__.startswith(FLAVOURS)
    return bool(kinds) and own and structures(layer)[1] is not None


def _inline(model: Any, values: dict[int, Value], path: str, calls: list[Call]) -> None:
    """Appends the calls of a model to `calls`, and its tensors to `values` (first its inputs)."""
    import tensorflow as tf

    for node in _sorted_nodes(tf.nest.flatten(structures(model)[1]), values):
        layer = node.operation if hasattr(node, "operation") else node.layer
        arguments = getattr(node, "arguments", None)
        args, kwargs = (
            (arguments.args, arguments.kwargs) if arguments else (node.call_args, node.call_kwargs)
        )
        args, kwargs = tf.nest.map_structure(
            lambda each: values[id(each)] if hasattr(each, "_keras_history") else each,
            (tuple(args), dict(kwargs)),
        )
        inputs = [each for each in tf.nest.flatten((args, kwargs)) if isinstance(each, Value)]
        tensors = tf.nest.flatten(node.outputs)
        if _has_graph(layer) and not kwargs.get("training"):
            inner = tf.nest.flatten(structures(layer)[0])
            if len(inner) == len(inputs):
                scope = {id(t): value for t, value in zip(inner, inputs, strict=True)}
                _inline(layer, scope, f"{path}{layer.name}/", calls)
                returned = tf.nest.flatten(structures(layer)[1])
                for tensor, result in zip(tensors, returned, strict=True):
                    values[id(tensor)] = scope[id(result)]
                continue
        outputs = [Value(tensor.shape) for tensor in tensors]
        values.update({id(t): value for t, value in zip(tensors, outputs, strict=True)})
        calls.append(Call(layer, path, args, kwargs, inputs, outputs))


def _sorted_nodes(tensors: Iterable[Any], known: Mapping[int, Value]) -> list[Any]:
    """Returns the nodes that compute tensors from known ones, in topological order."""
    done: dict[int, Any] = {}
    stack = [(tensor, False) for tensor in tensors]
    while stack:
        tensor, expanded = stack.pop()
        if id(tensor) in known:
            continue
        history = tensor._keras_history
        node = history[0]._inbound_nodes[history.node_index]
        if id(node) in done:
            continue
        if expanded:
            done[id(node)] = node
            continue
        stack.append((tensor, True))
        before = node.input_tensors if hasattr(node, "operation") else node.keras_inputs
        stack += [(each, False) for each in reversed(before)]
    return list(done.values())


def output_layers(model: Any) -> list[Any]:
    """Returns the last layer with weights before each output, for a functional model.

    Layers without weights, such as activations, are passed over; in a layer that contains others,
    it is the last of these. Returns an empty list for any other model.
    """
    if structures(model)[1] is None:
        return []
    to_visit = [tensor._keras_history[0] for tensor in model.outputs]
    seen, layers = list(to_visit), []
    while to_visit:
        layer = _unwrap(to_visit.pop())
        if layer.weights:
            inside = [other for other in layer._flatten_layers(include_self=False) if other.weights]
            layers += output_layers(layer) or inside[-1:] or [layer]
            continue
        new = [other for other in producers(layer) if other not in seen]
        seen += new
        to_visit += new
    return list(dict.fromkeys(layers))


def _layers(layer: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, layer
    counts: dict[str, int] = {}
    children = [_unwrap(c) for c in layer._flatten_layers(include_self=False, recursive=False)]
    for child in children:
        if numeric(child.weights):
            yield from _layers(child, (*path, unique_name(stable_name(child), counts)))


def _unwrap(layer: Any) -> Any:
    return layer.layer if _is_wrapper(layer) else layer


def _is_wrapper(layer: Any) -> bool:
    return "PruneLowMagnitude" in class_names(layer)


def _stateful_generator(generator: Any) -> Any:
    """The `tf.random.Generator` of a Keras 2 layer, created if there is none."""
    if generator._rng_type == "legacy_stateful":
        generator._rng_type = "stateful"
        generator._built = False
    generator._maybe_init()
    return generator._generator


def _letters(name: str) -> str:
    return name.lower().replace("_", "")


def unique_name(name: str, counts: dict[str, int]) -> str:
    """Returns `name`, with a number if it was used before, and counts it in `counts`."""
    number = counts.get(name, 0)
    counts[name] = number + 1
    return f"{name}_{number}" if number else name


def _own_weights(layer: Any) -> Iterable[Any]:
    children = layer._flatten_layers(include_self=False, recursive=False)
    inherited = {id(w) for child in children for w in child.weights}
    return [w for w in numeric(layer.weights) if id(w) not in inherited]


def _role(variable: Any, layer: Any) -> str:
    role = variable.name.split("/")[-1].split(":")[0]
    depthwise = any(name.startswith("DepthwiseConv") for name in class_names(layer))
    return "depthwise_kernel" if depthwise and role == "kernel" else role


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
