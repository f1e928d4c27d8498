"""VGG-16 and VGG-19 with batch normalization, in the variant for CIFAR and Tiny-ImageNet.

Convolutions have biases, there are four max-poolings, and global average pooling is followed by a
single dense layer. Parameters on CIFAR-10: 14.7M and 20.0M.

Sources: Zhang et al. 2021, "Efficient Lottery Ticket Finding: Less Data is More", Section 4, and
its official code; Frankle et al. 2019, "Stabilizing the Lottery Ticket Hypothesis", Section 3. The
initialization follows the official code: He normal by fan-out, and N(0, 0.01) for the logits.
"""

from __future__ import annotations

from types import ModuleType

from tf_prac.models.layers import Model, batch_norm, classifier, convolution, image_input, relu

_WIDTHS = (64, 128, 256, 512, 512)


def vgg16(keras: ModuleType, input_shape: tuple[int, ...], num_classes: int) -> Model:
    """VGG-16-BN: 13 convolutions and a dense layer. Takes images of at least 16 x 16 pixels."""
    return _vgg(keras, "vgg16", (2, 2, 3, 3, 3), input_shape, num_classes)


def vgg19(keras: ModuleType, input_shape: tuple[int, ...], num_classes: int) -> Model:
    """VGG-19-BN: 16 convolutions and a dense layer. Takes images of at least 16 x 16 pixels."""
    return _vgg(keras, "vgg19", (2, 2, 4, 4, 4), input_shape, num_classes)


def _vgg(
    keras: ModuleType,
    name: str,
    depths: tuple[int, ...],
    input_shape: tuple[int, ...],
    num_classes: int,
) -> Model:
    inputs = x = image_input(keras, name, input_shape, smallest=16)
    for stage, (width, depth) in enumerate(zip(_WIDTHS, depths, strict=True), start=1):
        if stage > 1:
            x = keras.layers.MaxPooling2D(name=f"stage{stage}_pool")(x)
        for index in range(1, depth + 1):
            layer = f"stage{stage}_conv{index}"
            x = convolution(keras, x, width, 3, layer, fan="fan_out", use_bias=True)
            x = batch_norm(keras, x, f"stage{stage}_bn{index}")
            x = relu(keras, x, f"stage{stage}_relu{index}")
    small_normal = keras.initializers.RandomNormal(stddev=0.01)
    return classifier(keras, name, inputs, x, num_classes, small_normal)
