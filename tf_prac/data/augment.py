"""Augmentations of batches, as pure functions of (images, seed).

To add an augmentation, write a function and register it in `AUGMENTATIONS`. Random numbers depend
only on the seed, so that a step has the same images in every replay.

Sources: "Deep Residual Learning for Image Recognition", Section 4.2: pad 4 pixels, crop and flip.
"Going Deeper with Convolutions", Section 6: windows of random area and aspect ratio.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.checks import check_choice
from tf_prac.data.order import ALGORITHM
from tf_prac.errors import ArgumentError

PADDING = 4
AREAS = (0.08, 1.0)
RATIOS = (3 / 4, 4 / 3)
SUBPIXELS = 256

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


def resized_crop_flip(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Crops a random window, resizes it to the size of the image, and flips half of the images.

    The window has 8% to 100% of the area and an aspect ratio of 3/4 to 4/3; the resize is bilinear.

    Args and Returns as in `flip`. The values of integer images are rounded to the nearest.
    """
    height, width = images.shape[1:3]
    numbers = uniform([tf.shape(images)[0], 4], seed)
    sizes = window_sizes(height, width)
    index = tf.cast(numbers[:, 0] * float(len(sizes)), tf.int64)
    window = tf.gather(tf.constant(sizes), tf.minimum(index, len(sizes) - 1))
    free = np.array([height, width]) - window
    corner = tf.cast(numbers[:, 1:3] * tf.cast(free + 1, tf.float32), tf.int64)
    corner = tf.minimum(corner, free)
    rows = _resized(tf.constant(np.arange(height)), height, corner[:, :1], window[:, :1])
    column = np.arange(width)
    column = tf.where(numbers[:, 3:] < 0.5, column[::-1].copy(), column)
    columns = _resized(column, width, corner[:, 1:], window[:, 1:])
    return _bilinear(images, rows, columns)


AUGMENTATIONS: dict[str, Augmentation] = {
    "none": none,
    "flip": flip,
    "crop": crop,
    "crop_flip": crop_flip,
    "resized_crop_flip": resized_crop_flip,
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
    """Draws the top left corner of each window, int64 [B, 2], and which are flipped, bool [B].

    Not int32, which TensorFlow computes on the host.
    """
    numbers = uniform([batch_size, 3], seed)
    shift = tf.minimum(tf.floor(numbers[:, :2] * (2 * PADDING + 1)), 2 * PADDING)
    return tf.cast(shift, tf.int64), numbers[:, 2] < 0.5


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
    column = tf.constant(np.arange(images.shape[2]))  # `tf.range` reads its arguments on the host
    columns = shift[:, 1:] + tf.where(flipped[:, None], images.shape[2] - 1 - column, column)
    return _pixels(source, shift[:, :1] + tf.constant(np.arange(images.shape[1])), columns)


def _pixels(images: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Returns the pixels at the given rows, int64 [B, height], and columns, int64 [B, width]."""
    _, height, width, channels = images.shape
    pixels = rows[:, :, None] * width + columns[:, None, :]
    if tf.config.get_visible_devices("GPU"):
        flat = tf.reshape(images, [-1, height * width, channels])
        if flat.dtype.is_integer and flat.dtype.size < 4:
            # TensorFlow has no gather of small integers there; float32 is exact for them.
            flat = tf.cast(flat, tf.float32)
        return tf.cast(tf.gather(flat, pixels, batch_dims=1), images.dtype)
    # Faster on a CPU than `batch_dims`.
    number = tf.range(tf.shape(images, tf.int64)[0])[:, None, None]
    return tf.gather(tf.reshape(images, [-1, channels]), pixels + number * (height * width))


@functools.cache
def window_sizes(height: int, width: int) -> np.ndarray:
    """Returns the windows of `resized_crop_flip`, (height, width) in pixels, int64 [n, 2].

    A grid of 64 areas, evenly spaced, and 64 aspect ratios, evenly spaced in their logarithm,
    without those that do not fit into the image. A table, because the results of square roots and
    logarithms depend on the device.
    """
    steps = (np.arange(64) + 0.5) / 64
    areas = AREAS[0] + (AREAS[1] - AREAS[0]) * steps
    ratios = RATIOS[0] * (RATIOS[1] / RATIOS[0]) ** steps
    area, ratio = (grid.ravel() for grid in np.meshgrid(areas * height * width, ratios))
    sizes = np.maximum(np.stack([np.sqrt(area / ratio), np.sqrt(area * ratio)], -1).round(), 1)
    fits = (sizes <= [height, width]).all(-1)
    sizes = sizes[fits] if fits.any() else np.minimum(sizes, [height, width])
    return sizes.astype(np.int64)


def _resized(
    position: tf.Tensor, size: int, start: tf.Tensor, length: tf.Tensor
) -> list[tf.Tensor]:
    """Returns, for each output pixel of an axis, two source pixels and the weight of the second.

    Integers [B, size]: positions and weights are in units of 1 / `SUBPIXELS` pixel.
    """
    centers = (2 * position + 1) * length * SUBPIXELS // (2 * size) - SUBPIXELS // 2
    centers = tf.clip_by_value(centers, 0, (length - 1) * SUBPIXELS)
    first = centers // SUBPIXELS
    second = tf.minimum(first + 1, length - 1)
    weight = centers - first * SUBPIXELS
    return [start + first, start + second, weight]


def _bilinear(images: tf.Tensor, rows: list[tf.Tensor], columns: list[tf.Tensor]) -> tf.Tensor:
    """Returns the weighted means of four pixels each.

    Exact, so that fused operations give the same results: the products are below 2^24 for uint8,
    in float32; other integers are computed with int64, and floats with float64.
    """
    is_integer, scale = images.dtype.is_integer, SUBPIXELS**2
    dtype = tf.float64 if not is_integer else tf.float32 if images.dtype == tf.uint8 else tf.int64

    def weights(axis: list[tf.Tensor]) -> list[tf.Tensor]:
        return [tf.cast(each, dtype) for each in (SUBPIXELS - axis[2], axis[2])]

    total = tf.zeros([], dtype)
    for row, row_weight in zip(rows[:2], weights(rows), strict=True):
        for column, column_weight in zip(columns[:2], weights(columns), strict=True):
            weight = row_weight[:, :, None] * column_weight[:, None, :]
            total += tf.cast(_pixels(images, row, column), dtype) * weight[..., None]
    result = (total + scale // 2) // scale if is_integer else total / scale
    return tf.ensure_shape(tf.cast(result, images.dtype), images.shape)
