"""The function that an export serves: named, typed inputs and outputs, for any batch size."""

from __future__ import annotations

import dataclasses
import keyword
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.errors import ArgumentError, MismatchError
from tf_prac.export.architecture import output_names
from tf_prac.export.fresh_process import named, reason
from tf_prac.keras_api import class_names, flavor_of, output_activations, structures, unique_name
from tf_prac.tasks.infer import BINARY, loss_name
from tf_prac.tasks.outputs import select
from tf_prac.training.precision import exact_float32

_GENERATED_NAME = re.compile(r"(input|input_layer|keras_tensor)(_\d+)?")
KERAS_TOLERANCE = 1e-3  # relative to max(1, largest absolute output)
_PYTHON_OPS = ("PyFunc", "EagerPyFunc", "PyFuncStateless")


@dataclasses.dataclass(frozen=True)
class Serving:
    """The inference function of a model.

    Attributes:
        function: a `tf.function` of the inputs, in order, that returns a dictionary of tensors.
        inputs: the `tf.TensorSpec` of each input, by name; the first dimension is None.
        outputs: the `tf.TensorSpec` of each output, by name.
        variables: the `tf.Variable`s that the function reads, by id.
        resources: other objects that it uses, such as lookup tables.
        graph: the traced graph.
        keras_outputs: function of samples that returns what the model itself computes, without
            the graph, with softmax and sigmoid by NumPy.
    """

    function: Any
    inputs: dict[str, tf.TensorSpec]
    outputs: dict[str, tf.TensorSpec]
    variables: dict[int, Any]
    resources: list[Any]
    graph: Any
    keras_outputs: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]


def serve(
    model: Any,
    *,
    inputs: Any = None,
    preprocess: Callable[[Any], Any] | None = None,
    softmax: bool = False,
    loss: Any = None,
) -> Serving:
    """Traces a model for inference.

    Args:
        model: a built model of either flavor.
        inputs: the `tf.TensorSpec` of the served input, or a dictionary of several by name. If
            none is given, the model's inputs. Required for subclassed models, and if `preprocess`
            takes other shapes or types.
        preprocess: a function or layer that maps the served input (a dictionary if there are
            several) to the model's input. Default None.
        softmax: whether to serve probabilities: a sigmoid of outputs of one unit, or whose loss is
            binary, as for several labels; a softmax of others. Default False.
        loss: the loss that the model is compiled with. Default None: not known.

    Raises:
        ArgumentError: If the inputs cannot be served, or a layer cannot be exported; it is named.
    """
    flavor_of(model)
    specs, pack = _input_specs(model, inputs)

    def run(served: dict[str, Any]) -> Any:
        values = pack(served) if preprocess is None else preprocess(_single_or_dict(served))
        return model(values, training=False)

    def call(*args: Any) -> dict[str, Any]:
        outputs = run(dict(zip(specs, args, strict=True)))
        if softmax:
            outputs = _each_output(model, outputs, loss, GRAPH)
        return _named_outputs(model, outputs, softmax)

    def keras_outputs(samples: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        outputs = run({name: tf.constant(samples[name]) for name in specs})
        outputs = tf.nest.map_structure(lambda value: value.numpy(), outputs)
        if softmax:
            outputs = _each_output(model, outputs, loss, NUMPY)
        if isinstance(outputs, Mapping):
            return named(outputs)
        return dict(zip(names, tf.nest.flatten(outputs), strict=True))

    function = tf.function(call, input_signature=list(specs.values()), autograph=False)
    try:
        concrete = function.get_concrete_function()
    except ArgumentError:
        raise
    except Exception as error:  # the Python code of a layer may raise anything
        raise ArgumentError(
            "model",
            _failing_layer(model, error),
            "layers that can be traced",
            reason(error),
        ) from error
    _refuse_python_ops(model, concrete.graph)
    variables, resources = _captured(model, concrete)
    outputs = {n: tf.TensorSpec(t.shape, t.dtype) for n, t in concrete.structured_outputs.items()}
    names = list(outputs)
    if not isinstance(structures(model)[1], Mapping):
        names = _output_names(model, len(names), softmax)
    return Serving(function, specs, outputs, variables, resources, concrete.graph, keras_outputs)


def outputs_of(served: Serving, samples: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the outputs for samples, as arrays by name, without TensorFloat-32.

    Raises:
        MismatchError: If they are not those of the Keras model.
    """
    tensors = [tf.constant(samples[name]) for name in served.inputs]
    with exact_float32():
        outputs = {name: value.numpy() for name, value in served.function(*tensors).items()}
        keras_outputs = served.keras_outputs(samples)
    for name, expected in keras_outputs.items():
        output = np.asarray(outputs[name], np.float64)
        expected = np.asarray(expected, np.float64)
        scale = max(1.0, float(np.max(np.abs(expected), initial=0)))
        tolerance = KERAS_TOLERANCE if outputs[name].dtype == np.float32 else 0.05
        if not np.allclose(output, expected, rtol=0, atol=tolerance * scale):
            error = float(np.max(np.abs(output - expected)))
            raise MismatchError(
                f"{name}: the served function differs from the Keras model by up to {error:g}. "
                "The export was not saved."
            )
    return outputs


def _each_output(
    model: Any, outputs: Any, loss: Any, functions: Mapping[str, Callable[[Any], Any]]
) -> Any:
    """Returns outputs as probabilities: each by one of the two functions.

    Raises:
        ArgumentError: If the model returns probabilities already.
    """
    activations = tf.nest.flatten(output_activations(model))
    names, values = output_names(model), tf.nest.flatten(outputs)
    if isinstance(outputs, Mapping):
        names = sorted(outputs)
    results = []
    for index, value in enumerate(values):
        known = activations[index] if len(activations) == len(values) else None
        if known in ("softmax", "sigmoid"):
            allowed = f"False for a model whose output is a {known} already"
            raise ArgumentError("softmax", True, allowed)
        name = names[index] if len(names) == len(values) else ""
        is_binary = loss_name(select(loss, name, index)) in BINARY
        is_single = value.ndim < 2 if isinstance(value, np.ndarray) else value.shape.rank < 2
        kind = "sigmoid" if is_binary or is_single or value.shape[-1] == 1 else "softmax"
        results.append(functions[kind](value))
    return tf.nest.pack_sequence_as(outputs, results)


def _softmax(values: np.ndarray) -> np.ndarray:
    exponents = np.exp(values - values.max(-1, keepdims=True))
    return exponents / exponents.sum(-1, keepdims=True)


GRAPH = {"softmax": tf.nn.softmax, "sigmoid": tf.sigmoid}
NUMPY = {"softmax": _softmax, "sigmoid": lambda values: 1 / (1 + np.exp(-values))}


def _input_specs(model: Any, inputs: Any) -> tuple[dict[str, tf.TensorSpec], Callable]:
    if inputs is not None:
        given = inputs if isinstance(inputs, Mapping) else {inputs.name or "inputs": inputs}
        for name in given:
            if name != _serving_name(name):
                allowed = "names of letters, digits and underscores that start with a letter"
                raise ArgumentError("inputs", name, allowed)
        specs = {n: _input_spec(n, s.shape, s.dtype) for n, s in given.items()}
        return specs, _single_or_dict
    structure, _ = structures(model)
    if structure is None:
        raise ArgumentError(
            "inputs",
            None,
            "a tf.TensorSpec of the input, its first dimension None",
            f"The model {model.name} does not define its inputs.",
        )
    if isinstance(structure, Mapping):
        names = dict(zip(structure, _serving_names(structure), strict=True))
        tensors = dict(structure)
    else:
        as_list = list(structure) if isinstance(structure, (list, tuple)) else [structure]
        names = dict(enumerate(_input_names([t.name for t in as_list])))
        tensors = dict(enumerate(as_list))
    for tensor in tensors.values():
        if not hasattr(tensor, "shape"):
            raise ArgumentError("model", model.name, "inputs that are a tensor, list or dict")
    specs = {names[k]: _input_spec(names[k], t.shape, t.dtype, t) for k, t in tensors.items()}

    def pack(served: dict[str, Any]) -> Any:
        if isinstance(structure, Mapping):
            return {key: served[names[key]] for key in structure}
        values = [served[names[key]] for key in tensors]
        return values if isinstance(structure, (list, tuple)) else values[0]

    return specs, pack


def _input_names(tensors: list[str]) -> list[str]:
    """The names of the inputs; names generated by Keras become "inputs" or "inputs_0", ..."""
    generated = ["inputs"] if len(tensors) == 1 else [f"inputs_{i}" for i in range(len(tensors))]
    pairs = zip(generated, tensors, strict=True)
    return _serving_names(new if _GENERATED_NAME.fullmatch(old) else old for new, old in pairs)


def _serving_names(names: Iterable[str]) -> list[str]:
    """The names of inputs as TensorFlow can serve them."""
    counts: dict[str, int] = {}
    return [unique_name(_serving_name(name), counts) for name in names]


def _serving_name(name: str) -> str:
    """A name of letters, digits and underscores that is no word of Python."""
    plain = re.sub(r"[^A-Za-z0-9_]", "_", str(name))
    is_name = plain[:1].isalpha() and not keyword.iskeyword(plain) and plain != "self"
    return plain if is_name else f"input_{plain.lstrip('_')}"


def _input_spec(name: str, shape: Any, dtype: Any, tensor: Any = None) -> tf.TensorSpec:
    """The spec of an input, whose first dimension must be None."""
    if getattr(tensor, "sparse", False) or getattr(tensor, "ragged", False):
        raise ArgumentError("model", f"sparse or ragged input {name!r}", "dense inputs")
    shape = tf.TensorShape(shape)
    if shape.rank is None or shape.rank == 0 or shape[0] is not None:
        raise ArgumentError(
            "inputs",
            f"{name} of shape {shape}",
            "a known rank and a free first dimension, for any number of samples",
            "Build the model without a batch size, or pass inputs=tf.TensorSpec([None, ...]).",
        )
    return tf.TensorSpec(shape, tf.as_dtype(dtype), name)


def _single_or_dict(served: dict[str, Any]) -> Any:
    """A single input without its name, or the dictionary of several."""
    return next(iter(served.values())) if len(served) == 1 else served


def _named_outputs(model: Any, outputs: Any, softmax: bool) -> dict[str, Any]:
    if isinstance(outputs, Mapping):
        tensors = named(outputs)
        if len(tensors) < len(tf.nest.flatten(outputs)):
            raise ArgumentError("model", list(outputs), "outputs whose names differ as texts")
        return {name: tf.convert_to_tensor(value) for name, value in tensors.items()}
    values = tf.nest.flatten(outputs)
    names = _output_names(model, len(values), softmax)
    return {n: tf.convert_to_tensor(v) for n, v in zip(names, values, strict=True)}


def _output_names(model: Any, count: int, softmax: bool) -> list[str]:
    """Returns the names of the outputs of a model, in order."""
    if softmax and count == 1:
        return ["probabilities"]
    names = output_names(model)
    if len(names) == count:
        return names
    return [f"output_{i}" for i in range(count)] if count > 1 else ["output"]


def _captured(model: Any, concrete: Any) -> tuple[dict[int, Any], list[Any]]:
    """Returns the variables that a function captures, by id, and the other objects."""
    variables: dict[int, Any] = {}
    resources: list[Any] = []
    for outer, inner in concrete.graph.captures:
        parent = getattr(outer, "_parent_trackable", lambda: None)()
        if isinstance(parent, tf.Variable):
            variables[id(parent)] = parent
        elif parent is not None:
            resources.append(parent)
        elif outer.dtype in (tf.resource, tf.variant):
            users = [op.name for op in concrete.graph.get_operations() if inner in op.inputs]
            raise ArgumentError(
                "model",
                _layer_of(model, users[0] if users else inner.name),
                "layers that store what they use in attributes",
                f"It uses a {outer.dtype.name} that is not an attribute of the model.",
            )
    return variables, resources


def _refuse_python_ops(model: Any, graph: Any) -> None:
    definition = graph.as_graph_def()
    nodes = list(definition.node)
    nodes += [node for function in definition.library.function for node in function.node_def]
    for node in nodes:
        if node.op in _PYTHON_OPS:
            raise ArgumentError(
                "model",
                _layer_of(model, node.name),
                "layers of TensorFlow operations",
                "It calls Python (py_function or numpy_function), which cannot be exported.",
            )


def _layers(model: Any) -> list[Any]:
    """The layers of a model, including nested ones, without the model itself."""
    return list(model._flatten_layers(include_self=False, recursive=True))


def _layer_of(model: Any, operation: str) -> str:
    """The name of the layer that created an operation, from its scopes; else the operation."""
    names = {layer.name for layer in _layers(model)}
    for scope in reversed(operation.split("/")):
        for candidate in (scope, re.sub(r"_\d+$", "", scope)):
            if candidate in names:
                return candidate
    return operation


def _failing_layer(model: Any, error: BaseException) -> str:
    """The name of the innermost layer in the traceback of an error; else the name of the model."""
    name = model.name
    layers = {id(layer) for layer in _layers(model)}
    while error.__cause__ is not None:
        error = error.__cause__
    trace = error.__traceback__
    while trace is not None:
        owner = trace.tb_frame.f_locals.get("self")
        if id(owner) in layers:
            name = f"{owner.name} ({class_names(owner)[0]})"  # type: ignore[union-attr]
        trace = trace.tb_next
    return name
