"""`Batches`: how a compiled loop reads its batches, from a stream or from the device's memory.

Both kinds read the same stored samples in the same order, and leave preprocessing to the compiled
step. So a training run has the same batches with either, bit for bit.
"""

from __future__ import annotations

import abc
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow.python.framework.config import is_op_determinism_enabled  # has no public name

from tf_prac.data.order import (
    check_ids,
    derive_seed,
    epoch_order,
    on_cpu,
    steps_per_epoch,
    without_autotune,
)
from tf_prac.data.pipeline import Preprocessing

CHUNK_STEPS, CHUNK_BYTES = 32, 2**26
"""Maximum number and size of the batches of a stream that are copied to the device together."""

SIZES = tf.TensorSpec([2], tf.int32)
"""Signature of the sizes that a call without static shapes reads: batch size, and last position."""


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
        signature: the `tf.TypeSpec`s of most calls, if one trace should serve all sources; or None.
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
        self._key = tf.constant([0, 0] if seed is None else derive_seed(seed, "augment"), tf.int64)
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
            index: the number of steps taken in this call, int32 [], which is in host memory.
        """

    def signature_of(self, call: Call) -> Call | None:
        """Returns the signature of a call that `take` returned."""
        return self.signature

    def is_static(self, call: Call) -> bool:
        """Whether all batches of a call have the same shapes in every round, as XLA needs them."""
        return self.on_device

    def _call(self, steps: int, source: Any) -> tuple[int, Call]:
        first_step = self._step
        self._step += steps
        return steps, Call(on_cpu(steps), tf.constant(first_step, tf.int64), self._key, source)


class StreamedBatches(Batches):
    """Batches of a `tf.data.Dataset`.

    Args:
        iterator: an iterator over the dataset; one batch is consumed per step.
        **options: preprocessing, seed, first_step, as in `Batches`.
    """

    def __init__(self, iterator: Any, **options: Any):
        super().__init__(**options)
        self._iterator = iterator

    def take(self, steps: int) -> tuple[int, Call]:
        """Returns the arguments of a call that takes `steps` steps."""
        return self._call(steps, self._iterator)

    @staticmethod
    def read(source: Any, index: tf.Tensor) -> Any:
        """Returns the next batch of the iterator."""
        return next(source)


class GatheredBatches(Batches):
    """Batches that are gathered from tensors on the device, so that XLA can compile the loop.

    A call has batches of one epoch. With static shapes, as XLA needs them, they also have one size:
    those before the last batch of an epoch, if that is partial, or only that one. The partial batch
    has another size in each round with other samples, for which XLA would compile one program more;
    so its call is not static, unless operations have to be deterministic, for which XLA may be
    needed.

    Args:
        count: number of samples of an epoch.
        batch_size: samples per batch.
        device: name of the device, such as "GPU:0".
        static_shapes: whether the batches of a call have one size, except for a partial one.
        **options: preprocessing, seed, first_step, as in `Batches`.
    """

    on_device = True

    def __init__(
        self, count: int, batch_size: int, device: str, static_shapes: bool, **options: Any
    ):
        super().__init__(**options)
        self._batch_size, self._device, self._is_static = batch_size, device, static_shapes
        self._per_epoch = steps_per_epoch(count, batch_size)
        self._full, partial = divmod(count, batch_size)
        self._sizes = on_cpu([batch_size, count])
        self._partial = partial
        with tf.device(device):
            self._positions = tf.range(batch_size, dtype=tf.int64)
            self._last_positions = tf.range(partial, dtype=tf.int64)

    def take(self, steps: int) -> tuple[int, Call]:
        """Returns the arguments of one call with batches of one epoch."""
        epoch, index = divmod(self._step, self._per_epoch)
        rows, start, available = self._locate(epoch, index)
        last = self._sizes
        if self._is_static and (full := self._full - index) > 0:
            available, last = min(available, full), self._positions
        elif self._is_static:
            available = min(available, 1)
            last = on_cpu([self._batch_size, start + self._partial])
            last = self._last_positions if is_op_determinism_enabled() else last
        with tf.device(self._device):
            return self._call(min(steps, available), (*rows, on_cpu(start), last))

    def is_static(self, call: Call) -> bool:
        """Whether all batches of a call have the same shapes, as XLA needs them."""
        return call.source[-1].dtype == tf.int64  # positions in a batch

    def signature_of(self, call: Call) -> Call | None:
        """Returns the signature of a call that `take` returned."""
        if self.signature is None or self.is_static(call) or not self._is_static:
            return self.signature
        return self.signature._replace(source=(*self.signature.source[:-1], SIZES))

    @abc.abstractmethod
    def _locate(self, epoch: int, index: int) -> tuple[tuple[Any, tf.Tensor], int, int]:
        """Returns where batch `index` of an epoch is.

        Returns:
            The tensors: (samples [rows, ...] as in a batch, the order of the rows, int64 [rows]);
            the first position of the batch in that order; and the number of batches there.
        """

    @staticmethod
    def read(source: Any, index: tf.Tensor) -> Any:
        """Gathers a batch from the rows.

        Sizes in int32, which are in host memory, as the device would wait for the host to read
        them from its own. With static shapes, XLA puts all on the device.
        """
        samples, order, start, last = source
        if last.dtype == tf.int64:  # positions in a batch
            start += index * tf.size(last)
            rows = tf.gather(order, tf.cast(start, tf.int64) + last)
            return tf.nest.map_structure(lambda part: tf.gather(part, rows), samples)
        size, end = tf.unstack(last)
        start += index * size
        rows = tf.slice(order, [start], [tf.minimum(size, end - start)])
        return tf.nest.map_structure(lambda part: gather_on_device(part, rows), samples)

    def _set_signature(self, samples: Any) -> None:
        vector, number = tf.TensorSpec([None], tf.int64), tf.TensorSpec([], tf.int32)
        rows = tf.nest.map_structure(
            lambda part: tf.TensorSpec([None, *part.shape[1:]], part.dtype), samples
        )
        last = vector if self._is_static else SIZES
        first, key = tf.TensorSpec([], tf.int64), tf.TensorSpec([2], tf.int64)
        self.signature = Call(number, first, key, (rows, vector, number, last))


class DeviceBatches(GatheredBatches):
    """Batches of samples that are all in the device's memory, in the order of `Samples.batches`.

    Args:
        samples: all samples, ({"inputs": [N, ...], "sample_id": int64 [N]}, labels [N, ...]), on
            the device.
        ids: the samples to read, int64 [n].
        batch_size: samples per batch.
        device: name of the device, such as "GPU:0".
        static_shapes: whether the batches of a call have one size, as XLA needs, except for a
            partial one.
        **options: preprocessing, seed, first_step, as in `Batches`. Without a seed, each epoch has
            the order of `ids`.

    Raises:
        ArgumentError: If a size or the seed is invalid.
        DataError: If `ids` is empty, out of range or has duplicates.
    """

    def __init__(
        self,
        samples: Any,
        ids: Any,
        batch_size: int,
        device: str,
        static_shapes: bool = False,
        **options: Any,
    ):
        self._samples, seed = samples, options.get("seed")
        self._order_key = None if seed is None else on_cpu(derive_seed(seed, "order"))
        self._count = int(samples[0]["sample_id"].shape[0])
        self._ids, self._epoch = check_ids(ids, self._count), -1
        self._host_ids = on_cpu(self._ids)
        super().__init__(len(self._ids), batch_size, device, static_shapes, **options)
        self._set_signature(samples)

    def _locate(self, epoch: int, index: int) -> tuple[tuple[Any, tf.Tensor], int, int]:
        if self._epoch < 0 or (self._epoch != epoch and self._order_key is not None):
            order = epoch_order(self._host_ids, self._order_key, epoch)
            if self._is_static:  # padded to a size that never changes
                with tf.device("CPU:0"):
                    order = tf.pad(order, [[0, self._count - len(self._ids)]])
            with tf.device(self._device):
                self._order, self._epoch = tf.identity(order), epoch
        return (self._samples, self._order), index * self._batch_size, self._per_epoch - index


class ChunkedBatches(GatheredBatches):
    """Batches of a stream, of which several at a time are copied to the device.

    For XLA: the loop is the program that reads `DeviceBatches`, so that results are the same bits.

    Args:
        stored: an endless `tf.data.Dataset` of batches.
        count: number of samples of an epoch.
        batch_size: samples per batch, except for the last one of an epoch.
        device: name of the device, such as "GPU:0".
        **options: preprocessing, seed, first_step, as in `Batches`.
    """

    def __init__(
        self,
        stored: tf.data.Dataset,
        count: int,
        batch_size: int,
        device: str,
        **options: Any,
    ):
        super().__init__(count, batch_size, device, True, **options)
        row_size = sum(
            part.shape[1:].num_elements() * part.dtype.size
            for part in tf.nest.flatten(stored.element_spec)
        )
        chunk = max(1, min(CHUNK_STEPS, CHUNK_BYTES // (batch_size * row_size)))

        def padded(*batch: Any) -> Any:
            return tf.nest.map_structure(pad, batch)

        def pad(part: tf.Tensor) -> tf.Tensor:
            missing = batch_size - tf.shape(part)[0]
            part = tf.pad(part, [[0, missing], *[[0, 0]] * (part.shape.rank - 1)])
            return tf.ensure_shape(part, [batch_size, *part.shape[1:]])

        def merge(*batches: Any) -> Any:
            return tf.nest.map_structure(
                lambda part: tf.reshape(part, [chunk * batch_size, *part.shape[2:]]), batches
            )

        chunks = stored.map(padded).batch(chunk, drop_remainder=True).map(merge)
        self._set_signature(chunks.element_spec)
        self._chunks, self._chunk, self._used = iter(on_device(chunks, device, 2)), chunk, chunk
        with tf.device(device):
            self._order = tf.range(chunk * batch_size, dtype=tf.int64)

    def _locate(self, epoch: int, index: int) -> tuple[tuple[Any, tf.Tensor], int, int]:
        if self._used == self._chunk:
            self._rows, self._used = next(self._chunks), 0
        start = self._used * self._batch_size
        return (self._rows, self._order), start, self._chunk - self._used

    def _call(self, steps: int, source: Any) -> tuple[int, Call]:
        self._used += steps
        return super()._call(steps, source)


GATHERED = (tf.bool, tf.bfloat16, tf.float16, tf.float32, tf.float64, tf.int64)
"""The dtypes that TensorFlow gathers on a GPU, except int32, which it passes in host memory."""
WORDS = (tf.int64, tf.float32, tf.float16)
"""Dtypes whose bits stand for those of several small integers, the longest first."""


def gathers_on_gpu(part: tf.TensorSpec) -> bool:
    """Returns whether `gather_on_device` has a kernel on GPUs for samples [N, ...]."""
    return part.dtype in GATHERED or (part.dtype != tf.int32 and _word(part) is not None)


def gather_on_device(part: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Gathers rows [N, ...], of small integers as words, as TensorFlow has a kernel for GPUs then.

    For uint8 without XLA, it would copy all rows to the host in each step.
    """
    word = None if part.dtype in GATHERED else _word(part)
    if word is None:
        return tf.gather(part, rows)
    size = word.size // part.dtype.size
    words = tf.reshape(part, [-1, part.shape[1:].num_elements() // size, *([size] * (size > 1))])
    gathered = tf.bitcast(tf.gather(tf.bitcast(words, word), rows), part.dtype)
    return tf.reshape(gathered, [-1, *part.shape[1:]])


def _word(part: tf.Tensor | tf.TensorSpec) -> tf.DType | None:
    """Returns the longest word that divides a row, or None."""
    if not part.dtype.is_integer or not part.shape[1:].is_fully_defined():
        return None
    size = part.shape[1:].num_elements() * part.dtype.size
    words = (word for word in WORDS if word.size >= part.dtype.size and size % word.size == 0)
    return next(words, None) if size else None


def on_device(batches: tf.data.Dataset, device: str, count: int) -> tf.data.Dataset:
    """Returns the dataset, of which `count` elements are read ahead and copied to the device."""
    if device.startswith("CPU"):
        return without_autotune(batches.prefetch(count))
    batches = without_autotune(batches)
    return batches.apply(tf.data.experimental.prefetch_to_device(f"/{device}", count))
