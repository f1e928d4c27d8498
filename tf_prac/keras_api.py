"""The only module that knows there are two Kerases.

`keras` (Keras 3) and `tf_keras` (Keras 2, which TensorFlow Model Optimization needs) live side by
side in one process. The flavour is a property of each object, never of the process, and neither
package is imported before an object or a name asks for it.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import random
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from tf_prac.config import check_choice
from tf_prac.errors import ArgumentError

FLAVOURS = ("keras", "tf_keras")


class Flavour:
    """One of the two Kerases: its module, and the few things that differ between them.

    Args:
        name: "keras" or "tf_keras".

    Raises:
        ArgumentError: another name.
    """

    def __init__(self, name: str):
        check_choice("keras", name, FLAVOURS)
        self.name = name

    @functools.cached_property
    def module(self) -> Any:
        """The package itself, imported at first use."""
        return importlib.import_module(self.name)

    def subclass(self, mixin: type, base: type) -> type:
        """Returns the one class of this flavour that puts `mixin` before `base`."""
        return _subclass(self.name, mixin, base)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Flavour) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"Flavour({self.name!r})"

    def register(self, cls: type) -> type:
        """Lets this flavour find `cls` when it loads a saved model; returns the class."""
        return self.module.saving.register_keras_serializable("tf_prac")(cls)


@functools.cache
def _subclass(flavour: str, mixin: type, base: type) -> type:
    return type(mixin.__name__, (mixin, base), {"__module__": mixin.__module__})


def flavour_of(model: Any) -> Flavour:
    """Returns the flavour of a Keras model or layer.

    Raises:
        ArgumentError: the object is of neither Keras.
    """
    for name in FLAVOURS:
        module = sys.modules.get(name)
        if module is not None and isinstance(model, module.layers.Layer):
            return Flavour(name)
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    raise ArgumentError("model", kind, "a model built with keras (Keras 3) or tf_keras (Keras 2)")


def seed_everything(seed: int) -> None:
    """Seeds Python, NumPy, TensorFlow and each loaded Keras: new weights depend on it alone."""
    import tensorflow as tf

    random.seed(seed)
    np.random.seed(seed)
    tf.random.set_seed(seed)
    for name in FLAVOURS:
        if name in sys.modules:
            sys.modules[name].utils.set_random_seed(seed)


def new_network(model_fn: Callable[[], Any], mixed_precision: bool) -> Any:
    """Returns what `model_fn` builds; with mixed precision, of layers that compute in bfloat16."""
    kerases = [sys.modules[name] for name in FLAVOURS if mixed_precision and name in sys.modules]
    before = [keras.mixed_precision.global_policy() for keras in kerases]
    try:
        for keras in kerases:
            keras.mixed_precision.set_global_policy("mixed_bfloat16")
        return model_fn()
    finally:
        for keras, policy in zip(kerases, before, strict=True):
            keras.mixed_precision.set_global_policy(policy)


def steps_per_execution(model: Any) -> int:
    """Returns how many training steps a compiled model takes from one batch hook to the next."""
    variable = getattr(model, "_steps_per_execution", None)  # of tf_keras
    return getattr(model, "steps_per_execution", 1) if variable is None else int(variable.numpy())


def random_states(model: Any) -> list[Any]:
    """Lists the state of each random generator of a model's layers, as variables."""
    if flavour_of(model).name == "keras":
        weights = {id(variable) for variable in model.weights}
        others = [variable for variable in model.variables if id(variable) not in weights]
        return [v for v in others if v.name == "seed_generator_state"]
    generators = [getattr(layer, "_random_generator", None) for layer in model._flatten_layers()]
    return [_with_state(g).state for g in dict.fromkeys(generators) if g is not None]


def reset_random_layers(model: Any, seed: tuple[int, ...]) -> None:
    """Sets the random generators of a model's layers, such as Dropout, to a state given by `seed`.

    Keras 2 keeps the state of its random layers inside operations of the graph, where nothing
    reads or writes it, unless told otherwise before the model is built. Such layers are switched
    to generators with a state; their random numbers are as random as before.

    Args:
        model: a built model of either flavour; for Keras 2, not yet traced for training.
        seed: non-negative integers.
    """
    key_at = 0 if flavour_of(model).name == "keras" else -1  # the rest counts numbers drawn
    for number, state in enumerate(random_states(model)):
        fresh = np.zeros(state.shape, np.int64)
        fresh[key_at] = np.random.SeedSequence([*seed, number]).generate_state(1)[0] >> 1
        state.assign(fresh)


class NamedWeight(NamedTuple):
    """A weight of a model under a name that does not depend on flavour or process."""

    name: str
    role: str
    variable: Any
    layer: Any


def named_weights(model: Any) -> list[NamedWeight]:
    """Lists every weight of a built model, in a fixed order, each once.

    A name is the path of layers to the weight, such as "mobilenet/conv1/kernel". Names that
    Keras made up ("dense_7") are numbered anew for each model, so that the same architecture
    always gets the same names, in both flavours. Pruning wrappers of TFMOT are looked through.

    Args:
        model: a built model or layer of either flavour.

    Returns:
        `NamedWeight`s: name, role (the last part: "kernel"), variable, and the layer owning it.

    Raises:
        ArgumentError: the model is not built.
    """
    flavour_of(model)
    if not model.built:
        raise ArgumentError(
            "model", model.name, "a built model", "Call it on a batch, or give it an Input."
        )
    found: dict[int, NamedWeight] = {}
    taken: dict[str, int] = {}
    for path, layer in _layers(model, ()):
        for variable in _own_weights(layer):
            if id(variable) in found:
                continue
            role = _role(variable, layer)
            name = unique("/".join((*path, role)), taken)
            found[id(variable)] = NamedWeight(name, role, variable, layer)
    return list(found.values())


def class_names(layer: Any) -> list[str]:
    """Returns the names of the layer's Keras classes, from the most special to `Layer`."""
    return [cls.__name__ for cls in type(layer).__mro__]


def stable_name(layer: Any) -> str:
    """Returns the name of a layer or model, without the number if Keras made the name up."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", type(layer).__name__)
    kind = _letters(snake)
    made_up = {kind, f"forward{kind}", f"backward{kind}", "functional", "model"}
    stem = re.sub(r"_\d+$", "", layer.name)
    if _letters(stem) not in made_up:
        return layer.name
    return "model" if _letters(stem) == "functional" else stem


def to_numpy(variable: Any) -> np.ndarray:
    """Returns a variable's value as a new array."""
    return np.array(variable.numpy())


def tf_variable(variable: Any) -> Any:
    """Returns the `tf.Variable` behind a weight of either flavour."""
    for attribute in ("_value", "_variable"):  # of Keras 3; of mixed precision in Keras 2
        if (inner := getattr(variable, attribute, None)) is not None:
            return inner
    return variable


def structures(model: Any) -> tuple[Any, Any]:
    """Returns the symbolic inputs and outputs of a model, nested as it takes and gives them.

    Both are None for a model of a class of its own.
    """
    for names in (("_inputs_struct", "_outputs_struct"), ("_nested_inputs", "_nested_outputs")):
        found = tuple(getattr(model, name, None) for name in names)
        if found[0] is not None:
            return found[0], found[1]
    inputs = getattr(model, "inputs", None)  # a Sequential model of Keras 3
    return (inputs[0], model.outputs[0]) if inputs else (None, None)


def make_optimizer(flavour: Flavour, name: str, *, weight_decay: float = 0.0, **options: Any):
    """Builds an optimizer by name; options that its constructor does not know are left out.

    Args:
        flavour: which Keras.
        name: class name in lower case, such as "sgd".
        weight_decay: L2 coefficient added to the gradients; decoupled for "adamw" and others
            that decay by themselves.
        **options: learning_rate, momentum, ...; those that are None are left out too.

    Raises:
        ArgumentError: there is no such optimizer.
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
    accepted = inspect.signature(cls).parameters
    known = {key: value for key, value in options.items() if key in accepted and value is not None}
    if weight_decay and not name.endswith("w"):
        cls = flavour.subclass(CoupledWeightDecay, cls)
        optimizer = cls(**known)
        optimizer.l2 = weight_decay
        return optimizer
    return cls(**known)


def build_metrics(model: Any, inputs: Any, outputs: Any) -> None:
    """Makes the variables of a compiled model's metrics, before its first step is traced.

    Replicas could not make them, and a step that makes variables is traced twice.

    Args:
        model: compiled, made in the present strategy's scope.
        inputs: a batch of inputs.
        outputs: what the model gives for it, float [batch, classes].
    """
    import tensorflow as tf

    labels = tf.zeros(outputs.shape[0], tf.int64)
    if not tf.distribute.has_strategy():
        model.compute_metrics(inputs, labels, outputs)
        model.reset_metrics()
    elif flavour_of(model).name == "keras":
        model._symbolic_build(data_batch=(inputs, labels))


def moving_average(optimizer: Any, variable: Any) -> Any:
    """Returns the variable in which an optimizer with `use_ema` averages `variable`, or None."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of a loss scale
    averages = getattr(optimizer, "_model_variables_moving_average", None)
    if not averages:
        return None
    if hasattr(optimizer, "_index_dict"):  # tf_keras
        index = optimizer._index_dict.get(optimizer._var_key(variable))
    else:
        index = optimizer._trainable_variables_indices.get(optimizer._var_key(variable))
    return None if index is None else averages[index]


class CoupledWeightDecay:
    """Adds the gradient of an L2 penalty to every gradient, as the SGD of both papers does."""

    l2: float

    def update_step(self, gradient: Any, variable: Any, *learning_rate: Any) -> None:
        """Keras's own update of one variable, with the gradient of the penalty added."""
        import tensorflow as tf

        value = tf.convert_to_tensor(variable)
        decayed = tf.convert_to_tensor(gradient) + tf.cast(self.l2, value.dtype) * value
        super().update_step(decayed, variable, *learning_rate)  # type: ignore[misc]


def pruning_wrappers(model: Any) -> list[Any]:
    """Lists the `PruneLowMagnitude` layers of TFMOT in a model, however deep."""
    return [layer for layer in model._flatten_layers() if _is_wrapper(layer)]


def producers(layer: Any) -> list[Any]:
    """Lists the layers whose outputs a layer of a functional model takes."""
    found = []
    for node in layer._inbound_nodes:
        if hasattr(node, "operation"):  # Keras 3
            found += [parent.operation for parent in node.parent_nodes]
        else:
            before = node.inbound_layers
            found += before if isinstance(before, list) else [before]
    return list(dict.fromkeys(found))


def consumers(layer: Any) -> list[Any]:
    """Lists the layers that take a layer's outputs; of a sequential model, its first layer."""
    found = []
    for node in layer._outbound_nodes:
        after = node.operation if hasattr(node, "operation") else node.outbound_layer
        while "Sequential" in class_names(after):
            after = after.layers[0]
        found.append(after)
    return list(dict.fromkeys(found))


def _layers(layer: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, layer
    taken: dict[str, int] = {}
    children = [_unwrap(c) for c in layer._flatten_layers(include_self=False, recursive=False)]
    for child in children:
        if child.weights:
            yield from _layers(child, (*path, unique(stable_name(child), taken)))


def _unwrap(layer: Any) -> Any:
    return layer.layer if _is_wrapper(layer) else layer


def _is_wrapper(layer: Any) -> bool:
    return "PruneLowMagnitude" in class_names(layer)


def _with_state(generator: Any) -> Any:
    """The `tf.random.Generator` of a Keras 2 layer, which gets one if it has none."""
    if generator._rng_type == "legacy_stateful":
        generator._rng_type = "stateful"
        generator._built = False
    generator._maybe_init()
    return generator._generator


def _letters(name: str) -> str:
    return name.lower().replace("_", "")


def unique(name: str, taken: dict[str, int]) -> str:
    """Returns a name, numbered if it is taken, and takes it."""
    number = taken.get(name, 0)
    taken[name] = number + 1
    return f"{name}_{number}" if number else name


def _own_weights(layer: Any) -> Iterable[Any]:
    children = layer._flatten_layers(include_self=False, recursive=False)
    inherited = {id(w) for child in children for w in child.weights}
    return [w for w in layer.weights if id(w) not in inherited]


def _role(variable: Any, layer: Any) -> str:
    role = variable.name.split("/")[-1].split(":")[0]
    depthwise = any(name.startswith("DepthwiseConv") for name in class_names(layer))
    return "depthwise_kernel" if depthwise and role == "kernel" else role
