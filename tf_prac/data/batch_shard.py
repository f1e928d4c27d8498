"""`BatchShard`: the part of each global batch that one worker reads, padded to a static size."""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class BatchShard:
    """The positions `start` to `start + size` of each global batch.

    The last batch of an epoch, if it has fewer samples, is padded with copies of its own samples
    that have weight 0. So shapes are static, no sample is dropped, and none counts twice.

    Args:
        start: first position.
        size: number of positions.
        global_batch_size: number of positions of the global batch.
    """

    start: int
    size: int
    global_batch_size: int

    def take(self, batch: Any) -> Any:
        """Returns the shard of a batch, a nest of tensors [n, ...], n <= `global_batch_size`."""
        count = tf.shape(tf.nest.flatten(batch)[0])[0]
        positions = tf.range(self.start, self.start + self.size) % count
        return tf.nest.map_structure(lambda part: tf.gather(part, positions), batch)

    def sample_weights(self, step: tf.Tensor, count: int, training: bool) -> tf.Tensor:
        """Returns the sample weight of each position, float32 [size]; padding has weight 0.

        All samples have the same weight, which turns the mean over all positions into the mean over
        the samples: those of the batch in training, those of the whole pass in evaluation.

        Args:
            step: index of the batch, int64.
            count: samples per epoch.
            training: True for training, False for evaluation.
        """
        per_epoch = -(-count // self.global_batch_size)
        present = tf.minimum(
            count - step % per_epoch * self.global_batch_size, self.global_batch_size
        )
        positions = tf.range(self.start, self.start + self.size, dtype=tf.int64)
        if training:
            factor = self.global_batch_size / present
        else:
            factor = per_epoch * self.global_batch_size / count
        return tf.where(positions < present, tf.cast(factor, tf.float32), 0.0)

    def split(self, batches: tf.data.Dataset, parts: int) -> tf.data.Dataset:
        """Splits each batch of `size` positions into `parts` consecutive batches."""
        if parts == 1:
            return batches

        def split(*batch: Any) -> tf.data.Dataset:
            shape = [parts, self.size // parts]
            return tf.data.Dataset.from_tensor_slices(
                tf.nest.map_structure(
                    lambda part: tf.reshape(part, [*shape, *part.shape[1:]]), batch
                )
            )

        return batches.flat_map(split)
