"""Whether XNNPACK, the CPU backend of TFLite, runs a network with its sparse kernels.

XNNPACK decides when it loads a model, in `xnn_subgraph_rewrite_for_nchw` of its `src/subgraph.c`.
This module applies the same rules to the served graph, and names each rule that is not met.
"""

from __future__ import annotations

import pathlib
import platform
from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_prac.export.kernels import KernelUse

# Operations of TensorFlow that the converter maps to nodes that XNNPACK runs in its sparse layout.
# It merges batch normalization and biases into convolutions.
_FOLLOWING = {"AddV2", "Add", "Mul", "BiasAdd", "FusedBatchNormV3", "Identity", "Pad", "PadV2"}
_FOLLOWING |= {"Relu", "Relu6", "LeakyRelu", "Elu", "Sigmoid", "Tanh", "Abs", "Neg", "Square"}
_FOLLOWING |= {"Conv2D", "DepthwiseConv2dNative", "Mean", "Sub", "Sqrt", "Rsqrt", "Minimum"}
_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")


def sparse_inference(
    uses: list[KernelUse],
    graph: Any,
    masks: Mapping[str, np.ndarray],
    storage: str,
    stored_sparse: bool,
) -> dict[str, Any]:
    """Returns whether XNNPACK's sparse inference applies to a TFLite model, and why not.

    Source: `src/subgraph.c` and `hardware-config.h` of XNNPACK; "Sparse Inference" in the
    documentation of its delegate; "Fast Sparse ConvNets", Elsen et al. 2019.

    Args:
        uses: the kernel uses of the model, in the order of the graph.
        graph: its traced graph.
        masks: its masks, by name of the weight.
        storage: storage type of the weights, such as "float32".
        stored_sparse: whether the file stores weights sparse.

    Returns:
        "qualifies": whether the network meets the conditions; "reasons": unmet conditions;
        "zeros": fraction of zeros in the 1x1 convolutions; "processor": on which ones the sparse
        kernels run, and whether this machine is one of them.
    """
    convolutions = [use for use in uses if use.operation in _CONVOLUTIONS]
    reasons: list[str] = []
    if not convolutions:
        reasons.append("no convolutions")
    else:
        reasons += _start(convolutions[0])
        reasons += _following(convolutions[1:])
        reasons += _path(graph.get_operation_by_name(convolutions[0].node))
    pointwise = [u.name for u in convolutions[1:] if u.operation == "Conv2D" and u.is_pointwise]
    zeros = _zeros(pointwise, uses, masks)
    if convolutions and zeros is None:
        reasons.append("no 1x1 convolutions")
    elif zeros is not None and 3 * zeros <= 2:
        reasons.append(
            f"{zeros:.1%} zeros in the {len(pointwise)} 1x1 convolutions together, "
            "not more than two thirds"
        )
    if storage == "int8":
        reasons.append("int8 weights: only floating point is supported")
    if not stored_sparse:
        reasons.append("weights are stored dense")
    return {
        "qualifies": not reasons,
        "reasons": reasons,
        "zeros": zeros,
        "processor": {"this_machine": has_sparse_kernels(), "text": _PROCESSORS},
    }


_PROCESSORS = (
    "XNNPACK has sparse kernels for ARM and WebAssembly, and switches them off on x86 processors "
    "with AVX, where its dense kernels are faster"
)


def has_sparse_kernels(cpuinfo: str = "/proc/cpuinfo") -> bool | None:
    """Returns whether XNNPACK uses its sparse kernels on this processor; None if unknown.

    Args:
        cpuinfo: the file in which Linux describes the processor. Default "/proc/cpuinfo".
    """
    machine = platform.machine().lower()
    if machine not in ("x86_64", "amd64", "i386", "i686"):
        return True if machine.startswith(("arm", "aarch64")) else None
    try:
        lines = pathlib.Path(cpuinfo).read_text().splitlines()
    except OSError:
        return None
    flags = next((line.split() for line in lines if line.startswith("flags")), None)
    return None if flags is None else "avx" not in flags


def _start(first: KernelUse) -> list[str]:
    fits = first.operation == "Conv2D" and first.shape[:3] == (3, 3, 3)
    if fits and first.strides == (2, 2) and first.dilations == (1, 1) and first.padding == 1:
        return []
    return [
        f"starts with {_text(first)}, not a 3x3 convolution of stride 2 over 3 channels "
        "after a ZeroPadding2D(1) ('same' padding of stride 2 does not count)"
    ]


def _following(convolutions: list[KernelUse]) -> list[str]:
    reasons = []
    for operation, allowed in (
        ("Conv2D", "1x1 of stride 1 without groups"),
        ("DepthwiseConv2dNative", "3x3 or 5x5 of stride 1 or 2, padded alike on all sides"),
    ):
        chosen = [use for use in convolutions if use.operation == operation]
        other = [use for use in chosen if not _is_supported(use)]
        if other:
            kind = "convolutions" if operation == "Conv2D" else "depthwise convolutions"
            count = f"{len(other)} of {len(chosen)} {kind} are not {allowed}"
            reasons.append(f"{count}, such as {_text(other[0])}")
    return reasons


def _is_supported(use: KernelUse) -> bool:
    if use.dilations != (1, 1):
        return False
    if use.operation == "Conv2D":
        return use.is_pointwise and use.strides == (1, 1) and not use.padding and use.groups == 1
    size = use.shape[0]
    return (
        use.shape[:2] in ((3, 3), (5, 5))
        and use.strides in ((1, 1), (2, 2))
        and use.padding == size // 2
        and use.shape[3] == 1  # depth multiplier
    )


def _path(start: Any) -> list[str]:
    """The reasons in the operations between the first convolution and the mean at the end."""
    pending, seen, ends = [start], {start.name}, 0
    while pending:
        operation = pending.pop()
        if operation.type == "Mean" and _is_spatial(operation):
            ends += 1
            continue
        if operation.type not in _FOLLOWING:
            return [f"{operation.name} ({operation.type}) is not run in the sparse layout"]
        users = [user for tensor in operation.outputs for user in tensor.consumers()]
        if not users:
            return ["does not end in a mean over height and width (GlobalAveragePooling2D)"]
        new = [user for user in users if user.name not in seen]
        seen |= {user.name for user in new}
        pending += new
    return [] if ends else ["does not end in a mean over height and width"]


def _is_spatial(operation: Any) -> bool:
    from tensorflow import get_static_value

    axes = get_static_value(operation.inputs[1])
    return axes is not None and sorted(np.atleast_1d(axes).tolist()) == [1, 2]


def _zeros(names: list[str], uses: list[KernelUse], masks: Mapping[str, np.ndarray]) -> Any:
    """The fraction of zeros in weights together; None if there are no weights."""
    sizes = {use.name: int(np.prod(use.shape)) for use in uses if use.name in names}
    pruned = sum(int(np.size(masks[n]) - np.count_nonzero(masks[n])) for n in sizes if n in masks)
    return pruned / sum(sizes.values()) if sizes else None


def _text(use: KernelUse) -> str:
    height, width = use.shape[:2]
    padding = "padding unequal or by 'same'" if use.padding is None else f"padding {use.padding}"
    return f"{use.name} ({height}x{width}, stride {use.strides[0]}, {padding})"
