"""The networks of the papers, for both Keras flavors; `MODELS` lists them by name.

A new network is one builder function and one line in `MODELS`. Inputs are normalized images,
outputs are logits, and layers have the same names in both flavors, so masks are portable.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import TypeAlias

from tf_prac.checks import check_choice, check_int
from tf_prac.keras_api import Flavor
from tf_prac.models.conv import conv2, conv4, conv6
from tf_prac.models.inception import inception_v3
from tf_prac.models.layers import Model
from tf_prac.models.lenet import lenet300
from tf_prac.models.resnet import (
    resnet8,
    resnet18,
    resnet20,
    resnet20_projection,
    resnet50,
    resnet56,
)
from tf_prac.models.squeezenet import squeezenet
from tf_prac.models.vgg import vgg16, vgg19

__all__ = ["MODELS", "Builder", "build_model"]

Builder: TypeAlias = Callable[[ModuleType, tuple[int, ...], int], Model]
"""(flavor module, input shape without the batch, number of classes) -> built model."""

MODELS: dict[str, Builder] = {
    "lenet300": lenet300,
    "conv2": conv2,
    "conv4": conv4,
    "conv6": conv6,
    "resnet8": resnet8,
    "resnet20": resnet20,
    "resnet20_projection": resnet20_projection,
    "resnet56": resnet56,
    "resnet18": resnet18,
    "resnet50": resnet50,
    "vgg16": vgg16,
    "vgg19": vgg19,
    "inception_v3": inception_v3,
    "squeezenet": squeezenet,
}


def build_model(
    name: str, *, keras: str | ModuleType, input_shape: tuple[int, ...], num_classes: int
) -> Model:
    """Builds a network of the papers with random initial weights.

    The weights depend on the seed of the flavor, `keras.utils.set_random_seed`.

    Args:
        name: a key of `MODELS`.
        keras: "keras" (Keras 3) or "tf_keras" (Keras 2), or that module.
        input_shape: (height, width, channels) of an image; `lenet300` takes any shape.
        num_classes: number of logits, at least 2.

    Returns:
        A built, uncompiled functional model: from normalized images, float32
        `[batch, *input_shape]`, to logits, float32 `[batch, num_classes]`.

    Raises:
        ArgumentError: If the name or flavor is unknown, a size is not a positive integer, or the
            network cannot take such inputs.

    Example:

        >>> model = build_model("resnet20", keras="keras", input_shape=(32, 32, 3), num_classes=10)
        >>> model.output_shape
        (None, 10)
    """
    check_choice("model", name, tuple(MODELS))
    check_int("num_classes", num_classes, minimum=2)
    num_classes = int(num_classes)
    for size in input_shape:
        check_int("input_shape", size, minimum=1)
    flavor = keras if isinstance(keras, ModuleType) else Flavor(keras).module
    return MODELS[name](flavor, tuple(input_shape), num_classes)
