"""Data order as a pure function of (seed, epoch): replayable and resumable at any step.

Source: "Linear Mode Connectivity and the Lottery Ticket Hypothesis" denotes the randomness of SGD,
the order of the data and the augmentation, by one value u. Here u is a seed, a tuple of integers.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.checks import check_int
from tf_prac.data.batch_shard import BatchShard
from tf_prac.data.checks import check_id_vector
from tf_prac.errors import ArgumentError, DataError

ALGORITHM = "philox"  # explicit, because the default generator depends on the device
ENDLESS = 2**62  # more steps or epochs than any run takes


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Returns the number of batches of `count` samples; the last batch may be partial."""
    check_int("count", count, 1)
    check_int("batch_size", batch_size, 1)
    return math.ceil(count / batch_size)


def derive_seed(seed: tuple[int, ...], purpose: str) -> np.ndarray:
    """Returns a key for TensorFlow's stateless random functions.

    Different seeds and purposes have unrelated keys; the seeds (5,) and (5, 0) are different.

    Args:
        seed: non-negative integers, such as (seed of the run, round).
        purpose: "order" or "augment".

    Returns:
        int64 [2].

    Raises:
        ArgumentError: If `seed` is not a tuple of non-negative integers.
    """
    if not isinstance(seed, tuple) or not seed or not all(_is_seed(word) for word in seed):
        raise ArgumentError("seed", seed, "a tuple of integers >= 0")
    entropy = [len(seed), *map(int, seed), *purpose.encode()]
    state = np.random.SeedSequence(entropy).generate_state(2, np.uint64)
    return (state >> np.uint64(1)).astype(np.int64)


def fold_in(key: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
    """Returns the key of step or epoch `number`, int64 [2]."""
    number = tf.cast(number, tf.int64)
    return tf.random.experimental.stateless_fold_in(key, number, alg=ALGORITHM)


def shuffled(values: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Returns `values` in an order that depends only on `key` and the number of values."""
    return tf.random.experimental.stateless_shuffle(values, seed=key, alg=ALGORITHM)


@tf.function(
    input_signature=[
        tf.TensorSpec([None], tf.int64),
        tf.TensorSpec([2], tf.int64),
        tf.TensorSpec([], tf.int64),
    ],
    autograph=False,
)
def _epoch_order(ids: tf.Tensor, key: tf.Tensor, epoch: tf.Tensor) -> tf.Tensor:
    return shuffled(ids, fold_in(key, epoch))


def epoch_order(ids: tf.Tensor, key: tf.Tensor | None, epoch: int) -> tf.Tensor:
    """Returns the order of the samples in one epoch, int64 [n] in host memory.

    The batches of `id_batches` are its consecutive parts.

    Args:
        ids: int64 [n], unique, in host memory.
        key: `derive_seed(seed, "order")`, in host memory; None for the order of `ids`.
        epoch: number of the epoch, from 0.
    """
    if key is None:
        return ids
    with tf.device("CPU:0"):  # `stateless_shuffle` has no kernel for XLA
        return _epoch_order(ids, key, epoch)


def on_cpu(value: Any) -> tf.Tensor:
    """Returns an eager tensor in host memory, where `tf.data` reads it."""
    with tf.device("CPU:0"):
        return tf.constant(value)


def without_autotune(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Returns the dataset with deterministic order and without tf.data's autotuning thread.

    Deleting an iterator waits for that thread, which may sleep for as long as the iterator has
    existed: an epoch may take twice as long. Without autotuning, a map with `AUTOTUNE` uses all
    threads of the pool.
    """
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    return dataset.with_options(options)


def check_ids(ids: Any, count: int) -> np.ndarray:
    """Returns `ids` as int64 [n], checked to be distinct ids of a data set of `count` samples.

    Raises:
        ArgumentError: If `ids` is not a vector of integers.
        DataError: If `ids` is empty, out of range or has duplicates.
    """
    array = check_id_vector("ids", ids)
    if not array.size:
        raise DataError("ids: no samples received; allowed: at least one.")
    if array.min() < 0 or array.max() >= count:
        raise DataError(
            f"ids: from {array.min()} to {array.max()} received; allowed: 0 to {count - 1}."
        )
    if np.bincount(array, minlength=count).max() > 1:
        raise DataError("ids: duplicate sample ids received; allowed: each at most once.")
    return array


def locate_steps(
    count: int, batch_size: int, seeded: bool, start_step: int, steps: int | None
) -> tuple[int, int, int]:
    """Returns where a range of steps starts, as epoch and step within it, and its length.

    Args:
        count: number of samples.
        batch_size: samples per step.
        seeded: True for an endless sequence of epochs, False for one pass.
        start_step: first step, >= 0.
        steps: number of steps; None for all.

    Returns:
        First epoch, first step within that epoch, and the number of steps as a cardinality.

    Raises:
        ArgumentError: If a number is negative, or the steps exceed the one pass.
    """
    check_int("start_step", start_step, 0)
    if steps is not None:
        check_int("steps", steps, 0)
    per_epoch = steps_per_epoch(count, batch_size)
    if not seeded:
        left = per_epoch - start_step
        if left < 0 or (steps or 0) > left:
            end_step = start_step + (steps or 0)
            raise ArgumentError("steps", end_step, f"at most {per_epoch}, as there is one pass")
        return 0, start_step, left if steps is None else steps
    cardinality = tf.data.INFINITE_CARDINALITY if steps is None else steps
    return *divmod(start_step, per_epoch), cardinality


def id_batches(
    ids: np.ndarray,
    batch_size: int,
    *,
    seed: tuple[int, ...] | None = None,
    start_step: int = 0,
    steps: int | None = None,
    shard: BatchShard | None = None,
) -> tf.data.Dataset:
    """Returns batches of sample ids, the order in which samples are read.

    With a seed, the dataset is an endless sequence of epochs. Each epoch is a permutation of `ids`
    that depends only on (seed, epoch); its last batch may be partial, and no batch crosses epochs.
    Skipped steps cost nothing.

    Args:
        ids: int64 [n], unique.
        batch_size: samples per batch, >= 1.
        seed: integers >= 0; None for one pass in the order of `ids`.
        start_step: first step.
        steps: number of steps; None for all.
        shard: the part of each batch to return. Default None: the whole batch.

    Returns:
        Dataset of int64 [batch] with known cardinality.
    """
    first_epoch, first_step, cardinality = locate_steps(
        len(ids), batch_size, seed is not None, start_step, steps
    )
    if seed is None:  # no function to trace
        rest = on_cpu(ids[first_step * batch_size :])
        batches = tf.data.Dataset.from_tensor_slices(rest).batch(batch_size)
    else:
        vector, key = on_cpu(ids), on_cpu(derive_seed(seed, "order"))

        def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
            start = tf.where(epoch == first_epoch, tf.constant(first_step, tf.int64), 0)
            order = shuffled(vector, fold_in(key, epoch))[start * batch_size :]
            # As fast as a map over slices, without another function to trace.
            return tf.data.Dataset.from_tensors(order).rebatch(batch_size)

        batches = tf.data.Dataset.range(first_epoch, ENDLESS).flat_map(one_epoch)
    if shard is not None:
        batches = batches.map(shard.take)
    return with_cardinality(batches, cardinality)


def with_cardinality(dataset: tf.data.Dataset, cardinality: int) -> tf.data.Dataset:
    """Takes `cardinality` elements of `dataset`, and makes that number known."""
    if cardinality != tf.data.INFINITE_CARDINALITY:
        dataset = dataset.take(cardinality)
    return dataset.apply(tf.data.experimental.assert_cardinality(cardinality))


def _is_seed(word: object) -> bool:
    is_integer = isinstance(word, (int, np.integer)) and not isinstance(word, bool)
    return is_integer and int(word) >= 0  # type: ignore[call-overload]
