"""Augmentations of batches, as pure functions of (images, seed).

To add an augmentation, write a function and register it in `AUGMENTATIONS`. Random numbers depend
only on the seed, so that a step has the same images in every replay.

Source: "Deep Residual Learning for Image Recognition", Section 4.2: pad 4 pixels, crop and flip.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tf_prac.checks import check_choice
from tf_prac.data.order import ALGORITHM
from tf_prac.errors import ArgumentError

PADDING = 4

Augmentation = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def none(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Returns the inputs unchanged; they need not be images."""
    del seed
    return images


def flip(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Flips each image left to right with probability 1/2.

    Args:
        images: [B, H, W, C] of any dtype.
        seed: int [2].

    Returns:
        Images of the same shape and dtype.
    """
    shift, flipped = draw(tf.shape(images)[0], seed)
    return _windows(images, images, tf.zeros_like(shift), flipped)


def crop(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Pads each image with 4 zeros on every side, and crops a random window of the original size.

    Args and Returns as in `flip`.
    """
    shift, flipped = draw(tf.shape(images)[0], seed)
    return _windows(images, _padded(images), shift, tf.zeros_like(flipped))


def crop_flip(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Applies `crop` and then `flip`, with the random numbers of both.

    Args and Returns as in `flip`.
    """
    return _windows(images, _padded(images), *draw(tf.shape(images)[0], seed))


AUGMENTATIONS: dict[str, Augmentation] = {
    "none": none,
    "flip": flip,
    "crop": crop,
    "crop_flip": crop_flip,
}


def augmentation(name: str, input_shape: tuple[int, ...]) -> Augmentation:
    """Returns the augmentation of a name.

    Args:
        name: a key of `AUGMENTATIONS`.
        input_shape: shape of the inputs of one sample.

    Raises:
        ArgumentError: If the name is unknown, or the inputs are not images [H, W, C].
    """
    check_choice("augment", name, tuple(AUGMENTATIONS))
    is_image = isinstance(input_shape, tuple) and len(input_shape) == 3
    if name != "none" and not (is_image and all(isinstance(n, int) for n in input_shape)):
        raise ArgumentError(
            "augment", name, f"none, as inputs of shape {input_shape} are not images [H, W, C]"
        )
    return AUGMENTATIONS[name]


def draw(batch_size: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws the top left corner of each window, int32 [B, 2], and which are flipped, bool [B]."""
    numbers = uniform([batch_size, 3], seed)
    shift = tf.cast(numbers[:, :2] * (2 * PADDING + 1), tf.int32)
    return tf.minimum(shift, 2 * PADDING), numbers[:, 2] < 0.5


def uniform(shape: Any, seed: tf.Tensor) -> tf.Tensor:
    """Returns float32 numbers in [0, 1), the same with and without XLA.

    `tf.random.stateless_uniform` converts the same random bits to other numbers in XLA: its 23
    high bits instead of the low ones, which are taken here.
    """
    bits = tf.random.stateless_uniform(shape, seed, None, None, tf.uint32, alg=ALGORITHM)
    mantissa = tf.bitwise.bitwise_and(bits, tf.constant(2**23 - 1, tf.uint32))
    one = tf.constant(127 << 23, tf.uint32)  # the exponent of numbers in [1, 2)
    return tf.bitcast(tf.bitwise.bitwise_or(mantissa, one), tf.float32) - 1.0


def _padded(images: tf.Tensor) -> tf.Tensor:
    return tf.pad(images, [[0, 0], [PADDING, PADDING], [PADDING, PADDING], [0, 0]])


def _windows(
    images: tf.Tensor, source: tf.Tensor, shift: tf.Tensor, flipped: tf.Tensor
) -> tf.Tensor:
    """Crops windows of the size of `images` from `source`, and flips some of them.

    One gather of pixels, which is faster than slicing, reversing, resampling or two gathers.
    """
    size, height, width, channels = tf.unstack(tf.shape(images))
    _, source_height, source_width, _ = tf.unstack(tf.shape(source))
    column = tf.range(width)
    columns = shift[:, 1:] + tf.where(flipped[:, None], width - 1 - column, column)
    rows = tf.range(size)[:, None] * source_height + shift[:, :1] + tf.range(height)
    pixels = rows[:, :, None] * source_width + columns[:, None, :]
    return tf.ensure_shape(tf.gather(tf.reshape(source, [-1, channels]), pixels), images.shape)
