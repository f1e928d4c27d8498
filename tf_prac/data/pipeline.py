"""Training and evaluation batches for `Model.fit`: shuffled, augmented, normalized, with ids."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.data.augment import augmentation
from tf_prac.data.batch_shard import BatchShard
from tf_prac.data.order import derive_seed, fold_in, on_cpu, without_autotune
from tf_prac.data.source import Samples

PREFETCHED = 8  # batches prepared ahead of the training step


def training_batches(
    samples: Samples,
    ids: Any,
    *,
    batch_size: int,
    seed: tuple[int, ...],
    start_step: int = 0,
    steps: int | None = None,
    augment: str = "none",
    shard: BatchShard | None = None,
) -> tf.data.Dataset:
    """Returns the training steps [start_step, start_step + steps) over the samples `ids`.

    The sequence of batches, including augmentation, is a pure function of (samples, ids,
    batch_size, seed, augment): with `start_step`, a stopped run resumes bit for bit.

    Example:

        >>> from tf_prac import load_dataset
        >>> samples = load_dataset("digits").train
        >>> batches = training_batches(samples, np.arange(600), batch_size=60, seed=(1, 0), steps=5)
        >>> int(batches.cardinality()), batches.element_spec[0]["inputs"].shape
        (5, TensorShape([None, 8, 8, 1]))

    Args:
        samples: the data set.
        ids: sample ids to train on, int [n]; other samples are not read.
        batch_size: samples per step; the last step of an epoch may have fewer.
        seed: integers >= 0, such as (seed of the run, round).
        start_step: first step, counted from the start of epoch 0.
        steps: number of steps; None for an endless dataset.
        augment: a key of `tf_prac.data.augment.AUGMENTATIONS`. Default "none".
        shard: the part of each batch to read, for one of several workers. Default None: the whole
            batch.

    Returns:
        Dataset of ({"inputs": float32 [batch, ...], "sample_id": int64 [batch]}, labels
        [batch, ...]) with known cardinality, and sample weights as a third component if `samples`
        has any. Inputs are augmented, scaled to [0, 1] if they are uint8 and `samples.rescale` is
        set, and normalized with `mean` and `std` of `samples`, if it has them. With a shard,
        batches are padded to a static size and have sample weights, float32 [batch], as a third
        component; see `BatchShard.sample_weights`. Padding has weight 0 and sample id -1.

    Raises:
        ArgumentError: If a size, seed or augmentation is invalid.
        DataError: If `ids` is empty, out of range or has duplicates.
    """
    preprocessing, key = Preprocessing.of(samples, augment), on_cpu(derive_seed(seed, "augment"))
    if shard is not None and shard.start:  # each worker has its own random numbers
        key = fold_in(key, tf.constant(shard.start))
    batches = samples.batches(
        ids, batch_size, seed=seed, start_step=start_step, steps=steps, shard=shard
    )
    batches = batches.enumerate(start_step).map(
        lambda step, batch: preprocessing(batch, key, step),
        num_parallel_calls=None if augment == "none" else tf.data.AUTOTUNE,
    )
    if shard is not None:
        batches = _weighted(batches, shard, start_step, len(ids), training=True)
    return _prefetched(batches)


def evaluation_batches(
    samples: Samples, ids: Any, *, batch_size: int, shard: BatchShard | None = None
) -> tf.data.Dataset:
    """Returns one pass over the samples `ids`, in their order, without augmentation.

    Args:
        samples: the data set.
        ids: sample ids, int [n].
        batch_size: samples per step; the last step may have fewer.
        shard: the part of each batch to read, as in `training_batches`.

    Returns:
        Dataset as in `training_batches`, with cardinality `steps_per_epoch(n, batch_size)`.
    """
    preprocessing = Preprocessing.of(samples)
    batches = samples.batches(ids, batch_size, shard=shard)
    batches = batches.map(lambda *batch: preprocessing(batch))
    if shard is not None:
        batches = _weighted(batches, shard, 0, len(ids), training=False)
    return _prefetched(batches)


def _weighted(
    batches: tf.data.Dataset, shard: BatchShard, start_step: int, count: int, *, training: bool
) -> tf.data.Dataset:
    """Adds sample weights to the batches of a shard, and marks its padding with sample id -1."""

    def add_weight(step: tf.Tensor, batch: Any) -> Any:
        inputs, labels, *weights = batch
        weight = shard.sample_weights(step, count, training)
        inputs = {**inputs, "sample_id": tf.where(weight > 0, inputs["sample_id"], -1)}
        for own in weights:
            weight = own * tf.reshape(weight, [-1] + [1] * (own.shape.rank - 1))
        return tf.nest.map_structure(
            lambda part: tf.ensure_shape(part, [shard.size, *part.shape[1:]]),
            (inputs, labels, weight),
        )

    return batches.enumerate(start_step).map(add_weight)


def _prefetched(batches: tf.data.Dataset) -> tf.data.Dataset:
    return without_autotune(batches.prefetch(PREFETCHED))


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """From the stored inputs of a batch to inputs of the model: augmentation and normalization.

    A pure function, which runs in `tf.data` or in the training step, with or without XLA.

    Args:
        input_shape: shape of the inputs of one sample.
        mean: per-channel mean, as in `Samples`, or None.
        std: per-channel standard deviation, as in `Samples`, or None.
        rescale: whether uint8 is scaled to [0, 1], as in `Samples`.
        augment: a key of `tf_prac.data.augment.AUGMENTATIONS`. Default "none".
        keeps_dtype: as in `Samples`. Default False.

    Raises:
        ArgumentError: If the augmentation is unknown, or the inputs are not images.
    """

    input_shape: tuple[int, ...]
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    rescale: bool
    augment: str = "none"
    keeps_dtype: bool = False

    def __post_init__(self):
        augmentation(self.augment, self.input_shape)  # raises if unknown

    @classmethod
    def of(cls, samples: Samples, augment: str = "none") -> Preprocessing:
        """Returns the preprocessing of some samples."""
        shape = samples.input_shape
        is_single = isinstance(shape, tuple) and all(isinstance(size, int) for size in shape)
        shape = shape if is_single else ()  # several inputs are not preprocessed
        exact = samples.keeps_dtype
        return cls(shape, samples.mean, samples.std, samples.rescale, augment, exact)

    def __call__(self, batch: Any, key: tf.Tensor | None = None, step: Any = 0) -> Any:
        """Returns a batch ({"inputs": x, ...}, ...) with preprocessed inputs.

        Args:
            batch: a batch of `Samples.batches`.
            key: `derive_seed(seed, "augment")`; required to augment.
            step: the number of the training step, from which the random numbers are derived.
        """
        inputs, *others = batch
        x = inputs["inputs"]
        if self.augment != "none":
            x = augmentation(self.augment, self.input_shape)(x, fold_in(key, step))
        return ({**inputs, "inputs": normalized(self, x)}, *others)


def normalized(samples: Samples | Preprocessing, inputs: Any) -> Any:
    """Returns stored inputs [batch, ...] as inputs of the model, float32.

    uint8 is scaled to [0, 1] if `samples.rescale`; `mean` and `std` are applied to every dtype.
    Strings, several inputs, and integers with `samples.keeps_dtype` are returned unchanged.
    """
    if tf.nest.is_nested(inputs) or inputs.dtype == tf.string or samples.keeps_dtype:
        return inputs
    std, mean = np.asarray(samples.std or [1.0]), np.asarray(samples.mean or [0.0])
    scale = 255 if samples.rescale and inputs.dtype == tf.uint8 else 1
    inputs = tf.cast(inputs, tf.float32)
    if scale != 1 or samples.std:
        inputs *= _rows(1 / (std * scale), samples.input_shape)
    if samples.mean:
        inputs -= _rows(mean / std, samples.input_shape)
    return inputs


def _rows(values: np.ndarray, input_shape: tuple[int, ...]) -> np.ndarray | np.float32:
    """Repeats per-channel values over an image row, which broadcasts four times faster."""
    if len(np.unique(values)) == 1:
        return np.float32(values[0])
    return np.broadcast_to(values, input_shape[-2:]).astype(np.float32)
