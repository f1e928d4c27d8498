"""`ForgettingRecorder`: forgetting statistics, updated inside the compiled training step."""

from __future__ import annotations

import tensorflow as tf

from tf_prac.checks import check_int
from tf_prac.data.forgetting import COLUMNS, ForgettingStats
from tf_prac.errors import ArgumentError

ID_TOO_HIGH = "num_samples is not above the sample id"


class ForgettingRecorder:
    """Counts presentations and forgetting events by sample id, at a cost per step of O(batch).

    The statistics are stored in one int32 variable [num_samples, 4], 16 bytes per sample, with the
    columns of `ForgettingStats`. A batch must not contain the same id twice. Under a strategy,
    every replica has a copy of the variable, which records all samples of the global batch (four
    bytes of communication per sample). So the copies are equal after every step, whichever replica
    gets a sample next.

    Example:

        >>> recorder = ForgettingRecorder(num_samples=3)
        >>> for correct in ([True, False], [False, False]):
        ...     finite = recorder.record([0, 2], correct)
        >>> recorder.stats.events.tolist()
        [1, 0, 0]

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
        padded: bool = False,
        *,
        filled_up: bool = False,
    ) -> tf.Tensor:
        """Records one presentation of each sample of a batch, on every replica.

        Args:
            ids: int [batch]; ids below 0 mark padding and are not recorded.
            correct: whether each sample is classified correctly, bool [batch].
            finite: whether the loss of this replica is finite, bool scalar. Default True.
            padded: whether there may be ids below 0. Default False.
            filled_up: the earlier name of `padded`.

        Returns:
            Whether the loss of every replica is finite, bool scalar.

        Raises:
            InvalidArgumentError: From TensorFlow, in a compiled step, if an id is not below
                `num_samples`.
        """
        ids, correct = tf.cast(ids, tf.int32), tf.cast(correct, tf.int32)
        finite = tf.convert_to_tensor(finite)
        if padded or filled_up or replicas_in_sync() > 1:
            ids, correct, finite = _gather_records(ids, correct, finite)
        highest = tf.reduce_max(ids)
        in_range = highest < self.table.shape[0]
        # A gather that is out of range is silent on a GPU, and its error on a CPU is unspecific.
        with tf.control_dependencies(
            [tf.raw_ops.Assert(condition=in_range, data=[ID_TOO_HIGH, highest])]
        ):
            ids = tf.identity(ids)
        # `tf.gather` reads all of a replicated variable, which makes the next write copy it.
        rows = tf.raw_ops.ResourceGather(resource=self.table.handle, indices=ids, dtype=tf.int32)
        seen, last, learned, events = tf.unstack(rows, axis=1)
        rows = tf.stack(
            [seen + 1, correct, learned | correct, events + last * (1 - correct)], axis=1
        )
        self.table.scatter_update(tf.IndexedSlices(rows, ids))
        return finite

    @property
    def num_samples(self) -> int:
        """Size of the data set."""
        return int(self.table.shape[0])

    def too_few(self) -> ArgumentError:
        """Returns the error for data with a sample id that is not below `num_samples`."""
        return id_too_high_error(self.num_samples)

    def reset(self) -> None:
        """Resets all statistics to 0."""
        self.table.assign(tf.zeros_like(self.table))

    @property
    def stats(self) -> ForgettingStats:
        """A copy of the statistics so far."""
        return ForgettingStats.from_table(self.table.numpy())


def id_too_high_error(num_samples: int) -> ArgumentError:
    """Returns the error for data with a sample id that is not below `num_samples`."""
    return ArgumentError(
        "num_samples",
        num_samples,
        "a number above every sample id of the data",
        "Set it to the number of samples that tf_prac.with_sample_ids numbered.",
    )


def replicas_in_sync() -> int:
    """Returns the number of replicas of the current strategy."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def all_gather(values: tf.Tensor) -> tf.Tensor:
    """Returns the values of all replicas, in each replica: int32 [n] to [replicas * n].

    For a static n, it uses one all-reduce sum, which every kind of device supports.
    """
    context = tf.distribute.get_replica_context()
    replicas = context.num_replicas_in_sync
    if replicas == 1:
        return values
    if values.shape[0] is None:
        return context.all_gather(values, axis=0)
    is_own_row = tf.range(replicas)[:, None] == context.replica_id_in_sync_group
    rows = tf.where(is_own_row, values[None], 0)
    return tf.reshape(context.all_reduce(tf.distribute.ReduceOp.SUM, rows), [-1])


def _gather_records(
    ids: tf.Tensor, correct: tf.Tensor, finite: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns ids, correctness and finiteness of all replicas.

    Id and correctness are encoded as one integer, 2 * id + correct, and finiteness as -3 or -4, so
    that one gather is enough. Padding is replaced by the first sample, whose row is then written
    more than once, with equal values.
    """
    flag = tf.where(finite, -3, -4)
    codes = all_gather(tf.concat([ids * 2 + correct, flag[None]], 0))
    finite = tf.reduce_all(codes != -4)
    is_sample = codes >= 0
    codes = tf.where(is_sample, codes, codes[tf.argmax(tf.cast(is_sample, tf.int32))])
    return codes // 2, codes % 2, finite
