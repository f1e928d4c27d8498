"""Residual networks: ResNet-8, -20 and -56 for small images, ResNet-18 and -50 for ImageNet.

Convolutions have no bias, because batch normalization follows each. Parameters are as published:
0.27M (ResNet-20) and 0.85M (ResNet-56) with 10 classes, 11.69M (ResNet-18) and 25.56M (ResNet-50)
with 1000. `resnet20_projection` has the shortcuts of "Stabilizing the Lottery Ticket Hypothesis"
and "Linear Mode Connectivity", 274K parameters; the PrAC paper's ResNet-20 has option-A shortcuts.

Sources: He et al. 2016, "Deep Residual Learning for Image Recognition", Section 4.2 (CIFAR, the
option-A shortcuts) and Table 1 (ImageNet); Zhang et al. 2021, "Efficient Lottery Ticket Finding:
Less Data is More", Section 4, and its official code for the initialization: He normal, by fan-in
for the small networks (logits included) and by fan-out for the large ones, whose logits are
initialized like PyTorch's `Linear`, uniform in +-1 / sqrt(fan_in). Biases are zero. The projection
shortcuts of ResNet-20 are those of the code of Frankle et al. (facebookresearch/open_lth).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType

from tf_prac.models.layers import (
    Model,
    Tensor,
    batch_norm,
    classifier,
    convolution,
    he_normal,
    image_input,
    relu,
)


def resnet8(keras: ModuleType, input_shape: tuple[int, ...], num_classes: int) -> Model:
    """CIFAR ResNet-8: three stages of one block, for quick tests. Images as for ResNet-20."""
    return _cifar_resnet(keras, "resnet8", 1, input_shape, num_classes)


def resnet20(keras: ModuleType, input_shape: tuple[int, ...], num_classes: int) -> Model:
    """CIFAR ResNet-20: three stages of 3 blocks. Takes images of at least 3 x 3 pixels."""
    return _cifar_resnet(keras, "resnet20", 3, input_shape, num_classes)


def resnet20_projection(keras: ModuleType, input_shape: tuple[int, ...], num_classes: int) -> Model:
    """ResNet-20 with projection shortcuts (1 x 1 convolution and batch normalization) where the
    shape changes: 272,474 trainable parameters with 10 classes. Images as for ResNet-20.
    """
    shortcut = partial(_projection, fan="fan_in")
    return _cifar_resnet(keras, "resnet20_projection", 3, input_shape, num_classes, shortcut)


def resnet56(keras: ModuleType, input_shape: tuple[int, ...], num_classes: int) -> Model:
    """CIFAR ResNet-56: three stages of 9 blocks. Takes images of at least 3 x 3 pixels."""
    return _cifar_resnet(keras, "resnet56", 9, input_shape, num_classes)


def resnet18(keras: ModuleType, input_shape: tuple[int, ...], num_classes: int) -> Model:
    """ImageNet ResNet-18. Takes images of at least 17 x 17 pixels; papers use 64 and 224."""
    block = partial(_basic_block, fan="fan_out", shortcut=_projection)
    return _imagenet_resnet(keras, "resnet18", block, (2, 2, 2, 2), input_shape, num_classes)


def resnet50(keras: ModuleType, input_shape: tuple[int, ...], num_classes: int) -> Model:
    """ImageNet ResNet-50 "v1.5", as in torchvision: the 3 x 3 convolution has the stride.
    Takes images of at least 17 x 17 pixels; papers use 64 and 224.
    """
    return _imagenet_resnet(keras, "resnet50", _bottleneck, (3, 4, 6, 3), input_shape, num_classes)


def _cifar_resnet(
    keras: ModuleType,
    name: str,
    depth: int,
    input_shape: tuple[int, ...],
    num_classes: int,
    shortcut: Callable | None = None,
) -> Model:
    inputs = image_input(keras, name, input_shape, smallest=3)
    x = _conv_bn(keras, inputs, 16, 3, "stem", fan="fan_in")
    x = relu(keras, x, "stem_relu")
    block = partial(_basic_block, fan="fan_in", shortcut=shortcut or _subsample_and_pad)
    x = _stages(keras, x, block, (16, 32, 64), (depth,) * 3)
    return classifier(keras, name, inputs, x, num_classes, he_normal(keras))


def _imagenet_resnet(
    keras: ModuleType,
    name: str,
    block: Callable,
    depths: tuple[int, ...],
    input_shape: tuple[int, ...],
    num_classes: int,
) -> Model:
    inputs = image_input(keras, name, input_shape, smallest=17)
    x = _conv_bn(keras, inputs, 64, 7, "stem", fan="fan_out", stride=2)
    x = relu(keras, x, "stem_relu")
    # Padding with zeros does not change the maximum: no value is negative after the ReLU.
    x = keras.layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
    x = keras.layers.MaxPooling2D(3, strides=2, name="stem_pool")(x)
    x = _stages(keras, x, block, (64, 128, 256, 512), depths)
    linear = keras.initializers.VarianceScaling(1 / 3, mode="fan_in", distribution="uniform")
    return classifier(keras, name, inputs, x, num_classes, linear)


def _stages(
    keras: ModuleType,
    x: Tensor,
    block: Callable,
    widths: tuple[int, ...],
    depths: tuple[int, ...],
) -> Tensor:
    """Stages of equal blocks; the first block of every stage but the first halves the image."""
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True), start=1):
        for index in range(1, depth + 1):
            stride = 2 if stage > 1 and index == 1 else 1
            x = block(keras, x, width, stride, f"stage{stage}_block{index}")
    return x


def _basic_block(
    keras: ModuleType,
    x: Tensor,
    width: int,
    stride: int,
    name: str,
    *,
    fan: str,
    shortcut: Callable,
) -> Tensor:
    y = _conv_bn(keras, x, width, 3, name, 1, fan=fan, stride=stride)
    y = relu(keras, y, f"{name}_relu1")
    y = _conv_bn(keras, y, width, 3, name, 2, fan=fan)
    y = keras.layers.Add(name=f"{name}_add")([y, shortcut(keras, x, width, stride, name)])
    return relu(keras, y, f"{name}_relu2")


def _bottleneck(keras: ModuleType, x: Tensor, width: int, stride: int, name: str) -> Tensor:
    y = _conv_bn(keras, x, width, 1, name, 1, fan="fan_out")
    y = relu(keras, y, f"{name}_relu1")
    y = _conv_bn(keras, y, width, 3, name, 2, fan="fan_out", stride=stride)
    y = relu(keras, y, f"{name}_relu2")
    y = _conv_bn(keras, y, 4 * width, 1, name, 3, fan="fan_out")
    y = keras.layers.Add(name=f"{name}_add")([y, _projection(keras, x, 4 * width, stride, name)])
    return relu(keras, y, f"{name}_relu3")


def _subsample_and_pad(keras: ModuleType, x: Tensor, width: int, stride: int, name: str) -> Tensor:
    """The option-A shortcut, without parameters: every second pixel, new channels are zero."""
    if stride == 1:
        return x
    x = keras.layers.AveragePooling2D(1, strides=stride, name=f"{name}_subsample")(x)
    # With "channels_first", padding of the "width" applies to the last axis, here the channels.
    pad = (width - x.shape[-1]) // 2
    return keras.layers.ZeroPadding2D(
        ((0, 0), (pad, pad)), data_format="channels_first", name=f"{name}_widen"
    )(x)


def _projection(
    keras: ModuleType, x: Tensor, width: int, stride: int, name: str, fan: str = "fan_out"
) -> Tensor:
    """The option-B shortcut: a 1 x 1 convolution if the shape changes, else the identity."""
    if stride == 1 and x.shape[-1] == width:
        return x
    return _conv_bn(keras, x, width, 1, f"{name}_shortcut", fan=fan, stride=stride)


def _conv_bn(
    keras: ModuleType,
    x: Tensor,
    filters: int,
    size: int,
    name: str,
    index: int | str = "",
    *,
    fan: str,
    stride: int = 1,
) -> Tensor:
    """A convolution and its batch normalization, `<name>_conv<index>` and `<name>_bn<index>`."""
    x = convolution(keras, x, filters, size, f"{name}_conv{index}", stride=stride, fan=fan)
    return batch_norm(keras, x, f"{name}_bn{index}")
