"""Augmentations against a slow reference, and as pure functions of their seed."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_prac.data.augment import AUGMENTATIONS, augmentation, crop_flip, draw
from tf_prac.errors import ArgumentError

IMAGES = [name for name in AUGMENTATIONS if name != "none"]


def slow(name: str, images: np.ndarray, seed: tuple[int, int]) -> np.ndarray:
    """Pads, crops and flips one image at a time, with the random numbers of `draw`."""
    shift, flipped = (part.numpy() for part in draw(len(images), seed))
    result = []
    for image, (top, left), flip in zip(images, shift, flipped, strict=True):
        if "crop" in name:
            height, width, _ = image.shape
            padded = np.pad(image, [(4, 4), (4, 4), (0, 0)])
            image = padded[top : top + height, left : left + width]
        if "flip" in name and flip:
            image = image[:, ::-1]
        result.append(image)
    return np.stack(result)


def noise(shape: tuple[int, ...], dtype=np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, shape).astype(dtype)


@pytest.mark.parametrize("name", IMAGES)
@settings(max_examples=15, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 9)] * 4),
    seed=st.tuples(*[st.integers(-(2**63), 2**63 - 1)] * 2),
    dtype=st.sampled_from([np.uint8, np.float32]),
)
def test_equals_slow_reference(name, shape, seed, dtype):
    images = noise(shape, dtype)
    result = AUGMENTATIONS[name](tf.constant(images), tf.constant(seed, tf.int64)).numpy()
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, slow(name, images, seed))


def test_every_crop_and_both_directions_come_equally_often():
    """Chi-square over 81 crops (80 degrees of freedom) and five sigma for the flips."""
    shift, flipped = (part.numpy() for part in draw(81 * 500, [1, 2]))
    counts = np.bincount(shift[:, 0] * 9 + shift[:, 1], minlength=81)
    assert len(counts) == 81 and ((counts - 500) ** 2 / 500).sum() < 150
    assert abs(flipped.mean() - 0.5) < 5 * 0.5 / np.sqrt(len(flipped))


@pytest.mark.parametrize("name", IMAGES)
def test_images_are_augmented_differently_and_by_seed(name):
    images = tf.repeat(tf.constant(noise((1, 8, 8, 3))), 64, axis=0)
    first, again, other = (
        AUGMENTATIONS[name](images, seed).numpy() for seed in [[1, 2]] * 2 + [[1, 3]]
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert len({image.tobytes() for image in first}) > 1


def test_shape_is_known_in_a_graph():
    data = tf.data.Dataset.from_tensors(noise((3, 8, 6, 1))).map(lambda x: crop_flip(x, [0, 1]))
    assert data.element_spec.shape == (3, 8, 6, 1)


def test_none_takes_anything():
    x = tf.constant([[1.0, 2.0]])
    assert augmentation("none", (2,))(x, tf.constant([0, 0])) is x


def test_bad_names_and_shapes():
    with pytest.raises(
        ArgumentError, match="augment: received 'mixup'; allowed: one of none, flip"
    ):
        augmentation("mixup", (8, 8, 1))
    for name in IMAGES:
        with pytest.raises(ArgumentError, match="not images"):
            augmentation(name, (64,))
