"""From samples to what `Model.fit` takes: shuffled, augmented, normalised batches with ids."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.data.augment import Augmentation, augmentation
from tf_prac.data.batch_shard import BatchShard
from tf_prac.data.order import derive_seed, fold_in, on_cpu, steps_per_epoch, untuned
from tf_prac.data.source import Samples

PREFETCHED = 8  # batches made ahead of the training step

__all__ = ["evaluation_batches", "normalised", "steps_per_epoch", "training_batches"]


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

    The sequence of steps, augmented images included, is a pure function of (samples, ids,
    batch_size, seed, augment): a run that was stopped goes on with `start_step`, to the bit.

    Example:

        >>> from tf_prac import load_dataset
        >>> samples = load_dataset("digits").train
        >>> batches = training_batches(samples, np.arange(600), batch_size=60, seed=(1, 0), steps=5)
        >>> int(batches.cardinality()), batches.element_spec[0]["inputs"].shape
        (5, TensorShape([None, 8, 8, 1]))

    Args:
        samples: where the samples come from.
        ids: sample ids to train on, int [n]; other samples are not read.
        batch_size: samples per step; the last step of an epoch may have fewer.
        seed: integers >= 0, such as (seed of the run, round).
        start_step: first step, counted from the start of epoch 0.
        steps: number of steps, None for an endless dataset.
        augment: a key of `tf_prac.data.augment.AUGMENTATIONS`. Default "none".
        shard: which part of each batch, for a worker that is not alone. Default None: all of it,
            the last of an epoch maybe partial.

    Returns:
        Dataset of ({"inputs": float32 [batch, ...], "sample_id": int64 [batch]}, labels int64
        [batch]) with known cardinality. uint8 inputs are augmented, scaled to [0, 1] and
        normalised with the statistics of `samples`; others are normalised only. With a shard,
        shapes are static, and the inputs have "weight" float32 [batch]; see `BatchShard.weights`.
        Where it is 0, the id is -1.

    Raises:
        ArgumentError: a size, seed or augmentation that is not allowed.
        DataError: ids that are empty, outside the data or there twice.
    """
    change, key = augmentation(augment, samples.input_shape), derive_seed(seed, "augment")
    raw = samples.batches(
        ids, batch_size, seed=seed, start_step=start_step, steps=steps, shard=shard
    )
    if augment != "none":
        raw = _augmented(raw, change, on_cpu(key), start_step, shard)
    weigh = _weighing(shard, start_step, len(ids), training=True)
    return _finished(raw, samples, weigh)


def evaluation_batches(
    samples: Samples, ids: Any, *, batch_size: int, shard: BatchShard | None = None
) -> tf.data.Dataset:
    """Returns one pass over the samples `ids`, in their order, without augmentation.

    Args:
        samples: where the samples come from.
        ids: sample ids, int [n].
        batch_size: samples per step; the last step may have fewer.
        shard: which part of each batch, as for `training_batches`.

    Returns:
        Dataset as of `training_batches`, with cardinality `steps_per_epoch(n, batch_size)`.
    """
    raw = samples.batches(ids, batch_size, shard=shard)
    return _finished(raw, samples, _weighing(shard, 0, len(ids), training=False))


def _augmented(
    raw: tf.data.Dataset,
    change: Augmentation,
    key: tf.Tensor,
    start_step: int,
    shard: BatchShard | None,
) -> tf.data.Dataset:
    if shard is not None and shard.start:  # another worker's numbers
        key = fold_in(key, tf.constant(shard.start))

    def augment(step: tf.Tensor, batch: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        return change(batch[0], fold_in(key, step)), *batch[1:]

    return raw.enumerate(start_step).map(augment, num_parallel_calls=tf.data.AUTOTUNE)


def _weighing(shard: BatchShard | None, start_step: int, count: int, training: bool) -> Any:
    """What makes model input of a shard, weighted, with its step."""
    if shard is None:
        return None

    def weigh(step: tf.Tensor, element: Any) -> Any:
        inputs, labels = element
        weight = shard.weights(step, count, training)
        ids = tf.where(weight > 0, inputs["sample_id"], -1)
        whole = {**inputs, "sample_id": ids, "weight": weight}
        return tf.nest.map_structure(
            lambda part: tf.ensure_shape(part, [shard.size, *part.shape[1:]]), (whole, labels)
        )

    return lambda batches: batches.enumerate(start_step).map(weigh)


def _finished(raw: tf.data.Dataset, samples: Samples, weigh: Any) -> tf.data.Dataset:
    batches = raw.map(_to_model_input(samples))
    if weigh is not None:
        batches = weigh(batches)
    return untuned(batches.prefetch(PREFETCHED))


def _to_model_input(samples: Samples) -> Any:
    """The last map."""

    def convert(inputs: tf.Tensor, labels: tf.Tensor, sample_id: tf.Tensor) -> Any:
        return {"inputs": normalised(samples, inputs), "sample_id": sample_id}, labels

    return convert


def normalised(samples: Samples, inputs: tf.Tensor) -> tf.Tensor:
    """Returns inputs as they are stored, [batch, ...], as the model takes them: float32.

    uint8 is scaled to [0, 1]; the statistics of `samples` are applied to all.
    """
    std, mean = np.asarray(samples.std or [1.0]), np.asarray(samples.mean or [0.0])
    unit = 255 if inputs.dtype == tf.uint8 else 1
    inputs = tf.cast(inputs, tf.float32)
    if unit != 1 or samples.std:
        inputs *= _rows(1 / (std * unit), samples.input_shape)
    if samples.mean:
        inputs -= _rows(mean / std, samples.input_shape)
    return inputs


def _rows(values: np.ndarray, input_shape: tuple[int, ...]) -> np.ndarray | np.float32:
    """Repeats values per channel over a row of an image: four times faster to broadcast."""
    if len(np.unique(values)) == 1:
        return np.float32(values[0])
    return np.broadcast_to(values, input_shape[-2:]).astype(np.float32)
