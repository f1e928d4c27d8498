"""`Batches`: how a compiled loop reads its batches, from a stream or from the device's memory.

Both kinds read the same stored samples in the same order, and leave preprocessing to the compiled
step. So a training run has the same batches with either, bit for bit.
"""

from __future__ import annotations

import abc
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tf_prac.data.order import check_ids, derive_seed, epoch_order, steps_per_epoch
from tf_prac.data.pipeline import Preprocessing


class Call(NamedTuple):
    """The arguments of one call of a compiled loop.

    Attributes:
        steps: the number of steps, int32 [].
        first_step: the number of the first of them, int64 [].
        key: the key of the augmentation, int64 [2].
        source: a nest of tensors and iterators, from which `Batches.read` reads a batch.
    """

    steps: tf.Tensor
    first_step: tf.Tensor
    key: tf.Tensor
    source: Any


class Batches(abc.ABC):
    """A sequence of batches, read by a compiled loop from where the last call ended.

    Args:
        preprocessing: applied to each batch in the compiled step; None if batches are ready.
        seed: of the augmentation, as in `training_batches`. Default None: no augmentation.
        first_step: the number of the first step. Default 0.

    Attributes:
        preprocessing: the argument.
        signature: the `tf.TypeSpec`s of a `Call`, if one trace should serve all sources; or None.
    """

    on_device = False
    """Whether a loop reads tensors on its device only, so that XLA can compile all of it."""

    signature: Call | None = None

    def __init__(
        self,
        preprocessing: Preprocessing | None = None,
        seed: tuple[int, ...] | None = None,
        first_step: int = 0,
    ):
        self.preprocessing = preprocessing
        self._key = np.zeros(2, np.int64) if seed is None else derive_seed(seed, "augment")
        self._step = first_step

    @abc.abstractmethod
    def take(self, steps: int) -> tuple[int, Call]:
        """Returns the arguments of the next call, and its number of steps, from 0 to `steps`."""

    @staticmethod
    @abc.abstractmethod
    def read(source: Any, index: tf.Tensor) -> Any:
        """Reads a batch inside the compiled loop.

        Args:
            source: that of the `Call`.
            index: the number of steps taken in this call, int64 [].
        """

    def _call(self, steps: int, source: Any) -> tuple[int, Call]:
        first_step = self._step
        self._step += steps
        return steps, Call(
            tf.constant(steps), tf.constant(first_step, tf.int64), tf.constant(self._key), source
        )


class StreamedBatches(Batches):
    """Batches of a `tf.data.Dataset`.

    Args:
        iterator: an iterator over the dataset; one batch is consumed per step.
        preprocessing, seed, first_step: as in `Batches`.
    """

    def __init__(self, iterator: Any, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._iterator = iterator

    def take(self, steps: int) -> tuple[int, Call]:
        """Returns the arguments of a call that takes `steps` steps."""
        return self._call(steps, self._iterator)

    @staticmethod
    def read(source: Any, index: tf.Tensor) -> Any:
        """Returns the next batch of the iterator."""
        return next(source)


class DeviceBatches(Batches):
    """Batches of samples that are in the device's memory, gathered there by id.

    An endless sequence of epochs, in the order of `Samples.batches`. A call has batches of one
    size, so that shapes are static under XLA: those before the last batch of an epoch, if that is
    partial, or only that one.

    Args:
        arrays: inputs and labels of all samples, nests of tensors [N, ...] on the device.
        ids: the samples to read, int64 [n].
        batch_size: samples per batch.
        preprocessing: applied to each batch in the compiled step.
        device: name of the device, such as "GPU:0".
        seed: of order and augmentation, as in `training_batches`. Default None: always in the
            order of `ids`.
        first_step: the number of the first step. Default 0.

    Raises:
        ArgumentError: If a size or the seed is invalid.
        DataError: If `ids` is empty, out of range or has duplicates.
    """

    on_device = True

    def __init__(
        self,
        arrays: tuple[Any, Any],
        ids: Any,
        batch_size: int,
        preprocessing: Preprocessing,
        device: str,
        *,
        seed: tuple[int, ...] | None = None,
        first_step: int = 0,
    ):
        super().__init__(preprocessing, seed, first_step)
        self._arrays, self._device, self._seed = arrays, device, seed
        self._capacity = int(tf.nest.flatten(arrays)[0].shape[0])
        self._ids, self._batch_size = check_ids(ids, self._capacity), batch_size
        self._per_epoch = steps_per_epoch(len(self._ids), batch_size)
        self._epoch = -1
        with tf.device(device):
            full, partial = divmod(len(self._ids), batch_size)
            self._positions = tf.range(batch_size if full else 0, dtype=tf.int64)
            self._last_positions = tf.range(partial, dtype=tf.int64)
        vector, scalar = tf.TensorSpec([None], tf.int64), tf.TensorSpec([], tf.int64)
        any_count = tf.nest.map_structure(
            lambda part: tf.TensorSpec([None, *part.shape[1:]], part.dtype), arrays
        )
        self.signature = Call(
            tf.TensorSpec([], tf.int32),
            scalar,
            tf.TensorSpec([2], tf.int64),
            (any_count, vector, vector, scalar),
        )

    def take(self, steps: int) -> tuple[int, Call]:
        """Returns the arguments of a call with batches of one size, in one epoch."""
        epoch, index = divmod(self._step, self._per_epoch)
        self._load_order(epoch)
        full = len(self._ids) // self._batch_size - index
        positions = self._positions if full else self._last_positions
        steps = min(steps, full or 1)
        with tf.device(self._device):
            start = tf.constant(index * self._batch_size, tf.int64)
            return self._call(steps, (self._arrays, self._order, positions, start))

    def _load_order(self, epoch: int) -> None:
        """Copies the order of an epoch to the device, padded to a size that never changes."""
        if epoch == self._epoch or (self._seed is None and self._epoch >= 0):
            return
        order = epoch_order(self._ids, self._seed, epoch)
        with tf.device("CPU:0"):
            order = tf.pad(order, [[0, self._capacity - len(self._ids)]])
        with tf.device(self._device):
            self._order, self._epoch = tf.identity(order), epoch

    @staticmethod
    def read(source: Any, index: tf.Tensor) -> Any:
        """Gathers the batch from the arrays."""
        (inputs, labels), order, positions, start = source
        size = tf.size(positions, tf.int64)
        ids = tf.gather(order, start + index * size + positions)
        inputs, labels = tf.nest.map_structure(lambda part: tf.gather(part, ids), (inputs, labels))
        return {"inputs": inputs, "sample_id": ids}, labels
