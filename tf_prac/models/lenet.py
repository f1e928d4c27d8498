"""LeNet-300-100, the fully connected network of the lottery-ticket papers."""

from __future__ import annotations

from types import ModuleType

from tf_prac.models.layers import Model, output_dtype


def lenet300(keras: ModuleType, input_shape: tuple[int, ...], num_classes: int) -> Model:
    """LeNet-300-100: dense layers of 300, 100 and `num_classes` units over the flattened input.

    Initialization: Glorot normal, biases zero. On MNIST: 266,610 parameters.

    Args:
        keras: the flavor module.
        input_shape: any shape, without the batch dimension.
        num_classes: number of logits.

    Returns:
        A built model from inputs to logits, (batch, num_classes).

    Source: Frankle & Carbin 2019, "The Lottery Ticket Hypothesis", Figure 2.
    """
    inputs = keras.Input(input_shape, name="image")
    x = keras.layers.Flatten(name="flatten")(inputs)
    for index, units in enumerate((300, 100), start=1):
        x = keras.layers.Dense(
            units,
            activation="relu",
            kernel_initializer=keras.initializers.GlorotNormal(),
            name=f"dense_{index}",
        )(x)
    logits = keras.layers.Dense(
        num_classes,
        kernel_initializer=keras.initializers.GlorotNormal(),
        name="logits",
        dtype=output_dtype(keras),
    )(x)
    return keras.Model(inputs, logits, name="lenet300")
