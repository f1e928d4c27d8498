"""How a model uses its kernels: operations, strides and padding."""

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
        strides: (height, width) of a convolution's strides.
        dilations: (height, width) of its dilations.
        groups: number of groups of a convolution.
        padding: rows and columns of explicit padding, or of "same" padding of stride 1, on every
            side of the input of a convolution; None if sides differ or it depends on the size.
        node: name of the operation in the graph.
    """

    name: str
    operation: str
    shape: tuple[int, ...]
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    groups: int = 1
    padding: int | None = 0
    node: str = ""

    @property
    def is_pointwise(self) -> bool:
        """Whether it is a 1x1 convolution."""
        return self.shape[:2] == (1, 1)


def kernel_uses(model: Any, served: Serving) -> list[KernelUse]:
    """Returns every multiplication by a kernel, in the order of the graph.

    Operations inside loops are not included.

    Args:
        model: a built model of either flavor.
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


def _kernel(tensor: Any, captured: Mapping[str, Any]) -> Any:
    """The weight (name, shape) that a tensor reads, casts or reshapes; None if it is no weight."""
    while tensor.name not in captured:
        operation = tensor.op
        if operation.type not in _LAYOUT_OPS or not operation.inputs:
            return None
        tensor = operation.inputs[0]
    return captured[tensor.name]


def _use(operation: Any, name: str, shape: tuple[int, ...]) -> KernelUse:
    use = KernelUse(name, operation.type, shape, node=operation.name)
    if operation.type not in ("Conv2D", "DepthwiseConv2dNative"):
        return use
    strides, dilations = (tuple(operation.get_attr(n))[1:3] for n in ("strides", "dilations"))
    channels = operation.inputs[0].shape.as_list()[-1]
    is_grouped = operation.type == "Conv2D" and channels is not None
    return dataclasses.replace(
        use,
        strides=strides,
        dilations=dilations,
        groups=channels // shape[2] if is_grouped else 1,
        padding=_padding(operation, shape, strides),
    )


def _padding(operation: Any, shape: tuple[int, ...], strides: tuple[int, ...]) -> int | None:
    """Returns the padding of all four sides, or None."""
    if operation.get_attr("padding") == b"SAME":
        if shape[0] != shape[1] or shape[0] % 2 == 0:
            return None
        return shape[0] // 2 if set(strides) == {1} or shape[0] == 1 else None
    source = operation.inputs[0].op
    if source.type not in ("Pad", "PadV2"):
        return 0
    from tensorflow import get_static_value

    amounts = get_static_value(source.inputs[1])
    sides = set() if amounts is None else set(np.asarray(amounts)[1:3].reshape(-1).tolist())
    return sides.pop() if len(sides) == 1 else None
