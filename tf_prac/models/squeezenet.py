"""SqueezeNet 1.0: few parameters and no dense layer; the last convolution outputs the logits.

Initialization: Glorot uniform, biases zero. With 1000 classes: 1,248,424 parameters.

Sources: Iandola et al. 2016, "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters",
Table 1; used by Frankle et al. 2019, "Stabilizing the Lottery Ticket Hypothesis", Section 5.
"""

from __future__ import annotations

from types import ModuleType

from tf_prac.models.layers import Model, Tensor, image_input, output_dtype, relu

_FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
_POOL_AFTER = (4, 8)


def squeezenet(keras: ModuleType, input_shape: tuple[int, ...], num_classes: int) -> Model:
    """SqueezeNet 1.0. Takes images of at least 29 x 29 pixels; 224 x 224 for ImageNet."""
    inputs = image_input(keras, "squeezenet", input_shape, smallest=29)
    x = _conv_relu(keras, inputs, 96, 7, "conv1", stride=2)
    x = keras.layers.MaxPooling2D(3, 2, name="pool1")(x)
    for number, (squeeze, expand) in enumerate(_FIRES, start=2):
        name = f"fire{number}"
        x = _conv_relu(keras, x, squeeze, 1, f"{name}_squeeze")
        expanded = [_conv_relu(keras, x, expand, size, f"{name}_expand{size}") for size in (1, 3)]
        x = keras.layers.Concatenate(name=f"{name}_concat")(expanded)
        if number in _POOL_AFTER:
            x = keras.layers.MaxPooling2D(3, 2, name=f"pool{number}")(x)
    x = keras.layers.Dropout(0.5, name="dropout")(x)
    x = _conv_relu(keras, x, num_classes, 1, "conv10")
    logits = keras.layers.GlobalAveragePooling2D(name="logits", dtype=output_dtype(keras))(x)
    return keras.Model(inputs, logits, name="squeezenet")


def _conv_relu(
    keras: ModuleType, x: Tensor, filters: int, size: int, name: str, stride: int = 1
) -> Tensor:
    x = keras.layers.Conv2D(filters, size, strides=stride, padding="same", name=name)(x)
    return relu(keras, x, f"{name}_relu")
