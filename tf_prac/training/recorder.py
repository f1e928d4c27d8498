"""`ForgettingRecorder`: forgetting statistics, updated inside the compiled training step.

All variables have a dtype that TensorFlow keeps on an accelerator, which it does not for int32, and
each operation of the step has a kernel there (there is none for the minimum or `unstack` of int64).
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.config import is_op_determinism_enabled  # has no public name

from tf_prac.checks import check_int
from tf_prac.data.forgetting import COLUMNS, ForgettingStats
from tf_prac.data.ids import MAX_SAMPLES, PADDING, check_id_spec
from tf_prac.errors import ArgumentError
from tf_prac.training.targets import label_error

SIGN = tf.int64.min  # Flipping this bit orders int64 as unsigned: ids below 0 come last.


class ForgettingRecorder:
    """Counts presentations and forgetting events by sample id, at a cost per step of O(batch).

    The statistics are stored on the device, in 16 bytes per sample. Under a strategy, every replica
    has a copy, which records all samples of the global batch (16 bytes of communication per
    sample). So the copies are equal after every step, whichever replica gets a sample next.

    A batch must not contain the same id twice. Dtype and shape of the ids are checked when the step
    is traced. Their values cannot be checked in a step, because XLA ignores assertions. Ids outside
    [0, num_samples) are not recorded; they and duplicates are counted, and are an error when the
    statistics are next read.

    Example:

        >>> recorder = ForgettingRecorder(num_samples=3)
        >>> for correct in ([True, False], [False, False]):
        ...     finite = recorder.record([0, 2], correct)
        >>> recorder.stats.events.tolist()
        [1, 0, 0]

    Args:
        num_samples: size of the data set; ids are in [0, num_samples).

    Attributes:
        num_samples: size of the data set.
        table: the statistics as a checkpoint stores them, a `RecordedTable`.
        variables: the variables that a step updates.
    """

    def __init__(self, num_samples: int):
        check_int("num_samples", num_samples, 1, below=MAX_SAMPLES)
        self.num_samples = int(num_samples)
        # Counts in float32 are exact up to 2**24. The last row takes what is not a sample.
        self._rows = _variable("forgetting", tf.zeros([num_samples + 1, len(COLUMNS)]))
        self._presented = _variable("presented", tf.zeros([], tf.int64))
        self._highest = _variable("highest_id_and_label", tf.fill([2], SIGN))
        self.variables = [self._rows, self._presented, self._highest]
        self._num_classes = 0
        self.table = RecordedTable(self)

    def record(
        self,
        ids: tf.Tensor,
        correct: tf.Tensor,
        finite: tf.Tensor | bool = True,
        padded: bool = False,
        *,
        labels: tuple[tf.Tensor, int] | None = None,
    ) -> tf.Tensor:
        """Records one presentation of each sample of a batch, on every replica.

        Args:
            ids: int [batch].
            correct: whether each sample is classified correctly, bool [batch].
            finite: whether the loss of this replica is finite, bool scalar. Default True.
            padded: whether an id of -1 marks padding, which is not recorded. Default False.
            labels: class numbers of this replica, int64 of any shape, and the number of classes,
                to check them. Default None: not checked.

        Returns:
            Whether the loss of every replica is finite, bool scalar.

        Raises:
            ArgumentError: If the ids are not integers or not of shape [batch].
        """
        ids = tf.convert_to_tensor(ids)
        check_id_spec(ids.dtype, ids.shape)
        ids, finite = tf.cast(ids, tf.int64), tf.convert_to_tensor(finite)
        is_sample = None
        if replicas_in_sync() > 1:
            ids, correct, is_sample, finite = _gather_records(ids, correct, finite)
        if padded:
            is_id = ids != PADDING
            is_sample = is_id if is_sample is None else is_sample & is_id
        self._count(ids, is_sample, labels)
        self._update_rows(ids, tf.cast(correct, tf.bool))
        return finite

    def _count(
        self, ids: tf.Tensor, is_sample: tf.Tensor | None, labels: tuple[tf.Tensor, int] | None
    ) -> None:
        """Updates the number of presentations, and the highest id and label, for `check`."""
        if is_sample is None:
            presented = tf.reduce_sum(tf.ones_like(ids))  # `tf.size` would run on the host.
        else:
            ids = tf.where(is_sample, ids, 0)
            presented = tf.reduce_sum(tf.cast(is_sample, tf.int64))
        tf.raw_ops.AssignAddVariableOp(resource=self._presented.handle, value=presented)
        label = tf.constant(SIGN, tf.int64)
        if labels is not None:
            classes, self._num_classes = labels
            label = tf.reduce_max(_unsigned_order(classes))
        highest = tf.stack([tf.reduce_max(_unsigned_order(ids)), label])
        highest = tf.maximum(self._highest.read_value(), highest)
        tf.raw_ops.AssignVariableOp(resource=self._highest.handle, value=highest)

    def _update_rows(self, ids: tf.Tensor, correct: tf.Tensor) -> None:
        """Updates the rows of the samples; ids out of range update the last row."""
        last_row = np.int64(self.num_samples) ^ np.int64(SIGN)
        index = _unsigned_order(tf.minimum(_unsigned_order(ids), last_row))
        # `tf.gather` reads all of a replicated variable, which makes the next write copy it.
        rows = tf.raw_ops.ResourceGather(
            resource=self._rows.handle, indices=index, dtype=tf.float32
        )
        seen, last, learned, events = tf.unstack(rows, axis=1)
        events += tf.where(correct, tf.constant(0.0), last)
        correct = tf.cast(correct, tf.float32)
        rows = tf.stack([seen + 1, correct, tf.maximum(learned, correct), events], axis=1)
        if scatters_are_slow():
            # The maximum of the rows of each id, which for distinct ids is the row itself.
            updated = tf.math.unsorted_segment_max(rows, index, self.num_samples + 1)
            self._rows.assign(tf.where(updated[:, :1] > 0, updated, self._rows.read_value()))
        else:
            self._rows.scatter_update(tf.IndexedSlices(rows, index))

    def check(self) -> None:
        """Checks the ids and labels of the batches since the last `reset` or `restart_checks`.

        Raises:
            ArgumentError: If an id or label is out of range, or a batch had the same id twice.
        """
        copies = getattr(self._highest, "values", [self._highest])  # labels differ by replica
        highest = np.max([copy.numpy() for copy in copies], axis=0) ^ np.int64(SIGN)
        sample_id, label = highest.tolist()
        if not 0 <= sample_id < self.num_samples:
            raise id_error(sample_id, self.num_samples)
        if self._num_classes and not 0 <= label < self._num_classes:
            raise label_error(label, self._num_classes)
        again = int(self._presented.numpy()) - self._recorded()
        if again > 0:
            raise ArgumentError(
                "sample_id",
                f"{again} samples with an id that their batch has already",
                "distinct ids in each batch",
                "Number the samples with tf_prac.with_sample_ids, and call batch() before "
                "repeat(), so that no batch has samples of two epochs.",
            )

    def restart_checks(self) -> None:
        """Makes `check` cover only later batches; the statistics stay."""
        self._presented.assign(self._recorded())
        self._highest.assign([SIGN, SIGN])

    def reset(self) -> None:
        """Resets all statistics to 0."""
        self._rows.assign(tf.zeros_like(self._rows))
        self.restart_checks()

    @property
    def stats(self) -> ForgettingStats:
        """A copy of the statistics so far.

        Raises:
            ArgumentError: If an id or label was out of range, or a batch had the same id twice.
        """
        return ForgettingStats.from_table(self.table.numpy())

    def _recorded(self) -> int:
        """Returns the number of presentations in the statistics."""
        return int(self._rows.numpy()[:-1, 0].sum(dtype=np.float64))


class RecordedTable:
    """The statistics of a recorder, with the columns of `ForgettingStats`.

    It has the methods of a variable that saving and restoring a checkpoint needs.

    Args:
        recorder: the recorder.

    Attributes:
        shape: (num_samples, 4).
    """

    def __init__(self, recorder: ForgettingRecorder):
        self._recorder = recorder
        self.shape = (recorder.num_samples, len(COLUMNS))

    def numpy(self) -> np.ndarray:
        """Returns a copy of the statistics, int32 [num_samples, 4].

        Raises:
            ArgumentError: If an id or label was out of range, or a batch had the same id twice.
        """
        self._recorder.check()
        return self._recorder._rows.numpy()[:-1].astype(np.int32)

    def assign(self, table: np.ndarray) -> None:
        """Sets the statistics.

        Args:
            table: counts [num_samples, 4].
        """
        last_row = np.zeros((1, len(COLUMNS)))
        self._recorder._rows.assign(np.concatenate([table, last_row]).astype(np.float32))
        self._recorder.restart_checks()


def id_error(sample_id: int, num_samples: int) -> ArgumentError:
    """Returns the error for data with a sample id outside of [0, num_samples)."""
    if num_samples <= sample_id < MAX_SAMPLES:
        return ArgumentError(
            "num_samples",
            num_samples,
            f"a number above every sample id of the data, which go up to {sample_id}",
            "Set it to the number of samples that tf_prac.with_sample_ids numbered.",
        )
    return ArgumentError(
        "sample_id",
        sample_id,
        f"0 to {num_samples - 1}, for num_samples={num_samples}",
        "Number the samples with tf_prac.with_sample_ids.",
    )


def scatters_are_slow() -> bool:
    """Returns whether a scatter takes much longer than a pass over the whole table.

    So it is on a GPU with determinism: TensorFlow's kernel copies the table to the host and back,
    and XLA writes one row after the other. Both compute a maximum on the device, as its result does
    not depend on the order.
    """
    return is_op_determinism_enabled() and bool(tf.config.get_visible_devices("GPU"))


def replicas_in_sync() -> int:
    """Returns the number of replicas of the current strategy."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def all_gather(values: tf.Tensor) -> tf.Tensor:
    """Returns the values of all replicas, in each replica: [n, ...] to [replicas * n, ...].

    Values are numbers: ids and counts in int64, rows and sums in float.
    For a static n, it uses one all-reduce sum, which every kind of device supports.
    """
    context = tf.distribute.get_replica_context()
    replicas = context.num_replicas_in_sync
    if replicas == 1:
        return values
    if values.shape[0] is None:
        return context.all_gather(values, axis=0)
    own = tf.cast(context.replica_id_in_sync_group, tf.int64)
    is_own = tf.reshape(tf.range(replicas, dtype=tf.int64) == own, [-1] + [1] * values.shape.rank)
    rows = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.where(is_own, values[None], 0))
    return tf.reshape(rows, [-1, *values.shape[1:]])


def _gather_records(
    ids: tf.Tensor, correct: tf.Tensor, finite: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns ids and correctness of all replicas, which of them are samples, and finiteness.

    One gather is enough: each replica adds a row for finiteness, 2 or 3, to those of its samples.
    """
    rows = tf.stack([ids, tf.cast(correct, tf.int64)], axis=1)
    flag = tf.stack([tf.constant(PADDING, tf.int64), 2 + tf.cast(finite, tf.int64)])
    rows = all_gather(tf.concat([rows, flag[None]], 0))
    ids, values = rows[:, 0], rows[:, 1]
    return ids, values, values < 2, tf.reduce_all(values != 2)


def _unsigned_order(ids: tf.Tensor) -> tf.Tensor:
    """Maps int64 so that their order is that of unsigned integers; it is its own inverse."""
    return tf.bitwise.bitwise_xor(ids, SIGN)


def _variable(name: str, value: tf.Tensor) -> tf.Variable:
    return tf.Variable(value, trainable=False, name=name)
