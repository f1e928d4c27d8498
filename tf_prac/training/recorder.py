"""`ForgettingRecorder`: forgetting statistics, kept inside the compiled training step."""

from __future__ import annotations

import tensorflow as tf

from tf_prac.config import check_int
from tf_prac.data.forgetting import COLUMNS, ForgettingStats


class ForgettingRecorder:
    """Counts presentations and forgetting events by sample id, at a cost per step of O(batch).

    The statistics live in one int32 variable [num_samples, 4], 16 bytes a sample; its columns
    are those of `ForgettingStats`. A batch must not hold the same id twice.

    Args:
        num_samples: size of the data set; ids are in [0, num_samples).
    """

    def __init__(self, num_samples: int):
        check_int("num_samples", num_samples, 1)
        shape = [num_samples, len(COLUMNS)]
        self.table = tf.Variable(tf.zeros(shape, tf.int32), trainable=False, name="forgetting")

    def record(self, ids: tf.Tensor, correct: tf.Tensor) -> None:
        """Records one presentation: `ids` int [batch], `correct` bool [batch]."""
        ids = tf.cast(ids, tf.int64)
        now = tf.cast(correct, tf.int32)
        seen, last, learned, events = tf.unstack(tf.gather(self.table, ids), axis=1)
        rows = tf.stack([seen + 1, now, learned | now, events + last * (1 - now)], axis=1)
        self.table.scatter_update(tf.IndexedSlices(rows, ids))

    def reset(self) -> None:
        """Forgets everything."""
        self.table.assign(tf.zeros_like(self.table))

    @property
    def stats(self) -> ForgettingStats:
        """A copy of the statistics so far."""
        return ForgettingStats.from_table(self.table.numpy())
