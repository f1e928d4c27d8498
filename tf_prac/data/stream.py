"""`StreamSamples`: samples of a dataset that is too large to hold decoded.

The first pass learns labels, count and hash. After it only the samples that are asked for are
decoded: encoded they are held in memory when they fit, and otherwise read again and filtered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.config import check_int
from tf_prac.data.batch_shard import BatchShard
from tf_prac.data.checks import MEMORY_LIMIT_BYTES
from tf_prac.data.order import (
    ALGORITHM,
    ENDLESS,
    check_ids,
    derive_seed,
    fold_in,
    on_cpu,
    shuffled,
    split_steps,
    with_cardinality,
)
from tf_prac.data.scan import (
    first_element,
    naming,
    numbered,
    packed,
    same_order,
    scan,
    unpack,
)
from tf_prac.data.source import DatasetIdentity, Samples
from tf_prac.errors import ArgumentError, DataError


class StreamSamples(Samples):
    """Samples of a finite, unbatched `tf.data.Dataset`.

    While the encoded samples asked for fit `memory_limit_bytes`, they are read once and then
    shuffled perfectly. When they do not, every epoch reads the dataset and drops other samples
    before `decode`; its order is that of the dataset, shuffled within consecutive blocks of
    `buffer_size` samples whose borders move from epoch to epoch. Both orders depend only on
    (seed, epoch).

    Example:

        >>> files = tf.data.Dataset.from_tensor_slices((jpeg_strings, labels))
        >>> samples = StreamSamples(files, decode=lambda jpeg: tf.io.decode_jpeg(jpeg, 3))

    Args:
        dataset: (x, y) with the same order in every pass, or ({"inputs": x, "sample_id": id}, y)
            with ids 0 to N - 1 in any order.
        decode: function from x to an input, called only for samples that are asked for; all of
            them must come out in one shape. Default x itself.
        name: name for `identity`. Default "stream".
        version: version for `identity`. Default "".
        split: split for `identity`. Default "train".
        mean: per-channel mean of the decoded images scaled to [0, 1]. Default no normalisation.
        std: per-channel standard deviation likewise.
        num_classes: number of classes. Default the largest label plus one.
        classes: the name of each class, for the pages of a report. Default none.
        memory_limit_bytes: most encoded bytes held. Default 4 GiB.
        buffer_size: samples per shuffled block when the dataset is read again; a block is held in
            memory besides. Default 10,000.
        check_order: compare two passes in the beginning; False for a source known to keep its
            order. Default True.

    Raises:
        ArgumentError: another kind of dataset, a batched or an endless one.
        DataError: labels, inputs, ids or an order that samples cannot have.
    """

    def __init__(
        self,
        dataset: tf.data.Dataset,
        *,
        decode: Callable[[tf.Tensor], tf.Tensor] | None = None,
        name: str = "stream",
        version: str = "",
        split: str = "train",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        num_classes: int | None = None,
        classes: Sequence[str] | None = None,
        memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
        buffer_size: int = 10_000,
        check_order: bool = True,
    ):
        check_int("memory_limit_bytes", memory_limit_bytes, 0)
        check_int("buffer_size", buffer_size, 1)
        elements = numbered(dataset)
        self._stored = elements.element_spec[1]
        self._source = packed(elements)
        found = scan(self._source, name, memory_limit_bytes)
        self._replays = not check_order or same_order(self._source, name, found)
        self._decode = decode or tf.identity
        with naming(name):
            example = self._decode(unpack(first_element(self._source, name)[1], self._stored))
        if example.dtype == tf.string:
            raise ArgumentError("decode", decode, f"a function to numbers, as {name} holds strings")
        super().__init__(
            identity=DatasetIdentity(name, version, split, len(found.labels), found.order_hash()),
            labels=found.labels,
            num_classes=num_classes,
            input_shape=example.shape,
            mean=mean,
            std=std,
            classes=classes,
        )
        self._dtype = example.dtype
        self._sizes, self._read_order = found.sizes, found.read_order
        self._limit, self._buffer_size = memory_limit_bytes, buffer_size
        self._classes = on_cpu(self.labels)
        self._held: list[tuple[np.ndarray, tf.Tensor]] = []
        if found.elements is not None:
            self._held.append((np.arange(len(self)), on_cpu(found.elements)))

    def batches(
        self,
        ids: Any,
        batch_size: int,
        *,
        seed: tuple[int, ...] | None = None,
        start_step: int = 0,
        steps: int | None = None,
        shard: BatchShard | None = None,
    ) -> tf.data.Dataset:
        """Reads the samples `ids` in batches; see `Samples.batches`.

        Samples that do not fit the memory limit are read again from the dataset: skipped steps
        are then read but not decoded, and without a seed `ids` must be in the dataset's order.
        """
        ids = check_ids(ids, len(self))
        if self._fits(ids):
            return super().batches(
                ids, batch_size, seed=seed, start_step=start_step, steps=steps, shard=shard
            )
        return self._read_again(ids, batch_size, seed, start_step, steps, shard)

    def _fits(self, ids: np.ndarray) -> bool:
        return bool(self._sizes[ids].sum() <= self._limit)

    def _read(self, order: tf.data.Dataset, ids: np.ndarray) -> tf.data.Dataset:
        held_ids, elements = self._hold(ids)
        places = on_cpu(held_ids)

        def fetch(i: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return self._decoded(i, tf.gather(elements, tf.searchsorted(places, i)))

        return order.map(fetch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)

    def _hold(self, ids: np.ndarray) -> tuple[np.ndarray, tf.Tensor]:
        """Returns sorted ids and encoded elements that include `ids`; the oldest make room."""
        for held in self._held:
            if np.isin(ids, held[0]).all():
                return held
        room = self._limit - self._sizes[ids].sum()
        while self._held and sum(self._sizes[held[0]].sum() for held in self._held) > room:
            self._held.pop(0)
        with naming(self.identity.name):
            parts = list(self._selected(ids).batch(1024).as_numpy_iterator())
        found = np.concatenate([ids[:0], *(part[0] for part in parts)])
        if not np.array_equal(np.sort(found), np.sort(ids)):
            raise DataError(f"{self.identity.name}: the dataset changed since its first pass.")
        elements = np.concatenate([part[1] for part in parts])
        order = np.argsort(found)
        self._held.append((found[order], on_cpu(elements[order])))
        return self._held[-1]

    def _selected(self, ids: np.ndarray) -> tf.data.Dataset:
        """The source's (id, element) of these ids only, in the source's order."""
        keep = np.zeros(len(self), bool)
        keep[ids] = True
        wanted = on_cpu(keep)
        source = self._source.map(lambda i, element, _: (i, element))
        return source.filter(lambda i, _: wanted[i])

    def _decoded(self, i: tf.Tensor, elements: tf.Tensor) -> tuple[tf.Tensor, ...]:
        def decode(element: tf.Tensor) -> tf.Tensor:
            return tf.ensure_shape(self._decode(unpack(element, self._stored)), self.input_shape)

        output = tf.TensorSpec(self.input_shape, self._dtype)
        inputs = tf.map_fn(decode, elements, fn_output_signature=output)
        return inputs, tf.gather(self._classes, i), i

    def _read_again(
        self,
        ids: np.ndarray,
        batch_size: int,
        seed: tuple[int, ...] | None,
        start_step: int,
        steps: int | None,
        shard: BatchShard | None,
    ) -> tf.data.Dataset:
        if not self._replays:
            raise DataError(
                f"{self.identity.name}: the order differs between two passes, and the samples do "
                f"not fit memory_limit_bytes={self._limit}. Raise it or do not shuffle."
            )
        first_epoch, first_step, cardinality = split_steps(
            len(ids), batch_size, seed is not None, start_step, steps
        )
        if seed is None:
            self._check_sequential(ids)
            batches = self._selected(ids).batch(batch_size)
        else:
            key = on_cpu(derive_seed(seed, "order"))
            selected = self._selected(ids)

            def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
                blocks = shuffled_blocks(selected, self._buffer_size, fold_in(key, epoch))
                return blocks.batch(batch_size)

            batches = tf.data.Dataset.range(first_epoch, ENDLESS).flat_map(one_epoch)
        wanted = with_cardinality(batches.skip(first_step), cardinality)
        if shard is not None:
            wanted = wanted.map(shard.take)
        decoded = wanted.map(self._decoded, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return with_cardinality(decoded, cardinality)

    def _check_sequential(self, ids: np.ndarray) -> None:
        expected = self._read_order[np.isin(self._read_order, ids)]
        if not np.array_equal(ids, expected):
            raise ArgumentError(
                "ids",
                "another order",
                "the order of the dataset, as the samples do not fit memory_limit_bytes",
                "Sort the ids or raise the limit.",
            )


def shuffled_blocks(dataset: tf.data.Dataset, size: int, key: tf.Tensor) -> tf.data.Dataset:
    """Shuffles (id, element) within consecutive blocks, as a pure function of `key`.

    The first block is shorter by a random number of samples, so that the borders of the blocks
    move between epochs.

    Args:
        dataset: unbatched, of (int64, string).
        size: samples per block.
        key: int64 [2].
    """
    missing = tf.random.stateless_uniform([], key, 0, size, tf.int64, alg=ALGORITHM)
    nothing = tf.data.Dataset.from_tensors((tf.constant(-1, tf.int64), "")).repeat(missing)

    def shuffle(number: tf.Tensor, block: tuple[tf.Tensor, tf.Tensor]) -> tf.data.Dataset:
        ids, elements = block
        order = shuffled(tf.where(ids >= 0)[:, 0], fold_in(key, number))
        return tf.data.Dataset.from_tensor_slices(
            (tf.gather(ids, order), tf.gather(elements, order))
        )

    return nothing.concatenate(dataset).batch(size).enumerate().flat_map(shuffle)
