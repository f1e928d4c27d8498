"""The building blocks of the networks, for both Keras flavors.

Every function takes the flavor module as its first argument, `keras`, and uses only what the two
flavors have in common. Weights are interchangeable with the papers' PyTorch networks: padding is
symmetric, and batch normalization uses PyTorch's constants.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, TypeAlias

from tf_prac.errors import ArgumentError

Model: TypeAlias = Any
"""A `keras.Model` of either flavor."""

Tensor: TypeAlias = Any
"""A symbolic tensor of either flavor."""


def image_input(keras: ModuleType, model: str, shape: tuple[int, ...], smallest: int) -> Tensor:
    """Returns the input of an image network, after checking that the network can take it.

    Args:
        keras: the flavor module.
        model: name of the network, for the error message.
        shape: (height, width, channels).
        smallest: minimum height and width in pixels, so that no pooling or strided layer has an
            empty output.

    Raises:
        ArgumentError: If `shape` is not an image shape, or the image is too small.
    """
    received = f"{model} on inputs of shape {shape}"
    if len(shape) != 3:
        remedy = "Use lenet300, which flattens any input."
        raise ArgumentError("model", received, "inputs of shape (height, width, channels)", remedy)
    if min(shape[:2]) < smallest:
        allowed = f"images of at least {smallest} x {smallest} pixels"
        raise ArgumentError("model", received, allowed, "Use a smaller model or larger images.")
    return keras.Input(shape, name="image")


def he_normal(keras: ModuleType, fan: str = "fan_in") -> Any:
    """PyTorch's `kaiming_normal_` for ReLU: normal with variance 2 / fan, not truncated.

    Always a new object, because a Keras 3 initializer returns the same values each time.

    Args:
        keras: the flavor module.
        fan: "fan_in" or "fan_out".
    """
    return keras.initializers.VarianceScaling(2.0, mode=fan, distribution="untruncated_normal")


def convolution(
    keras: ModuleType,
    x: Tensor,
    filters: int,
    size: int,
    name: str,
    *,
    stride: int = 1,
    fan: str = "fan_in",
    use_bias: bool = False,
) -> Tensor:
    """A convolution padded by (size - 1) / 2 on every side, like PyTorch's `padding=size // 2`.

    With stride 2, Keras's "same" pads an even image only at the bottom and right, which shifts the
    grid by one pixel compared with the papers' networks.

    Args:
        keras: the flavor module.
        x: images, (batch, height, width, channels).
        filters: number of output channels.
        size: odd kernel size, in pixels.
        name: name of the layer; a separate padding layer is `<name>_pad`.
        stride: 1 or 2.
        fan: mode of the He initialization, see `he_normal`.
        use_bias: whether to add a bias, initialized to zero.
    """
    padding = "same"
    if stride > 1 and size > 1:
        x = keras.layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
        padding = "valid"
    return keras.layers.Conv2D(
        filters,
        size,
        strides=stride,
        padding=padding,
        use_bias=use_bias,
        kernel_initializer=he_normal(keras, fan),
        name=name,
    )(x)


def batch_norm(keras: ModuleType, x: Tensor, name: str) -> Tensor:
    """Batch normalization with PyTorch's defaults (Keras's momentum is 1 - PyTorch's)."""
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)


def output_dtype(keras: ModuleType) -> str:
    """The dtype of logits: the weights' dtype, as bfloat16 is too coarse for a softmax."""
    return keras.mixed_precision.global_policy().variable_dtype


def relu(keras: ModuleType, x: Tensor, name: str) -> Tensor:
    """A separate ReLU layer."""
    return keras.layers.ReLU(name=name)(x)


def classifier(
    keras: ModuleType,
    model: str,
    inputs: Tensor,
    features: Tensor,
    num_classes: int,
    kernel_initializer: Any,
) -> Model:
    """Completes a convolutional network: global average pooling and one dense layer of logits.

    Args:
        keras: the flavor module.
        model: name of the network.
        inputs: the network's input.
        features: its last feature maps, (batch, height, width, channels).
        num_classes: number of logits.
        kernel_initializer: initializer of the dense kernel; the bias is zero.

    Returns:
        The built model.
    """
    x = keras.layers.GlobalAveragePooling2D(name="global_pool")(features)
    dense = keras.layers.Dense(
        num_classes, kernel_initializer=kernel_initializer, name="logits", dtype=output_dtype(keras)
    )
    return keras.Model(inputs, dense(x), name=model)
