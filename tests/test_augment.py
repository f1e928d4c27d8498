"""Augmentations against a slow reference, and as pure functions of their seed."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_prac.data.augment import (
    AREAS,
    AUGMENTATIONS,
    RATIOS,
    augmentation,
    crop_flip,
    draw,
    resized_crop_flip,
    uniform,
    window_sizes,
)
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


@pytest.mark.parametrize("name", ["flip", "crop", "crop_flip"])
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


def slow_resized(images: np.ndarray, seed: tuple[int, int]) -> np.ndarray:
    """Crops, resizes and flips one image at a time, in exact subpixels."""
    count, height, width, _ = images.shape
    windows, result = window_sizes(height, width), []
    for image, (pick, top, left, flip) in zip(
        images, uniform([count, 4], seed).numpy(), strict=True
    ):
        h, w = windows[int(pick * len(windows))]
        top, left = int(top * (height - h + 1)), int(left * (width - w + 1))
        window = image[top : top + h, left : left + w].astype(np.float64)
        for axis, size in ((0, height), (1, width)):
            x = (np.arange(size) + 0.5) * window.shape[axis] / size - 0.5
            x = np.clip(x, 0, window.shape[axis] - 1)
            low = np.floor(x).astype(int)
            high = np.minimum(low + 1, window.shape[axis] - 1)
            weight = np.expand_dims(x - low, [k for k in range(3) if k != axis])
            parts = (np.take(window, index, axis) for index in (low, high))
            window = next(parts) * (1 - weight) + next(parts) * weight
        result.append(window[:, ::-1] if flip < 0.5 else window)
    return np.stack(result)


@settings(max_examples=15, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 12)] * 4),
    seed=st.tuples(*[st.integers(-(2**63), 2**63 - 1)] * 2),
    dtype=st.sampled_from([np.uint8, np.int32, np.float32]),
)
def test_resized_crops_equal_a_slow_reference(shape, seed, dtype):
    images = noise(shape, dtype)
    result = resized_crop_flip(tf.constant(images), tf.constant(seed, tf.int64)).numpy()
    assert result.dtype == dtype and result.shape == shape
    # Positions are rounded to 1 / 256 pixel: neighbors differ by at most 255.
    np.testing.assert_allclose(result, slow_resized(images, seed), rtol=0, atol=2.5)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_resized_crops_are_the_same_with_xla(dtype):
    images, seed = noise((16, 9, 13, 3), dtype), tf.constant([5, 6], tf.int64)
    compiled = tf.function(resized_crop_flip, jit_compile=True)(images, seed).numpy()
    assert compiled.tobytes() == resized_crop_flip(tf.constant(images), seed).numpy().tobytes()


@pytest.mark.parametrize(("height", "width"), [(224, 224), (48, 96), (1, 1), (3, 40)])
def test_windows_have_the_areas_and_ratios_of_the_paper(height, width):
    sizes = window_sizes(height, width)
    assert (sizes >= 1).all() and (sizes <= [height, width]).all()
    if min(height, width) > 40:
        area, ratio = sizes.prod(1) / (height * width), sizes[:, 1] / sizes[:, 0]
        assert AREAS[0] - 0.01 < area.min() < 0.1 and area.max() <= AREAS[1]
        assert RATIOS[0] - 0.05 < ratio.min() < 0.8 and 1.25 < ratio.max() < RATIOS[1] + 0.05
        assert np.median(ratio) == pytest.approx(1, abs=0.08)


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.float32])
def test_a_gpu_gathers_the_same_pixels_as_floats(name, dtype, monkeypatch):
    images, seed = tf.constant(noise((5, 7, 6, 3)).astype(dtype)), tf.constant([3, 4], tf.int64)
    expected = AUGMENTATIONS[name](images, seed).numpy()
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind=None: ["a GPU"])
    result = AUGMENTATIONS[name](images, seed).numpy()
    assert result.dtype == dtype and result.tobytes() == expected.tobytes()


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
