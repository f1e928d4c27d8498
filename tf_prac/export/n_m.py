"""Which weights have the 2:4 sparsity that NVIDIA's sparse Tensor Cores (Ampere or later) need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_prac.keras_api import class_names, named_weights

_LAYERS = ("Dense", "Conv1D", "Conv2D", "Conv3D")
GROUP, ZEROS = 4, 2
HALF = 16  # cuSPARSELt: both sizes of a float16 or bfloat16 matrix are multiples of it


def two_of_four(model: Any, masks: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Returns which pruned weights TensorRT and cuSPARSELt can run with 2:4 sparsity.

    TensorRT has sparse kernels for dense layers and convolutions without groups. For each output
    channel and position of the kernel, at least two of every four consecutive input channels must
    be zero, and the number of input channels must be a multiple of four. cuSPARSELt multiplies
    matrices that have two zeros in every four elements of the reduction, in float16, bfloat16 or
    int8 (one zero in every two in float32); both sizes are multiples of 16 in half precision and
    of 32 in int8. A weight that meets these rules is not always run with them: TensorRT times
    dense and sparse kernels, and its developers report that sparse convolutions are faster from
    about 256 input and output channels. Nothing here is a measurement.

    Example:

        >>> rows = two_of_four(network, masks)  # doctest: +SKIP

    Source: Mishra et al. 2021, "Accelerating Sparse Deep Neural Networks". TensorRT:
    `tools/Polygraphy/polygraphy/tools/sparse.py` of NVIDIA/TensorRT (axis and multiple of 4), its
    issues 4054 (groups) and 3849 (256 channels). cuSPARSELt: "Data Types", `cusparseLtSparsity_t`;
    sizes: `torch/sparse/semi_structured.py` of PyTorch.

    Args:
        model: a built model of either flavor.
        masks: masks of its pruned weights, by name.

    Returns:
        For each mask a row with "name"; "tensorrt" and "cusparselt", whether each can use it; and
        "reason", the first unmet condition, or "".
    """
    weights = {weight.name: weight for weight in named_weights(model)}
    return [_row(weights[name], np.asarray(mask)) for name, mask in masks.items()]


def is_two_of_four(mask: np.ndarray) -> bool:
    """Whether at least two of every four consecutive input channels are pruned.

    Args:
        mask: the mask of a kernel, bool [..., input channels, output channels]; the number of input
            channels is a multiple of four.
    """
    by_output = np.moveaxis(mask, -2, -1)  # the input channels are the reduction
    kept = by_output.reshape(-1, GROUP).sum(1)
    return bool((kept <= GROUP - ZEROS).all())


def _row(weight: Any, mask: np.ndarray) -> dict[str, Any]:
    layer, reason = weight.layer, ""
    names = class_names(layer)
    is_supported = any(name in _LAYERS for name in names)
    if not is_supported or any("Depthwise" in n or "Transpose" in n for n in names):
        reason = f"{names[0]} is neither a dense layer nor a convolution"
    elif mask.ndim < 2:
        reason = "not a kernel"
    elif getattr(layer, "groups", 1) != 1:
        reason = f"{layer.groups} groups"
    elif mask.shape[-2] % GROUP:
        reason = f"{mask.shape[-2]} input channels, not a multiple of 4"
    elif not is_two_of_four(mask):
        reason = "more than two weights are kept in a group of four input channels"
    columns, outputs = mask.shape[-2:] if mask.ndim > 1 else (0, 0)
    is_product = mask.ndim == 2 or all(size == 1 for size in mask.shape[:-2])
    fits = is_product and columns % HALF == 0 and outputs % HALF == 0
    tensorrt, cusparselt = not reason, not reason and fits
    if tensorrt and not cusparselt:
        reason = (
            f"cuSPARSELt: {columns} x {outputs} is not a multiple of {HALF}"
            if is_product
            else "cuSPARSELt: a convolution, which TensorRT alone lowers to a product"
        )
    return {"name": weight.name, "tensorrt": tensorrt, "cusparselt": cusparselt, "reason": reason}
