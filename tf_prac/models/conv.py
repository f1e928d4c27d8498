"""Conv-2, Conv-4 and Conv-6: small variants of VGG for CIFAR-10, from the lottery-ticket paper.

Pairs of 3 x 3 convolutions (64, 128, 256 filters), each pair followed by a 2 x 2 max-pooling, then
dense layers of 256, 256 and `num_classes` units. No batch normalization. Initialization: Glorot
normal, biases zero. Parameters on CIFAR-10: 4.3M, 2.4M and 2.3M.

Source: Frankle & Carbin 2019, "The Lottery Ticket Hypothesis", Figure 2.
"""

from __future__ import annotations

from types import ModuleType

from tf_prac.models.layers import Model, image_input, output_dtype


def conv2(keras: ModuleType, input_shape: tuple[int, ...], num_classes: int) -> Model:
    """Conv-2: one pair of convolutions. Takes images of at least 2 x 2 pixels."""
    return _conv(keras, "conv2", 1, input_shape, num_classes)


def conv4(keras: ModuleType, input_shape: tuple[int, ...], num_classes: int) -> Model:
    """Conv-4: two pairs of convolutions. Takes images of at least 4 x 4 pixels."""
    return _conv(keras, "conv4", 2, input_shape, num_classes)


def conv6(keras: ModuleType, input_shape: tuple[int, ...], num_classes: int) -> Model:
    """Conv-6: three pairs of convolutions. Takes images of at least 8 x 8 pixels."""
    return _conv(keras, "conv6", 3, input_shape, num_classes)


def _conv(
    keras: ModuleType, name: str, pairs: int, input_shape: tuple[int, ...], num_classes: int
) -> Model:
    layers, glorot = keras.layers, keras.initializers.GlorotNormal
    inputs = x = image_input(keras, name, input_shape, smallest=2**pairs)
    for index in range(1, 2 * pairs + 1):
        x = layers.Conv2D(
            32 * 2 ** ((index + 1) // 2),
            3,
            padding="same",
            activation="relu",
            kernel_initializer=glorot(),
            name=f"conv_{index}",
        )(x)
        if index % 2 == 0:
            x = layers.MaxPooling2D(name=f"pool_{index // 2}")(x)
    x = layers.Flatten(name="flatten")(x)
    for index in (1, 2):
        x = layers.Dense(
            256, activation="relu", kernel_initializer=glorot(), name=f"dense_{index}"
        )(x)
    logits = layers.Dense(
        num_classes, kernel_initializer=glorot(), name="logits", dtype=output_dtype(keras)
    )(x)
    return keras.Model(inputs, logits, name=name)
