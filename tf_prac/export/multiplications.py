"""How often each weight is multiplied with for one sample, counted from the calls of layers.

Operations of the graph do not tell: a dilated convolution is one of smaller images, a dense layer
on sequences is one of longer batches, and recurrent layers are loops.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from tf_prac.export.serving import Serving
from tf_prac.keras_api import FLAVORS, class_names, named_weights, tf_variable

Shape = tuple[Any, ...]
Uses = dict[int, int | None]  # by id of a variable; None: not known


class Call(NamedTuple):
    """A call of a layer: the shapes of its input and output, and the graph that has it."""

    layer: Any
    input: Shape
    output: Shape
    graph: Any = None


def multiplications(
    model: Any, served: Serving, kept: Mapping[str, int]
) -> dict[str, tuple[int | None, int | None]]:
    """Returns the multiplications of one sample by weight: (dense, with its mask).

    Both are None if the number is not known: it depends on the size of the input, or the weight is
    that of a layer which is not Keras's own.

    Args:
        model: a built model of either flavor.
        served: its inference function.
        kept: number of elements that the mask keeps, by name of the weight.
    """
    uses = _uses(model, served)
    counts: dict[str, tuple[int | None, int | None]] = {}
    for weight in named_weights(model):
        shape = tuple(weight.variable.shape)
        size, known = math.prod(shape), len(shape) < 2 or _is_own(weight.layer)
        times = uses.get(id(tf_variable(weight.variable)), 0 if known else None)
        elements = size, kept.get(weight.name, size)
        counts[weight.name] = (None, None) if times is None else tuple(times * n for n in elements)
    return counts


def _uses(model: Any, served: Serving) -> Uses:
    """Returns by how many elements of the inputs of one sample each weight is multiplied."""
    specs = [tf.TensorSpec([1, *s.shape[1:]], s.dtype) for s in served.inputs.values()]
    function = tf.function(served.function.python_function, autograph=False)
    with _recorded(model) as calls:
        graph = function.get_concrete_function(*specs).graph
    uses: Uses = {}
    for call in calls:
        found = _rule(call.layer)(call)
        for key, times in found.items():
            total = uses.get(key, 0)
            is_known = times is not None and total is not None and call.graph is graph
            uses[key] = times + total if is_known else None  # a loop may call it often
    return uses


@contextlib.contextmanager
def _recorded(model: Any) -> Iterator[list[Call]]:
    """Records the calls in the block of the layers that have a rule."""
    calls: list[Call] = []
    layers = [layer for layer in _outermost(model) if _rule(layer)]
    for layer in layers:
        vars(layer)["call"] = _recording(layer, calls)
    try:
        yield calls
    finally:
        for layer in layers:
            del vars(layer)["call"]


def _outermost(layer: Any) -> list[Any]:
    """The layers of a model, but not those within a layer that has a rule."""
    found, pending, seen = [], [layer], set()
    while pending:
        each = pending.pop()
        if id(each) not in seen:
            seen.add(id(each))
            found.append(each)
            if not _rule(each):
                pending += each._flatten_layers(recursive=False, include_self=False)
    return found


def _recording(layer: Any, calls: list[Call]) -> Callable:
    original = layer.call

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        outputs = original(*args, **kwargs)
        given = list(args) or list(kwargs.values())
        first, result = (tf.nest.flatten(each)[0] for each in (given, outputs))
        graph = tf.compat.v1.get_default_graph()
        calls.append(Call(layer, tuple(first.shape), tuple(result.shape), graph))
        return outputs

    return call


def _is_own(layer: Any) -> bool:
    return type(layer).__module__.startswith(tuple(f"{flavor}." for flavor in FLAVORS))


def _product(sizes: Any) -> int | None:
    return None if None in sizes else math.prod(sizes)


def _times(*factors: int | None) -> int | None:
    return _product(factors)


def _pixels(layer: Any, shape: Shape) -> int | None:
    """The number of positions of an image, sequence or volume, times that of samples."""
    axis = 1 if layer.data_format == "channels_first" else len(shape) - 1
    return _product(shape[:axis] + shape[axis + 1 :])


def _named(layer: Any, names: tuple[str, ...], times: int | None) -> Uses:
    variables = [getattr(layer, name, None) for name in names]
    return {id(tf_variable(v)): times for v in variables if v is not None}


def _dense(call: Call) -> Uses:
    return _named(call.layer, ("kernel",), _product(call.input[:-1]))


def _convolution(call: Call) -> Uses:
    names = ("depthwise_kernel", "pointwise_kernel", "kernel")
    return _named(call.layer, names, _pixels(call.layer, call.output))


def _transposed(call: Call) -> Uses:
    return _named(call.layer, ("kernel",), _pixels(call.layer, call.input))


def _einsum(call: Call) -> Uses:
    """Each index of the output that the kernel does not have stands for other inputs."""
    inputs, outputs = call.layer.equation.split("->")
    letters, shape = inputs.split(",")[1], call.layer.kernel.shape
    in_kernel = [s for letter, s in zip(letters, shape, strict=True) if letter in outputs]
    total = _product(call.output)
    times = None if total is None else total // math.prod(in_kernel)
    return _named(call.layer, ("kernel",), times)


def _recurrent(call: Call) -> Uses:
    cell = getattr(call.layer, "cell", call.layer)
    steps = _product(call.input[:2])
    uses: Uses = {}
    for each in getattr(cell, "cells", [cell]):
        if _is_own(each):
            uses |= _named(each, ("kernel", "recurrent_kernel"), steps)
        else:
            uses |= dict.fromkeys((id(tf_variable(v)) for v in each.weights), None)
    return uses


def _recurrent_convolution(call: Call) -> Uses:
    sequence = call.layer.return_sequences
    image = call.output[2:] if sequence else call.output[1:]
    times = _times(_product(call.input[:2]), _pixels(call.layer, (1, *image)))
    return _named(call.layer.cell, ("kernel", "recurrent_kernel"), times)


def _time_distributed(call: Call) -> Uses:
    inner = call.layer.layer
    if not _rule(inner):
        return dict.fromkeys((id(tf_variable(v)) for v in inner.weights), None)
    one = Call(inner, (1, *call.input[2:]), (1, *call.output[2:]))
    return {key: _times(call.input[1], times) for key, times in _rule(inner)(one).items()}


def _locally_connected(call: Call) -> Uses:
    return _named(call.layer, ("kernel",), 1)


_SIZES = ("1D", "2D", "3D")
_RULES: dict[str, Callable[[Call], Uses]] = {
    "Dense": _dense,
    "EinsumDense": _einsum,
    **{
        f"{kind}Conv{size}": _convolution
        for kind in ("", "Depthwise", "Separable")
        for size in _SIZES
    },
    **{f"Conv{size}Transpose": _transposed for size in _SIZES},
    **{f"ConvLSTM{size}": _recurrent_convolution for size in _SIZES},
    **{f"LocallyConnected{size}": _locally_connected for size in _SIZES},
    "RNN": _recurrent,
    "TimeDistributed": _time_distributed,
}


def _rule(layer: Any) -> Any:
    """The rule of a layer, by its class or the first of its base classes that has one."""
    return next((_RULES[name] for name in class_names(layer) if name in _RULES), None)
