"""`ForgettingRecorder`: forgetting statistics, kept inside the compiled training step."""

from __future__ import annotations

import tensorflow as tf

from tf_prac.config import check_int
from tf_prac.data.forgetting import COLUMNS, ForgettingStats
from tf_prac.errors import ArgumentError

TOO_FEW = "num_samples is not above the sample id"


class ForgettingRecorder:
    """Counts presentations and forgetting events by sample id, at a cost per step of O(batch).

    The statistics live in one int32 variable [num_samples, 4], 16 bytes a sample; its columns
    are those of `ForgettingStats`. A batch must not hold the same id twice. Under a strategy
    every replica has a copy, and all copies are told of all samples of the global batch, four bytes
    for each: the copies are equal after every step, wherever a sample is presented next.

    Args:
        num_samples: size of the data set; ids are in [0, num_samples).
    """

    def __init__(self, num_samples: int):
        check_int("num_samples", num_samples, 1, below=2**30)
        shape = [num_samples, len(COLUMNS)]
        self.table = tf.Variable(tf.zeros(shape, tf.int32), trainable=False, name="forgetting")

    def record(
        self,
        ids: tf.Tensor,
        correct: tf.Tensor,
        finite: tf.Tensor | bool = True,
        filled_up: bool = False,
    ) -> tf.Tensor:
        """Records one presentation on every replica.

        Args:
            ids: int [batch]; those below 0 are not recorded.
            correct: bool [batch].
            finite: bool, whether the loss of this replica is. Default True.
            filled_up: whether there may be ids below 0. Default False.

        Returns:
            Whether the loss of all replicas is finite.

        Raises:
            InvalidArgumentError: TensorFlow's, of a compiled step: an id is not below
                `num_samples`.
        """
        ids, now = tf.cast(ids, tf.int32), tf.cast(correct, tf.int32)
        finite = tf.convert_to_tensor(finite)
        if filled_up or replicas_in_sync() > 1:
            ids, now, finite = _exchanged(ids, now, finite)
        highest = tf.reduce_max(ids)
        inside = highest < self.table.shape[0]
        # A gather that is out of range tells nobody on a GPU, and in unknown words on a CPU.
        with tf.control_dependencies(
            [tf.raw_ops.Assert(condition=inside, data=[TOO_FEW, highest])]
        ):
            ids = tf.identity(ids)
        # `tf.gather` reads all of a replicated variable, which makes the next write copy it.
        rows = tf.raw_ops.ResourceGather(resource=self.table.handle, indices=ids, dtype=tf.int32)
        seen, last, learned, events = tf.unstack(rows, axis=1)
        rows = tf.stack([seen + 1, now, learned | now, events + last * (1 - now)], axis=1)
        self.table.scatter_update(tf.IndexedSlices(rows, ids))
        return finite

    def too_few(self) -> ArgumentError:
        """The error of data that has a sample id of `num_samples` or above."""
        return ArgumentError(
            "num_samples",
            int(self.table.shape[0]),
            "a number above every sample id of the data",
            "Give the number of samples that tf_prac.with_sample_ids went over.",
        )

    def reset(self) -> None:
        """Forgets everything."""
        self.table.assign(tf.zeros_like(self.table))

    @property
    def stats(self) -> ForgettingStats:
        """A copy of the statistics so far."""
        return ForgettingStats.from_table(self.table.numpy())


def replicas_in_sync() -> int:
    """Returns how many replicas of the present strategy take a step together."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def gathered(values: tf.Tensor) -> tf.Tensor:
    """Returns the values of all replicas, in each replica: int32 [n] to [replicas * n].

    Of a static n, by one sum over replicas of n values for each, which every kind of device has.
    """
    replicas = tf.distribute.get_replica_context()
    count = replicas.num_replicas_in_sync
    if count == 1:
        return values
    if values.shape[0] is None:
        return replicas.all_gather(values, axis=0)
    mine = tf.range(count)[:, None] == replicas.replica_id_in_sync_group
    placed = tf.where(mine, values[None], 0)
    return tf.reshape(replicas.all_reduce(tf.distribute.ReduceOp.SUM, placed), [-1])


def _exchanged(
    ids: tf.Tensor, now: tf.Tensor, finite: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns ids, correctness and finiteness of all replicas.

    A pair of id and correctness travels as one number, finiteness as one below those of ids < 0.
    In the place of what is no sample comes the first one that is, with the same row to write.
    """
    flag = tf.where(finite, -3, -4)
    codes = gathered(tf.concat([ids * 2 + now, flag[None]], 0))
    finite = tf.reduce_all(codes != -4)
    real = codes >= 0
    codes = tf.where(real, codes, codes[tf.argmax(tf.cast(real, tf.int32))])
    return codes // 2, codes % 2, finite
