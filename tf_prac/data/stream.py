"""`StreamSamples`: samples of a dataset that is too large to hold in memory decoded.

The first pass reads labels, count and hash. After it only the requested samples are decoded: their
encoded inputs are held in memory if they fit; otherwise the dataset is read again and filtered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.checks import check_int
from tf_prac.data.batch_shard import BatchShard
from tf_prac.data.checks import MEMORY_LIMIT_BYTES
from tf_prac.data.order import (
    ALGORITHM,
    ENDLESS,
    check_ids,
    derive_seed,
    fold_in,
    locate_steps,
    on_cpu,
    shuffled,
    with_cardinality,
)
from tf_prac.data.reading import read_errors
from tf_prac.data.scan import (
    checked_elements,
    deserialize,
    first_inputs,
    same_order,
    scan,
    serialize,
)
from tf_prac.data.source import DatasetIdentity, Samples
from tf_prac.errors import ArgumentError, DataError


class StreamSamples(Samples):
    """Samples of a finite `tf.data.Dataset`, batched or not.

    Requested samples whose encoded inputs fit `memory_limit_bytes` are read once, and shuffled
    uniformly. Otherwise every epoch reads the dataset and drops other samples before `decode`; its
    order is that of the dataset, shuffled within consecutive blocks of `buffer_size` samples, whose
    boundaries move from epoch to epoch. Both orders depend only on (seed, epoch).

    Example:

        >>> files = tf.data.Dataset.from_tensor_slices((jpeg_strings, labels))
        >>> samples = StreamSamples(files, decode=lambda jpeg: tf.io.decode_jpeg(jpeg, 3))

    Args:
        dataset: elements (x, y), or ({"inputs": x, "sample_id": id}, y) with ids 0 to N - 1. If the
            order differs between passes, requested samples must fit `memory_limit_bytes`.
        decode: function from x to the inputs of the model, of the same shape for every sample;
            called only for requested samples. Default: the identity.
        name: name for `identity`. Default "stream".
        version: version for `identity`. Default "".
        split: split for `identity`. Default "train".
        mean: per-channel mean of the decoded images scaled to [0, 1]. Default: no normalization.
        std: per-channel standard deviation of the same images.
        num_classes: number of classes. Default: the largest label plus one.
        classes: the name of each class, for reports. Default: none.
        rescale: whether decoded uint8 images are scaled to [0, 1] for the model. Default False;
            with `mean`, they are always scaled.
        memory_limit_bytes: maximum bytes of encoded inputs held in memory. Default 4 GiB.
        buffer_size: samples per shuffled block when the dataset is read again; one block is held in
            memory in addition. Default 10,000.
        check_order: whether two passes are compared first; False for a dataset with a known fixed
            order. Default True.

    Raises:
        ArgumentError: If the dataset has other elements, or is infinite.
        DataError: If labels, inputs or ids are invalid, or two passes have different samples.
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
        rescale: bool = False,
        memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
        buffer_size: int = 10_000,
        check_order: bool = True,
    ):
        check_int("memory_limit_bytes", memory_limit_bytes, 0)
        check_int("buffer_size", buffer_size, 1)
        elements = checked_elements(dataset, name, check_order=check_order)
        self._stored = elements.element_spec[0]["inputs"]
        self._source = serialize(elements)
        first = scan(self._source, name, memory_limit_bytes)
        self._fixed_order = not check_order or same_order(self._source, name, first)
        self._decode = decode or tf.identity
        with read_errors(name):
            example = self._decode(deserialize(first_inputs(self._source, name), self._stored))
        if example.dtype == tf.string:
            raise ArgumentError("decode", decode, f"a function to numbers, as {name} holds strings")
        super().__init__(
            identity=DatasetIdentity(name, version, split, len(first.labels), first.order_hash()),
            labels=first.labels,
            num_classes=num_classes,
            input_shape=example.shape,
            mean=mean,
            std=std,
            classes=classes,
            rescale=rescale,
        )
        self._dtype = example.dtype
        self._sizes, self._read_order = first.sizes, first.read_order
        self._limit, self._buffer_size = memory_limit_bytes, buffer_size
        self._all_labels = on_cpu(self.labels)
        self._cache: list[tuple[np.ndarray, tf.Tensor]] = []
        if first.inputs is not None:
            self._cache.append((np.arange(len(self)), on_cpu(first.inputs)))

    @property
    def input_dtype(self) -> tf.DType:
        """The dtype of decoded inputs."""
        return self._dtype

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

        Samples that do not fit the memory limit are read again from the dataset. Skipped steps
        are then read but not decoded, and without a seed `ids` must be in the dataset's order.
        """
        ids = check_ids(ids, len(self))
        if self._fits(ids):
            return super().batches(
                ids, batch_size, seed=seed, start_step=start_step, steps=steps, shard=shard
            )
        batches = self._read_again(ids, batch_size, seed, start_step, steps, shard)
        return with_cardinality(self._with_weights(batches), int(batches.cardinality()))

    def _fits(self, ids: np.ndarray) -> bool:
        return bool(self._sizes[ids].sum() <= self._limit)

    def _read(self, order: tf.data.Dataset, ids: np.ndarray) -> tf.data.Dataset:
        cached_ids, encoded = self._cached(ids)
        known = on_cpu(cached_ids)

        def fetch(i: tf.Tensor) -> Any:
            inputs = tf.gather(encoded, tf.searchsorted(known, i))
            return self._decoded({"inputs": inputs, "sample_id": i}, tf.gather(self._all_labels, i))

        return order.map(fetch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)

    def _cached(self, ids: np.ndarray) -> tuple[np.ndarray, tf.Tensor]:
        """Returns sorted ids that include `ids`, and their encoded inputs; evicts the oldest."""
        for cached in self._cache:
            if np.isin(ids, cached[0]).all():
                return cached
        room = self._limit - self._sizes[ids].sum()
        while self._cache and sum(self._sizes[cached[0]].sum() for cached in self._cache) > room:
            self._cache.pop(0)
        with read_errors(self.identity.name):
            parts = [x for x, _ in self._selected(ids).batch(1024).as_numpy_iterator()]
        read_ids = np.concatenate([ids[:0], *(part["sample_id"] for part in parts)])
        if not np.array_equal(np.sort(read_ids), np.sort(ids)):
            raise DataError(f"{self.identity.name}: the dataset changed since its first pass.")
        encoded = np.concatenate([part["inputs"] for part in parts])
        order = np.argsort(read_ids)
        self._cache.append((read_ids[order], on_cpu(encoded[order])))
        return self._cache[-1]

    def _selected(self, ids: np.ndarray) -> tf.data.Dataset:
        """Returns the encoded elements with these ids, in the order of the dataset."""
        selected = np.zeros(len(self), bool)
        selected[ids] = True
        is_selected = on_cpu(selected)
        return self._source.filter(lambda x, _: is_selected[x["sample_id"]])

    def _decoded(self, inputs: dict[str, tf.Tensor], labels: tf.Tensor) -> Any:
        """Returns a batch with decoded inputs."""

        def decode(string: tf.Tensor) -> tf.Tensor:
            x = self._decode(deserialize(string, self._stored))
            return tf.ensure_shape(x, self.input_shape)

        output = tf.TensorSpec(self.input_shape, self._dtype)
        decoded = tf.map_fn(decode, inputs["inputs"], fn_output_signature=output)
        return {**inputs, "inputs": decoded}, labels

    def _read_again(
        self,
        ids: np.ndarray,
        batch_size: int,
        seed: tuple[int, ...] | None,
        start_step: int,
        steps: int | None,
        shard: BatchShard | None,
    ) -> tf.data.Dataset:
        if not self._fixed_order:
            raise DataError(
                f"{self.identity.name}: {int(self._sizes[ids].sum()):,} bytes in another order in "
                f"each pass received; allowed: up to {self._limit:,} bytes, memory_limit_bytes, of "
                "shuffled data. Do not shuffle, such as with "
                "image_dataset_from_directory(..., shuffle=False), or raise the limit with "
                "tf_prac.data.as_samples(data, memory_limit_bytes=...)."
            )
        first_epoch, first_step, cardinality = locate_steps(
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
        batches = with_cardinality(batches.skip(first_step), cardinality)
        if shard is not None:
            batches = batches.map(lambda *batch: shard.take(batch))
        batches = batches.map(
            self._decoded, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )
        return with_cardinality(batches, cardinality)

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
    """Shuffles elements within consecutive blocks, as a pure function of `key`.

    The first block is shorter by a random number of samples, so that the boundaries of the blocks
    move between epochs.

    Args:
        dataset: unbatched elements ({"inputs": string, "sample_id": int64}, y int64).
        size: samples per block.
        key: int64 [2].
    """
    missing = tf.random.stateless_uniform([], key, 0, size, tf.int64, alg=ALGORITHM)
    number = tf.constant(-1, tf.int64)
    padding = tf.data.Dataset.from_tensors(({"inputs": "", "sample_id": number}, number))

    def shuffle(index: tf.Tensor, block: Any) -> tf.data.Dataset:
        present = tf.where(block[0]["sample_id"] >= 0)[:, 0]
        order = shuffled(present, fold_in(key, index))
        return tf.data.Dataset.from_tensor_slices(
            tf.nest.map_structure(lambda part: tf.gather(part, order), block)
        )

    blocks = padding.repeat(missing).concatenate(dataset).batch(size)
    return blocks.enumerate().flat_map(shuffle)
