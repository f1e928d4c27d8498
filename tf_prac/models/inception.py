"""Inception-v3, without the auxiliary classifier.

Batch normalization has no gamma. Initialization: Glorot uniform. With 1000 classes: 23.8M
parameters; the 27.1M in the papers include the auxiliary classifier.

Sources: Szegedy et al. 2016, "Rethinking the Inception Architecture for Computer Vision", Table 1
and Figures 5 to 7, with the layers of `keras.applications.InceptionV3`; used by Frankle et al.
2019, "Stabilizing the Lottery Ticket Hypothesis", Section 5.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from tf_prac.models.layers import Model, Tensor, classifier, image_input, relu


def inception_v3(keras: ModuleType, input_shape: tuple[int, ...], num_classes: int) -> Model:
    """Inception-v3. Takes images of at least 75 x 75 pixels; 299 x 299 for ImageNet."""
    inputs = x = image_input(keras, "inception_v3", input_shape, smallest=75)
    x = _stem(keras, x)
    for index, pool_width in enumerate((32, 64, 64)):
        x = _block_a(keras, x, f"mixed{index}", pool_width)
    x = _reduction_a(keras, x, "mixed3")
    for index, width in enumerate((128, 160, 160, 192), start=4):
        x = _block_b(keras, x, f"mixed{index}", width)
    x = _reduction_b(keras, x, "mixed8")
    for index in (9, 10):
        x = _block_c(keras, x, f"mixed{index}")
    glorot = keras.initializers.GlorotUniform()
    return classifier(keras, "inception_v3", inputs, x, num_classes, glorot)


def _stem(keras: ModuleType, x: Tensor) -> Tensor:
    x = _conv(keras, x, 32, 3, "stem_1", strides=2, padding="valid")
    x = _conv(keras, x, 32, 3, "stem_2", padding="valid")
    x = _conv(keras, x, 64, 3, "stem_3")
    x = keras.layers.MaxPooling2D(3, 2, name="stem_pool1")(x)
    x = _conv(keras, x, 80, 1, "stem_4", padding="valid")
    x = _conv(keras, x, 192, 3, "stem_5", padding="valid")
    return keras.layers.MaxPooling2D(3, 2, name="stem_pool2")(x)


def _block_a(keras: ModuleType, x: Tensor, name: str, pool_width: int) -> Tensor:
    """Figure 5, with a 5 x 5 branch as in `keras.applications`."""
    branches = [
        _chain(keras, x, f"{name}_1x1", (64, 1)),
        _chain(keras, x, f"{name}_5x5", (48, 1), (64, 5)),
        _chain(keras, x, f"{name}_3x3", (64, 1), (96, 3), (96, 3)),
        _pooled(keras, x, f"{name}_pool", pool_width),
    ]
    return keras.layers.Concatenate(name=name)(branches)


def _reduction_a(keras: ModuleType, x: Tensor, name: str) -> Tensor:
    halved: dict[str, Any] = {"strides": 2, "padding": "valid"}
    deep = _chain(keras, x, f"{name}_deep", (64, 1), (96, 3))
    branches = [
        _conv(keras, x, 384, 3, f"{name}_3x3", **halved),
        _conv(keras, deep, 96, 3, f"{name}_deep_3", **halved),
        keras.layers.MaxPooling2D(3, 2, name=f"{name}_pool")(x),
    ]
    return keras.layers.Concatenate(name=name)(branches)


def _block_b(keras: ModuleType, x: Tensor, name: str, width: int) -> Tensor:
    """Figure 6: a 7 x 7 convolution as 1 x 7 followed by 7 x 1."""
    row, column = (1, 7), (7, 1)
    deep = [(width, 1), (width, column), (width, row), (width, column), (192, row)]
    branches = [
        _chain(keras, x, f"{name}_1x1", (192, 1)),
        _chain(keras, x, f"{name}_7x7", (width, 1), (width, row), (192, column)),
        _chain(keras, x, f"{name}_deep", *deep),
        _pooled(keras, x, f"{name}_pool", 192),
    ]
    return keras.layers.Concatenate(name=name)(branches)


def _reduction_b(keras: ModuleType, x: Tensor, name: str) -> Tensor:
    halved: dict[str, Any] = {"strides": 2, "padding": "valid"}
    narrow = _chain(keras, x, f"{name}_3x3", (192, 1))
    deep = _chain(keras, x, f"{name}_7x7", (192, 1), (192, (1, 7)), (192, (7, 1)))
    branches = [
        _conv(keras, narrow, 320, 3, f"{name}_3x3_2", **halved),
        _conv(keras, deep, 192, 3, f"{name}_7x7_4", **halved),
        keras.layers.MaxPooling2D(3, 2, name=f"{name}_pool")(x),
    ]
    return keras.layers.Concatenate(name=name)(branches)


def _block_c(keras: ModuleType, x: Tensor, name: str) -> Tensor:
    """Figure 7: a 3 x 3 convolution as 1 x 3 and 3 x 1 in parallel."""
    wide = _chain(keras, x, f"{name}_3x3", (384, 1))
    deep = _chain(keras, x, f"{name}_deep", (448, 1), (384, 3))
    branches = [
        _chain(keras, x, f"{name}_1x1", (320, 1)),
        *_fork(keras, wide, f"{name}_3x3"),
        *_fork(keras, deep, f"{name}_deep"),
        _pooled(keras, x, f"{name}_pool", 192),
    ]
    return keras.layers.Concatenate(name=name)(branches)


def _fork(keras: ModuleType, x: Tensor, name: str) -> list[Tensor]:
    sizes = {"row": (1, 3), "column": (3, 1)}
    return [_conv(keras, x, 384, size, f"{name}_{axis}") for axis, size in sizes.items()]


def _pooled(keras: ModuleType, x: Tensor, name: str, width: int) -> Tensor:
    x = keras.layers.AveragePooling2D(3, 1, padding="same", name=name)(x)
    return _conv(keras, x, width, 1, f"{name}_1x1")


def _chain(keras: ModuleType, x: Tensor, name: str, *layers: tuple[int, Any]) -> Tensor:
    for number, (width, size) in enumerate(layers, start=1):
        x = _conv(keras, x, width, size, f"{name}_{number}")
    return x


def _conv(
    keras: ModuleType,
    x: Tensor,
    filters: int,
    size: Any,
    name: str,
    *,
    strides: int = 1,
    padding: str = "same",
) -> Tensor:
    """A convolution without bias, batch normalization without gamma, and a ReLU."""
    conv = keras.layers.Conv2D(
        filters, size, strides=strides, padding=padding, use_bias=False, name=f"{name}_conv"
    )
    x = keras.layers.BatchNormalization(scale=False, name=f"{name}_bn")(conv(x))
    return relu(keras, x, f"{name}_relu")
