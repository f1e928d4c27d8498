"""`Samples`: a data set of which any subset can be read, in a replayable order.

Every sample has an id, its position in the source's own order. Only the requested samples are read,
so that an epoch over half of the data takes half of the time.

Source: "Efficient Lottery Ticket Finding: Less Data is More", Section 3 (training on the PrAC set).
"""

from __future__ import annotations

import abc
import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.data.batch_shard import BatchShard
from tf_prac.data.checks import (
    check_float32,
    check_inputs,
    check_labels,
    check_weights,
    first_length,
)
from tf_prac.data.order import check_ids, id_batches, on_cpu, with_cardinality, without_autotune
from tf_prac.errors import ArgumentError, DataError, FileError


@dataclasses.dataclass(frozen=True)
class DatasetIdentity:
    """Identifies the data, and its order, to which sample ids belong.

    Example:

        >>> ArraySamples(np.zeros((4, 2)), [0, 1, 0, 1], name="zeros").identity.count
        4

    Args:
        name: name of the data set.
        version: its version; "" if it has none.
        split: "train", "test" and so on.
        count: number of samples.
        order_hash: SHA-256, in hexadecimal, over the stored samples in order. The same images
            decoded (`ArraySamples`) and encoded (`StreamSamples`, folders) have different hashes:
            decoders differ, and decoding all images to compare them would cost a pass. To use sets
            of one run in another, load the data in the same way.
    """

    name: str
    version: str
    split: str
    count: int
    order_hash: str

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as a dictionary of strings and one integer."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> DatasetIdentity:
        """Reads what `to_json` returned; raises `FileError` for anything else."""
        fields = {field.name: field.type for field in dataclasses.fields(cls)}
        if not isinstance(content, Mapping) or set(content) != set(fields):
            raise FileError(f"identity of a data set: the fields must be {', '.join(fields)}.")
        for name, kind in fields.items():
            if type(content[name]).__name__ != kind:
                raise FileError(f"identity of a data set: {name} is {content[name]!r}, not {kind}.")
        return cls(**content)


class Samples(abc.ABC):
    """A data set with random access by sample id.

    To add a kind of source, write a subclass with one method, `_read`.

    Example:

        >>> class Squares(Samples):
        ...     def _read(self, order, ids):
        ...         def read(i):
        ...             x = tf.cast(i, tf.float32)[:, None]
        ...             return {"inputs": x**2, "sample_id": i}, i % 2
        ...
        ...         return order.map(read)
        >>> identity = DatasetIdentity("squares", "", "train", 10, order_hash="")
        >>> samples = Squares(
        ...     identity=identity, labels=np.arange(10) % 2, num_classes=2, input_shape=(1,)
        ... )
        >>> samples.inputs([3, 4]).tolist()
        [[9.0], [16.0]]

    Args:
        identity: identifies the data set and its order.
        labels: integer class numbers, [N] or [N, 1]; or other numbers [N, ...], for other tasks;
            or a dictionary of them, for several outputs.
        num_classes: number of classes; None for the largest class number plus one.
        input_shape: shape of the inputs of one sample; nested as the inputs are.
        mean: per-channel mean of the images scaled to [0, 1]; None for no normalization.
        std: per-channel standard deviation of the same images; required with `mean`.
        classes: the name of each class; None if classes have no names.
        rescale: whether uint8 inputs are scaled from [0, 255] to [0, 1] before the model sees them.
            Default False: the model sees them as they are; with `mean`, they are always scaled.
        weights: sample weights, [N], or [N, ...] for several labels of a sample. Default None.

    Attributes:
        identity: `DatasetIdentity`.
        labels: read-only, int64 [N] for class numbers, otherwise as given.
        num_classes: number of classes; None if labels are not class numbers [N].
        weights: sample weights, float32 [N, ...], read-only, or None.
        input_shape: shape of the inputs of one sample, without the batch dimension.
        mean: tuple of floats or None.
        std: tuple of floats or None.
        classes: tuple of names or None.
        rescale: whether uint8 inputs are scaled to [0, 1].
        keeps_dtype: whether inputs reach the model in their own dtype, because they are integers
            that float32 does not represent exactly, such as ids of a lookup layer.

    Raises:
        DataError: If labels are not numbers, or not class numbers below `num_classes`.
        ArgumentError: If `mean` and `std` do not match the channels, or `classes` the number of
            classes.
    """

    keeps_dtype = False

    def __init__(
        self,
        *,
        identity: DatasetIdentity,
        labels: Any,
        num_classes: int | None,
        input_shape: Any,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        classes: Sequence[str] | None = None,
        rescale: bool = False,
        weights: Any = None,
    ):
        self.identity = identity
        self.labels, self.num_classes = check_labels(labels, num_classes)
        self.weights = check_weights(weights, len(self))
        is_single = not isinstance(input_shape, Mapping) and all(
            isinstance(size, (int, np.integer)) for size in input_shape
        )
        self.input_shape = tuple(int(size) for size in input_shape) if is_single else input_shape
        if (mean is None) != (std is None):
            raise ArgumentError("std", std, "None if and only if mean is None")
        self.mean = self._statistics("mean", mean)
        self.std = self._statistics("std", std)
        self.rescale = rescale or mean is not None
        if classes is not None and len(classes) != self.num_classes:
            raise ArgumentError(
                "classes", classes, f"a name for each of {self.num_classes} classes"
            )
        self.classes = None if classes is None else tuple(map(str, classes))

    def __len__(self) -> int:
        return first_length(self.labels)

    def __repr__(self) -> str:
        parts = (self.identity.name, self.identity.version, self.identity.split)
        title = " ".join(part for part in parts if part)
        kind, what = type(self).__name__, f"{self.num_classes} classes"
        if self.num_classes is None:
            shapes = tf.nest.map_structure(lambda each: f"{each.dtype}", self.labels)
            what = f"labels {shapes}"
        return f"{kind}({title}: {len(self)} of {self.input_shape}, {what})"

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
        """Reads the samples `ids`, and no others, in batches.

        Without a seed: one pass in the order of `ids`. With a seed: an endless sequence of epochs;
        epoch e is a permutation of `ids` that depends only on (seed, e). No batch crosses epochs,
        so the last one of an epoch may be partial.

        Example:

            >>> samples = ArraySamples(np.zeros([10, 8, 8, 1], np.uint8), np.arange(10))
            >>> batches = samples.batches([4, 2, 9], batch_size=2)
            >>> [x["sample_id"].numpy().tolist() for x, y in batches]
            [[4, 2], [9]]

        Args:
            ids: sample ids, int [n], each at most once.
            batch_size: samples per batch, >= 1.
            seed: integers >= 0, such as (seed of the run, round); None for one pass.
            start_step: first step; the steps before it are not read.
            steps: number of steps; None for all (endless with a seed).
            shard: the part of each batch to read. Default None: the whole batch.

        Returns:
            Dataset of ({"inputs": [batch, ...] as stored, "sample_id": int64 [batch]}, labels
            [batch, ...]) with known cardinality, and sample weights as a third component if there
            are any.

        Raises:
            ArgumentError: If a size, step or seed is out of range.
            DataError: If `ids` is empty, out of range or has duplicates.
        """
        ids = check_ids(ids, len(self))
        order = id_batches(
            ids, batch_size, seed=seed, start_step=start_step, steps=steps, shard=shard
        )
        dataset = self._read(order, ids)
        if len(dataset.element_spec) == 3:  # (inputs, labels, ids), the earlier form of `_read`
            dataset = dataset.map(lambda x, y, i: ({"inputs": x, "sample_id": i}, y))
        return with_cardinality(self._with_weights(dataset), int(order.cardinality()))

    def _with_weights(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """Adds the sample weights, if there are any."""
        if self.weights is None:
            return batches
        weights = on_cpu(self.weights)
        return batches.map(lambda x, y: (x, y, tf.gather(weights, x["sample_id"])))

    @property
    def arrays(self) -> tuple[tf.Tensor, Any] | None:
        """The stored inputs, [N, ...], and labels of all samples in host memory.

        None if samples are only read on demand.
        """
        return None

    def inputs(self, ids: Any) -> np.ndarray:
        """Returns the stored inputs of the samples `ids`, in their order, [n, ...] or nested.

        Raises:
            DataError: If `ids` is empty, out of range or has duplicates.
        """
        inputs = next(iter(without_autotune(self.batches(ids, len(ids)))))[0]
        return tf.nest.map_structure(lambda part: part.numpy(), inputs["inputs"])

    @property
    def input_dtype(self) -> tf.DType:
        """The dtype of the inputs as they are stored."""
        spec = self.batches([0], 1).element_spec[0]["inputs"]
        return tf.nest.map_structure(lambda part: part.dtype, spec)

    @abc.abstractmethod
    def _read(self, order: tf.data.Dataset, ids: np.ndarray) -> tf.data.Dataset:
        """Reads batches of samples by id.

        Args:
            order: batches of ids, int64 [batch].
            ids: all ids that occur in `order`, int64 [n].

        Returns:
            Dataset of ({"inputs": [batch, ...], "sample_id": int64 [batch]}, labels [batch, ...]).
        """

    def _statistics(self, name: str, values: Sequence[float] | None) -> tuple[float, ...] | None:
        if values is None:
            return None
        channels = self.input_shape[-1]
        array = np.asarray(values, np.float64)
        smallest = 0 if name == "std" else -np.inf
        if array.shape != (channels,) or not np.all(np.isfinite(array) & (array > smallest)):
            kind = "positive number" if name == "std" else "number"
            raise ArgumentError(name, values, f"one finite {kind} per channel ({channels})")
        return tuple(array.tolist())


class ArraySamples(Samples):
    """Samples held in memory in their own dtype, the fastest source.

    Example:

        >>> images = np.zeros([100, 28, 28, 1], np.uint8)
        >>> ArraySamples(images, np.arange(100) % 10, name="zeros")
        ArraySamples(zeros train: 100 of (28, 28, 1), 10 classes)

    Args:
        images: uint8 images or other numeric inputs, [N, ...] of rank >= 2, or strings; or a
            dictionary or tuple of them, for several inputs.
        labels: as for `Samples`.
        name: name for `identity`. Default "arrays".
        version: version for `identity`. Default "".
        split: split for `identity`. Default "train".
        mean: per-channel mean of the images scaled to [0, 1]. Default: no normalization.
        std: per-channel standard deviation of the same images.
        num_classes: number of classes. Default: the largest label plus one.
        classes: the name of each class, for reports. Default: none.
        rescale: whether uint8 images are scaled to [0, 1] for the model. Default False: the model
            sees the same inputs as in `fit`; with `mean`, they are always scaled.
        weights: sample weights, [N], or [N, ...] for several labels of a sample. Default: none.

    Raises:
        ArgumentError: If the inputs are not an array of numbers, or a class has no name.
        DataError: If there are no samples, lengths differ, inputs are NaN or infinite, also as
            float32, or labels are invalid.
    """

    def __init__(
        self,
        images: Any,
        labels: Any,
        *,
        name: str = "arrays",
        version: str = "",
        split: str = "train",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        num_classes: int | None = None,
        classes: Sequence[str] | None = None,
        rescale: bool = False,
        weights: Any = None,
    ):
        images = check_inputs(images)
        checked, _ = check_labels(labels, num_classes)
        count = first_length(images)
        if count != first_length(checked):
            raise DataError(
                f"lengths differ: {count} inputs and {first_length(checked)} labels received."
            )
        super().__init__(
            identity=DatasetIdentity(
                name, version, split, count, _digest(images, checked, check_weights(weights, count))
            ),
            labels=checked,
            num_classes=num_classes,
            input_shape=tf.nest.map_structure(lambda each: each.shape[1:], images),
            mean=mean,
            std=std,
            classes=classes,
            rescale=rescale,
            weights=weights,
        )
        if isinstance(images, np.ndarray):
            self.keeps_dtype = check_float32(images) and mean is None
        self._images = tf.nest.map_structure(on_cpu, images)
        self._all_labels = tf.nest.map_structure(on_cpu, self.labels)

    @property
    def input_dtype(self) -> tf.DType:
        """The dtype of the array, nested as the inputs are."""
        return tf.nest.map_structure(lambda part: part.dtype, self._images)

    @property
    def arrays(self) -> tuple[tf.Tensor, Any] | None:
        """The stored inputs and labels; None in a subclass that reads them in its own way."""
        has_own_read = type(self)._read is not ArraySamples._read
        return None if has_own_read else (self._images, self._all_labels)

    def _read(self, order: tf.data.Dataset, ids: np.ndarray) -> tf.data.Dataset:
        def fetch(i: tf.Tensor) -> Any:
            images, labels = tf.nest.map_structure(
                lambda part: tf.gather(part, i), (self._images, self._all_labels)
            )
            return {"inputs": images, "sample_id": i}, labels

        return order.map(fetch)


def _digest(images: Any, labels: Any, weights: np.ndarray | None) -> str:
    """Returns the SHA-256 over all samples, in hexadecimal.

    That of one array of numbers with class numbers is the same as in version 0.1.
    """
    parts = tf.nest.flatten(images)
    digest = hashlib.sha256(json.dumps(_layout(parts[0])).encode())
    if tf.nest.is_nested(images) or not _are_classes(labels):
        others = tf.nest.map_structure(_layout, (images, labels))
        digest.update(json.dumps(str(others)).encode())
    for label in tf.nest.flatten(labels):
        digest.update(np.ascontiguousarray(label).tobytes())
    for part in parts:
        if part.dtype == object:
            for text in part.flat:
                digest.update(text.encode() if isinstance(text, str) else text)
                digest.update(b"\0")
        else:
            digest.update(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
    if weights is not None:
        digest.update(b"weights" + weights.tobytes())
    return digest.hexdigest()


def _layout(array: np.ndarray) -> list[Any]:
    return [array.dtype.str, array.shape]


def _are_classes(labels: Any) -> bool:
    return isinstance(labels, np.ndarray) and labels.dtype == np.int64 and labels.ndim == 1
