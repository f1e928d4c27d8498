"""Batches for `Model.fit`: replayable bit for bit, normalized, of requested samples only."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_prac.data.augment import AUGMENTATIONS
from tf_prac.data.order import derive_seed, fold_in, steps_per_epoch
from tf_prac.data.pipeline import evaluation_batches, training_batches
from tf_prac.data.source import ArraySamples, Samples
from tf_prac.data.stream import StreamSamples
from tf_prac.errors import ArgumentError, DataError

COUNT = 40
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 6, 5, 3), dtype=np.uint8)
LABELS = np.arange(COUNT) % 4
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def arrays() -> Samples:
    return ArraySamples(IMAGES, LABELS, mean=MEAN, std=STD)


def stream() -> Samples:
    dataset = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS))
    return StreamSamples(dataset, mean=MEAN, std=STD, memory_limit_bytes=0, buffer_size=9)


SAMPLES = {"arrays": arrays(), "stream": stream()}


def read(batches: tf.data.Dataset) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    return [(x["inputs"], x["sample_id"], y) for x, y in batches.as_numpy_iterator()]


@pytest.mark.parametrize("name", SAMPLES)
@settings(max_examples=6, deadline=None)
@given(
    ids=st.lists(st.integers(0, COUNT - 1), min_size=1, unique=True),
    batch_size=st.integers(1, 15),
    start=st.integers(0, 20),
    augment=st.sampled_from(list(AUGMENTATIONS)),
)
def test_replay_from_any_step_is_identical(name, ids, batch_size, start, augment):
    options = {"batch_size": batch_size, "seed": (3, 1), "augment": augment}
    whole = read(training_batches(SAMPLES[name], ids, steps=start + 4, **options))
    tail = read(training_batches(SAMPLES[name], ids, start_step=start, steps=4, **options))
    for one, other in zip(whole[start:], tail, strict=True):
        for a, b in zip(one, other, strict=True):
            assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_batches_match_their_definition(augment):
    samples, seed = SAMPLES["arrays"], (7, 2)
    batches = training_batches(
        samples, range(10, 33), batch_size=8, seed=seed, start_step=5, steps=4, augment=augment
    )
    assert int(batches.cardinality()) == 4
    for step, (inputs, ids, labels) in enumerate(read(batches), start=5):
        assert inputs.dtype == np.float32 and ids.dtype == labels.dtype == np.int64
        np.testing.assert_array_equal(labels, LABELS[ids])
        key = fold_in(derive_seed(seed, "augment"), step)
        raw = AUGMENTATIONS[augment](tf.constant(IMAGES[ids]), key).numpy()
        np.testing.assert_allclose(inputs, (raw / 255 - MEAN) / STD, rtol=0, atol=1e-5)


def test_augmentation_differs_between_epochs_and_seeds():
    options = {"batch_size": COUNT, "steps": 2, "augment": "crop"}
    one = read(training_batches(SAMPLES["arrays"], range(COUNT), seed=(1,), **options))
    other = read(training_batches(SAMPLES["arrays"], range(COUNT), seed=(2,), **options))
    sorted_images = [inputs[np.argsort(ids)].tobytes() for inputs, ids, _ in one + other]
    assert len(set(sorted_images)) == 4


@pytest.mark.parametrize("name", SAMPLES)
def test_evaluation_is_one_plain_pass(name):
    ids = np.arange(1, COUNT, 3)
    batches = evaluation_batches(SAMPLES[name], ids, batch_size=4)
    assert int(batches.cardinality()) == steps_per_epoch(len(ids), 4) == 4
    inputs, sample_ids, labels = (np.concatenate(part) for part in zip(*read(batches), strict=True))
    np.testing.assert_array_equal(sample_ids, ids)
    np.testing.assert_array_equal(labels, LABELS[ids])
    np.testing.assert_allclose(inputs, (IMAGES[ids] / 255 - MEAN) / STD, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int32, np.bool_])
def test_only_uint8_is_scaled(dtype):
    x = (np.arange(12).reshape(4, 3) % 5).astype(dtype)
    inputs = read(evaluation_batches(ArraySamples(x, LABELS[:4]), range(4), batch_size=4))[0][0]
    assert inputs.dtype == np.float32
    np.testing.assert_array_equal(inputs, x.astype(np.float32))
    scaled = ArraySamples(x, LABELS[:4], mean=(1, 2, 3), std=(2, 2, 4))
    inputs = read(evaluation_batches(scaled, range(4), batch_size=4))[0][0]
    np.testing.assert_allclose(inputs, (x - np.array([1, 2, 3])) / [2, 2, 4], atol=1e-6)


def test_element_spec_does_not_depend_on_the_ids():
    """One compiled training function must serve every round."""
    specs = [
        training_batches(
            SAMPLES["arrays"], range(n), batch_size=8, seed=(1, n), steps=n
        ).element_spec
        for n in (3, 8, 40)
    ]
    assert specs[0] == specs[1] == specs[2]
    assert specs[0][0]["inputs"].shape == (None, 6, 5, 3)


def test_an_epoch_over_half_of_the_data_decodes_half():
    decoded: list[int] = []

    def decode(image):
        def note(value):
            decoded.append(1)
            return value

        return tf.ensure_shape(tf.numpy_function(note, [image], tf.uint8), [6, 5, 3])

    dataset = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS))
    samples = StreamSamples(dataset, decode=decode)
    decodes = []
    for count in (COUNT, COUNT // 2):
        decoded.clear()
        steps = steps_per_epoch(count, 4)
        read(training_batches(samples, range(count), batch_size=4, seed=(1,), steps=steps))
        decodes.append(len(decoded))
    assert decodes == [COUNT, COUNT // 2]


def test_bad_arguments():
    samples, options = SAMPLES["arrays"], {"batch_size": 4, "seed": (1,), "steps": 2}
    for change in ({"augment": "mixup"}, {"seed": None}, {"batch_size": 0}, {"batch_size": 2.5}):
        with pytest.raises(ArgumentError, match=next(iter(change))):
            training_batches(samples, range(COUNT), **(options | change))
    with pytest.raises(DataError, match="ids"):
        training_batches(samples, [], **options)
    table = ArraySamples(np.ones([4, 3]), LABELS[:4])
    with pytest.raises(ArgumentError, match="augment: received 'flip'"):
        training_batches(table, range(4), **options, augment="flip")
    for count, batch_size in ((0, 4), (4, 0), (4, -1)):
        with pytest.raises(ArgumentError):
            steps_per_epoch(count, batch_size)
