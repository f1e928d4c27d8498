"""How a model uses its kernels: multiplications, and the conditions of sparse inference."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_prac.export.serving import Serving
from tf_prac.keras_api import named_weights, tf_variable

_LAYOUT_OPS = (
    "ReadVariableOp",
    "Identity",
    "Cast",
    "Reshape",
    "ExpandDims",
    "Squeeze",
    "Transpose",
)
_MULTIPLICATIONS = (
    "BatchMatMulV2",
    "Conv2D",
    "Conv2DBackpropInput",
    "Conv3D",
    "DepthwiseConv2dNative",
    "Einsum",
    "MatMul",
)


@dataclasses.dataclass(frozen=True)
class KernelUse:
    """One operation that multiplies by a kernel.

    Attributes:
        name: name of the weight.
        operation: type of the operation, "Conv2D", "MatMul", ...
        shape: shape of the kernel.
        positions: number of multiplications by each kernel element for one sample; None if it
            depends on the input's size.
        strides: (height, width) of a convolution's strides.
        padded_by_one: whether the input is padded by exactly one row and column on every side.
    """

    name: str
    operation: str
    shape: tuple[int, ...]
    positions: int | None
    strides: tuple[int, int] = (1, 1)
    padded_by_one: bool = False


def kernel_uses(model: Any, served: Serving) -> list[KernelUse]:
    """Returns every multiplication by a kernel, in the order of the graph.

    Operations inside loops are not included.

    Args:
        model: a built model of either flavour.
        served: its traced graph.
    """
    weights = {}
    for weight in named_weights(model):
        weights[id(tf_variable(weight.variable))] = (weight.name, tuple(weight.variable.shape))
    captured = {}
    for outer, inner in served.graph.captures:
        variable = getattr(outer, "_parent_trackable", lambda: None)()
        if id(variable) in weights:
            captured[inner.name] = weights[id(variable)]
    uses = []
    for operation in served.graph.get_operations():
        if operation.type in _MULTIPLICATIONS:
            kernels = [_kernel(tensor, captured) for tensor in operation.inputs]
            uses += [_use(operation, *kernel) for kernel in kernels if kernel is not None]
    return uses


def multiplications(uses: list[KernelUse], kept: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Returns the multiplications of one sample by kernel: (dense, with its mask).

    Args:
        uses: the kernel uses of a model.
        kept: number of elements that the mask keeps, by name of the weight.
    """
    counts: dict[str, tuple[int, int]] = {}
    for use in uses:
        if use.positions is not None:
            size = int(np.prod(use.shape))
            dense, masked = counts.get(use.name, (0, 0))
            dense += use.positions * size
            masked += use.positions * kept.get(use.name, size)
            counts[use.name] = (dense, masked)
    return counts


def sparse_inference(
    uses: list[KernelUse], masks: Mapping[str, np.ndarray], storage: str, stored_sparse: bool
) -> dict[str, Any]:
    """Returns whether XNNPACK's sparse inference applies to a TFLite model, and why not.

    The conditions are documented by XNNPACK's delegate in TensorFlow Lite, "Sparse Inference":
    a floating-point network that starts with a 3x3 convolution of stride 2 over 3 channels, padded
    by one; after it, all convolutions are 1x1, with at least two thirds zeros, or depthwise 3x3 or
    5x5; weights are stored sparse.

    Args:
        uses: the kernel uses of the model.
        masks: its masks, by name of the weight.
        storage: storage type of the weights, such as "float32".
        stored_sparse: whether the file stores weights sparse.

    Returns:
        "qualifies", True or False, and "reasons", a list of unmet conditions.
    """
    reasons = []
    convolutions = [u for u in uses if u.operation == "Conv2D"]
    first = convolutions[0] if convolutions else None
    if first is None:
        reasons.append("no convolutions")
    else:
        shape = (3, 3, 3)
        if first.shape[:3] != shape or first.strides != (2, 2) or not first.padded_by_one:
            reasons.append(
                f"starts with {_text(first)}, not a 3x3 convolution of stride 2 over 3 channels "
                "padded by one on every side"
            )
    others = [u for u in convolutions[1:] if u.shape[:2] != (1, 1) or u.strides != (1, 1)]
    if others:
        reasons.append(
            f"{len(others)} convolutions are not 1x1 of stride 1, such as {_text(others[0])}"
        )
    pointwise = [u.name for u in convolutions[1:] if u.shape[:2] == (1, 1)]
    zeros = [1 - float(np.mean(masks[n])) if n in masks else 0.0 for n in pointwise]
    if first is not None and not pointwise:
        reasons.append("no 1x1 convolutions")
    elif zeros and min(zeros) < 2 / 3:
        worst = pointwise[int(np.argmin(zeros))]
        reasons.append(f"{worst} has {min(zeros):.1%} zeros, fewer than two thirds")
    depthwise = [u for u in uses if u.operation == "DepthwiseConv2dNative"]
    if any(u.shape[:2] not in ((3, 3), (5, 5)) for u in depthwise):
        reasons.append("depthwise convolutions other than 3x3 and 5x5")
    if storage == "int8":
        reasons.append("int8 weights: only floating point is supported")
    if not stored_sparse:
        reasons.append("weights are stored dense")
    return {"qualifies": not reasons, "reasons": reasons}


def _kernel(tensor: Any, captured: Mapping[str, Any]) -> Any:
    """The weight (name, shape) that a tensor reads, casts or reshapes; None if it is no weight."""
    while tensor.name not in captured:
        operation = tensor.op
        if operation.type not in _LAYOUT_OPS or not operation.inputs:
            return None
        tensor = operation.inputs[0]
    return captured[tensor.name]


def _use(operation: Any, name: str, shape: tuple[int, ...]) -> KernelUse:
    strides, padded = (1, 1), False
    if operation.type in ("Conv2D", "DepthwiseConv2dNative"):
        attribute = list(operation.get_attr("strides"))
        strides = (attribute[1], attribute[2])
        padded = _padded_by_one(operation, shape, strides)
    return KernelUse(name, operation.type, shape, _positions(operation, shape), strides, padded)


def _positions(operation: Any, shape: tuple[int, ...]) -> int | None:
    """Returns the number of multiplications by each kernel element, for one sample."""
    if operation.type == "Conv2DBackpropInput":
        sizes = operation.inputs[2].shape.as_list()[1:-1]
    elif operation.type == "DepthwiseConv2dNative":
        sizes = operation.outputs[0].shape.as_list()[1:3]
    elif operation.type == "Einsum":
        total = operation.outputs[0].shape.as_list()[1:]
        inputs = [t.shape.as_list()[1:] for t in operation.inputs]
        known = None not in total and all(None not in i for i in inputs)
        return _einsum_positions(operation, shape) if known else None
    else:
        sizes = operation.outputs[0].shape.as_list()[1:-1]
    return None if None in sizes else int(np.prod(sizes, initial=1))


def _einsum_positions(operation: Any, shape: tuple[int, ...]) -> int | None:
    """Returns the product of the sizes of the indices that are neither batch nor in the kernel."""
    equation = operation.get_attr("equation").decode()
    left, _ = equation.split("->")
    sizes: dict[str, int] = {}
    terms = left.split(",")
    for term, tensor in zip(terms, operation.inputs, strict=True):
        if "..." in term:
            return None
        sizes.update(zip(term, tensor.shape.as_list(), strict=True))
    kernel = next(
        t for t, x in zip(terms, operation.inputs, strict=True) if tuple(x.shape) == shape
    )
    free = [size for index, size in sizes.items() if index not in kernel and size is not None]
    return int(np.prod(free, initial=1))


def _padded_by_one(operation: Any, shape: tuple[int, ...], strides: tuple[int, int]) -> bool:
    sizes = operation.inputs[0].shape.as_list()[1:3]
    if operation.get_attr("padding") == b"SAME":
        if None in sizes:
            return False
        pads = [
            max((-(-n // s) - 1) * s + k - n, 0)
            for n, s, k in zip(sizes, strides, shape, strict=False)
        ]
        return pads == [2, 2]
    source = operation.inputs[0].op
    if source.type not in ("Pad", "PadV2"):
        return False
    from tensorflow import get_static_value

    amounts = get_static_value(source.inputs[1])
    return amounts is not None and np.asarray(amounts)[1:3].tolist() == [[1, 1], [1, 1]]


def _text(use: KernelUse) -> str:
    height, width = use.shape[:2]
    return f"{use.name} ({height}x{width}, stride {use.strides[0]})"
