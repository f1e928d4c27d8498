"""Policies: which layers of a model are pruned, for models of either flavor.

A policy is an object with the two methods of TFMOT's `PruningPolicy`. Policies written for TFMOT
work for tf_keras models, and policies that do not depend on the flavor of a layer for both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tf_prac.checks import class_path
from tf_prac.errors import ArgumentError
from tf_prac.keras_api import class_names, consumers, flavor_of, producers

# Layers that XNNPACK runs sparse with any options, and supported functions of other layers.
_ANYWHERE = {"Add", "Multiply", "Subtract", "Identity", "ZeroPadding2D", "ReLU", "LeakyReLU"}
_ANYWHERE |= {"ELU", "Dropout"}
_FUNCTIONS = {"relu", "relu6", "leaky_relu", "elu", "sigmoid"}
_OPERATIONS = {"identity", "add", "subtract", "multiply"}


class PruneForLatencyOnXNNPack:
    """Prunes only 1x1 convolutions, in networks that XNNPACK runs sparse from end to end.

    Example:

        >>> import keras
        >>> policy = PruneForLatencyOnXNNPack()
        >>> [policy.allow_pruning(keras.layers.Conv2D(8, size)) for size in (1, 3)]
        [True, False]

    Source: TFMOT's policy of this name, and "Fast Sparse ConvNets", Elsen et al. 2019.
    """

    def allow_pruning(self, layer: Any) -> bool:
        """Whether a layer is a 1x1 convolution."""
        return _is(layer, "Conv2D") and tuple(layer.kernel_size) == (1, 1)

    def ensure_model_supports_pruning(self, model: Any) -> None:
        """Raises `ArgumentError` unless XNNPACK can run the model sparse.

        It must be a built functional or sequential model that starts with a 3x3 convolution of
        stride 2 after a padding of 1, ends with global average pooling, and contains only layers
        that XNNPACK supports in between.
        """
        if not getattr(model, "inputs", None):
            raise ArgumentError(
                "policy",
                type(self).__name__,
                "a built functional or sequential model with this policy",
                f"{model.name} is a {type(model).__name__}.",
            )
        starts = _search([t._keras_history[0] for t in model.inputs], _is_start, consumers)
        _require(starts, "3x3 Conv2D of 3 channels, stride 2, 'valid', after ZeroPadding2D(1)")
        ends = _search([t._keras_history[0] for t in model.outputs], _is_end, producers)
        _require(ends, "GlobalAveragePooling2D before each output")

        def at_end(layer: Any) -> bool:
            if layer not in ends and not _is_supported(layer):
                raise ArgumentError(
                    "policy",
                    type(self).__name__,
                    "layers that XNNPACK runs sparse",
                    f"{layer.name} is a {type(layer).__name__} that it does not run sparse.",
                )
            return layer in ends

        _search([c for start in starts for c in consumers(start)], at_end, consumers)


def check_policy(policy: Any, model: Any) -> None:
    """Checks that a policy supports a model.

    Raises:
        ArgumentError: If it does not, is not a policy, or is a TFMOT policy for a Keras 3 model.
    """
    if not (hasattr(policy, "allow_pruning") and hasattr(policy, "ensure_model_supports_pruning")):
        raise ArgumentError(
            "policy", policy, "an object with allow_pruning and ensure_model_supports_pruning"
        )
    from_tfmot = type(policy).__module__.startswith("tensorflow_model_optimization")
    if from_tfmot and flavor_of(model).name == "keras":
        raise ArgumentError(
            "policy",
            class_path(policy),
            "a policy for models of keras (Keras 3)",
            "TFMOT supports only tf_keras; use tf_prac.PruneForLatencyOnXNNPack.",
        )
    try:
        policy.ensure_model_supports_pruning(model)
    except ArgumentError:
        raise
    except ValueError as error:  # what TFMOT raises
        raise ArgumentError(
            "policy", type(policy).__name__, "one that supports the model", str(error)
        ) from error


def _is(layer: Any, name: str) -> bool:
    names = class_names(layer)
    return name in names and f"{name}Transpose" not in names


def _search(
    layers: Iterable[Any], stop: Callable[[Any], bool], following: Callable[[Any], list[Any]]
) -> list[Any]:
    """Returns the first layer on each path from `layers` for which `stop` returns True.

    Returns an empty list if there is none on some path.
    """
    to_visit = list(layers)
    seen, stops = list(to_visit), []
    while to_visit:
        layer = to_visit.pop()
        if stop(layer):
            stops.append(layer)
            continue
        after = following(layer)
        if not after:
            return []
        new = [other for other in after if other not in seen]
        seen += new
        to_visit += new
    return stops


def _require(layers: list[Any], description: str) -> None:
    if not layers:
        raise ArgumentError("policy", "PruneForLatencyOnXNNPack", f"models with {description}")


def _padding_before(layer: Any) -> int:
    """Returns the width of the ZeroPadding2D that is the only layer before `layer`, or 0."""
    before = producers(layer)
    if len(before) != 1 or not _is(before[0], "ZeroPadding2D"):
        return 0
    sizes = {size for side in before[0].padding for size in side}
    return sizes.pop() if len(sizes) == 1 else 0


def _is_start(layer: Any) -> bool:
    return (
        _is(layer, "Conv2D")
        and tuple(layer.kernel.shape[:3]) == (3, 3, 3)
        and tuple(layer.strides) == (2, 2)
        and layer.padding.lower() == "valid"
        and _padding_before(layer) == 1
    )


def _is_end(layer: Any) -> bool:
    return _is(layer, "GlobalAveragePooling2D")


def _is_supported(layer: Any) -> bool:
    """Whether TFMOT's policy, after XNNPACK's compatibility check, allows a layer in between."""
    layer = getattr(layer, "layer", layer) if _is(layer, "PruneLowMagnitude") else layer
    if _is(layer, "DepthwiseConv2D"):
        return _is_supported_depthwise(layer)
    if _is(layer, "Conv2D"):
        ones = (layer.dilation_rate, layer.kernel_size, layer.strides)
        return layer.groups == 1 and all(tuple(sizes) == (1, 1) for sizes in ones)
    if _is_end(layer):
        return bool(layer.keepdims)
    if _is(layer, "BatchNormalization"):
        axis = layer.axis if isinstance(layer.axis, int) else list(layer.axis)
        return axis in (3, -1, [3])
    if _is(layer, "UpSampling2D"):
        return layer.interpolation == "bilinear"
    if _is(layer, "Activation"):
        return layer.activation.__name__ in _FUNCTIONS
    if _is(layer, "TFOpLambda"):
        return layer.function.__name__ in _OPERATIONS
    return bool(_ANYWHERE & set(class_names(layer)))


def _is_supported_depthwise(layer: Any) -> bool:
    size, strides = tuple(layer.kernel_size), tuple(layer.strides)
    if layer.depth_multiplier != 1 or tuple(layer.dilation_rate) != (1, 1):
        return False
    if size not in ((3, 3), (5, 5)):
        return False
    if layer.padding.lower() == "same":
        return strides == (1, 1)
    return strides in ((1, 1), (2, 2)) and _padding_before(layer) == size[0] // 2
