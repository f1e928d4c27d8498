"""`BatchShard`: the part of each batch that one of several workers reads, of static size."""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class BatchShard:
    """The places `start` to `start + size` of batches that have `of` places.

    A batch with fewer samples, the last of an epoch, is filled up with its own samples, which
    have weight 0 there: shapes are static, no sample is lost, and none counts twice.

    Args:
        start: first place.
        size: number of places.
        of: places of the whole batch.
    """

    start: int
    size: int
    of: int

    def take(self, *parts: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Returns the shard of tensors [batch, ...], where 0 < batch <= `of`."""
        count = tf.shape(parts[0])[0]
        places = tf.range(self.start, self.start + self.size) % count
        return tuple(tf.gather(part, places) for part in parts)

    def weights(self, step: tf.Tensor, count: int, training: bool) -> tf.Tensor:
        """Returns the weight of each place, float32 [size]: 0 where a batch is filled up.

        The others make the mean over all places that over the samples: of the batch in
        training, and of the whole pass in evaluation.

        Args:
            step: number of the batch, int64.
            count: samples in an epoch.
            training: which of the two.
        """
        per_epoch = -(-count // self.of)
        there = tf.minimum(count - step % per_epoch * self.of, self.of)
        places = tf.range(self.start, self.start + self.size, dtype=tf.int64)
        factor = self.of / there if training else per_epoch * self.of / count
        return tf.where(places < there, tf.cast(factor, tf.float32), 0.0)

    def split(self, batches: tf.data.Dataset, parts: int) -> tf.data.Dataset:
        """Cuts each batch of `size` places into so many, one after the other."""
        if parts == 1:
            return batches

        def cut(*batch: Any) -> tf.data.Dataset:
            shape = [parts, self.size // parts]
            return tf.data.Dataset.from_tensor_slices(
                tf.nest.map_structure(
                    lambda part: tf.reshape(part, [*shape, *part.shape[1:]]), batch
                )
            )

        return batches.flat_map(cut)
