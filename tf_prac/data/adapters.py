"""`adapt`: data as users have it, as arrays or a `tf.data.Dataset`.

| data | becomes |
|---|---|
| arrays, pandas, tensors | arrays |
| `tf.data.Dataset` | itself |
| `PyDataset`, `Sequence` | a dataset that reads batches in the order of the index |
| generators, functions that return one, other iterables | arrays |
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.data.numbering import content_hashes, is_shuffled
from tf_prac.errors import ArgumentError, DataError

ALLOWED = (
    "arrays (x, y) or (x, y, sample_weight), a finite tf.data.Dataset of them, a Keras PyDataset "
    "or Sequence, a generator or a function that returns one, or Samples"
)


@dataclasses.dataclass(frozen=True)
class Adapted:
    """Data of a kind that the rest of the package reads.

    Attributes:
        data: a tuple of arrays (x, y) or (x, y, sample_weight), or a `tf.data.Dataset`.
        classes: the names of the classes, if the data has them.
        shuffled: whether the order of a dataset differs between passes; None if not known.
    """

    data: Any
    classes: tuple[str, ...] | None = None
    shuffled: bool | None = None

    def dataset(self) -> tf.data.Dataset:
        """Returns the data as a dataset; arrays are sliced into samples."""
        if isinstance(self.data, tf.data.Dataset):
            return self.data
        return tf.data.Dataset.from_tensor_slices(self.data)


def adapt(data: Any, name: str, limit: int) -> Adapted:
    """Returns data as arrays or as a `tf.data.Dataset`.

    Args:
        data: of a kind in the table above.
        name: name of the data, for errors.
        limit: maximum bytes of arrays that are read from an iterable.

    Raises:
        ArgumentError: If the data is of another kind.
        DataError: If it is empty or larger than `limit`, or two passes have different samples.
    """
    if isinstance(data, tf.data.Dataset):
        names = getattr(data, "class_names", None)  # of image_dataset_from_directory
        return Adapted(data, None if names is None else tuple(map(str, names)))
    data = _without_none(data)
    if _is_arrays(data):
        inputs, labels, *weights = data
        values, classes = _labels(labels)
        inputs = _several_inputs(inputs, values)
        weights = [np.asarray(each) if _is_frame(each) else each for each in weights]
        return Adapted((_columns(inputs), values, *weights), classes)
    if all(hasattr(data, method) for method in ("__getitem__", "on_epoch_end")):
        return _from_batches_by_index(data, name)
    is_iterable = isinstance(data, Iterable) and not isinstance(data, (str, bytes, Mapping))
    if is_iterable and not hasattr(data, "shape") and not _is_frame(data):
        if isinstance(data, (list, tuple)) and not all(isinstance(e, tuple) for e in data):
            raise _kind_error(data)
        return _from_iterable(data, name, limit)
    if callable(data) and not isinstance(data, type):
        return _from_function(data, name, limit)
    raise _kind_error(data)


def _kind_error(data: Any) -> ArgumentError:
    received, remedy = type(data).__name__, ""
    if isinstance(data, (tuple, list)):
        received += f" of {len(data)}"
    elif isinstance(data, Mapping) or hasattr(data, "shape"):
        remedy = "Pass inputs and labels together: (x, y)."
    return ArgumentError("data", received, ALLOWED, remedy)


def _without_none(data: Any) -> Any:
    """Returns arrays (x, y, None) as (x, y), and other data unchanged."""
    has_none = isinstance(data, (tuple, list)) and len(data) == 3 and data[2] is None
    return data[:2] if has_none and _is_arrays(data[:2]) else data


def _is_arrays(data: Any) -> bool:
    """Whether data are (x, y) or (x, y, sample_weight) of all samples."""
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
        return False
    if isinstance(data, list):  # may be a list of batches
        return all(hasattr(each, "shape") or isinstance(each, Mapping) for each in data)
    return len(data) == 2 or np.ndim(data[2]) > 0


def _several_inputs(inputs: Any, labels: Any) -> Any:
    """Returns a list of the inputs of a model as a tuple, and one of samples unchanged."""
    if not isinstance(inputs, list) or not all(np.ndim(each) for each in inputs):
        return inputs
    count = len(tf.nest.flatten(labels)[0])
    is_several = len(inputs) != count and all(len(each) == count for each in inputs)
    return tuple(inputs) if is_several else inputs


# pandas


def _is_frame(values: Any) -> bool:
    """Whether values are of pandas, which is not imported for this."""
    return type(values).__module__.partition(".")[0] == "pandas"


def _columns(values: Any) -> Any:
    """Returns inputs with pandas' objects as arrays of numbers, [N, columns], or strings, [N, 1].

    Raises:
        ArgumentError: If a column has neither numbers nor strings, or strings next to numbers.
    """
    if isinstance(values, Mapping):
        return {name: _columns(each) for name, each in values.items()}
    if isinstance(values, tuple):
        return tuple(map(_columns, values))
    if not _is_frame(values):
        return values
    frame = values.to_frame() if hasattr(values, "to_frame") else values
    if not hasattr(frame, "dtypes"):  # an array of pandas
        return np.asarray(frame)
    api = sys.modules["pandas"].api.types
    other = [
        f"{name} ({dtype})"
        for name, dtype in frame.dtypes.items()
        if not (api.is_numeric_dtype(dtype) or api.is_bool_dtype(dtype))
    ]
    if not other:
        array = frame.to_numpy()
        mixed = array.dtype.kind not in "biuf"  # booleans among numbers, or missing values
        return frame.to_numpy(np.float64, na_value=np.nan) if mixed else array
    if len(frame.columns) == 1 and api.is_string_dtype(frame.iloc[:, 0]):
        return frame.to_numpy(object)
    raise ArgumentError(
        "x",
        f"columns {', '.join(other)}",
        "columns of numbers, or one column of strings",
        "Encode the columns, such as with pandas.get_dummies(x), or pass a dictionary with an "
        "array for each input of the model.",
    )


def _labels(labels: Any) -> tuple[Any, tuple[str, ...] | None]:
    """Returns labels with pandas' objects as arrays, and the names of the classes.

    Categories become class numbers: their positions among all categories.
    """
    if isinstance(labels, Mapping):
        return {name: _labels(each)[0] for name, each in labels.items()}, None
    if not _is_frame(labels):
        return labels, None
    if hasattr(labels, "columns") and len(labels.columns) == 1:
        labels = labels.iloc[:, 0]
    categorical = getattr(labels, "cat", labels)  # a Series or a Categorical
    if hasattr(categorical, "categories"):
        codes = np.asarray(categorical.codes, np.int64)
        if codes.min(initial=0) < 0:
            received = f"no category for sample {np.argmin(codes)}"
            raise DataError(f"labels: {received}; allowed: a category for each sample.")
        return codes, tuple(map(str, categorical.categories))
    if hasattr(labels, "columns"):
        return _columns(labels), None
    pandas = sys.modules["pandas"]
    api = pandas.api.types
    if isinstance(labels.dtype, np.dtype) or not api.is_numeric_dtype(labels.dtype):
        return np.asarray(labels), None
    if not pandas.isna(labels).any():
        for is_dtype, dtype in ((api.is_bool_dtype, bool), (api.is_integer_dtype, np.int64)):
            if is_dtype(labels.dtype):
                return labels.to_numpy(dtype), None
    return labels.to_numpy(np.float64, na_value=np.nan), None


# Batches by index: keras.utils.PyDataset, tf_keras.utils.Sequence


def _from_batches_by_index(data: Any, name: str) -> Adapted:
    """Returns batches by index as a dataset, which reads them in the order of the index."""
    count = getattr(data, "num_batches", None)
    count = len(data) if count is None and hasattr(data, "__len__") else count
    if count is None:
        raise ArgumentError("data", f"an infinite {type(data).__name__}", ALLOWED)
    if not count:
        raise DataError(f"{name}: no samples received; allowed: at least one.")

    def batches() -> Iterator[Any]:
        return (_batch(data[index], name) for index in range(count))

    signature = _signature(_batch(data[0], name))
    dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(count))

    def read() -> np.ndarray:
        hashes = content_hashes(dataset.unbatch(), name)
        data.on_epoch_end()
        return hashes

    shuffled = _has_own(data, "on_epoch_end") and is_shuffled(read(), read, count, name)
    return Adapted(dataset, shuffled=shuffled)


def _has_own(data: Any, method: str) -> bool:
    """Whether a method is not the one of Keras, which does nothing."""
    module = getattr(getattr(type(data), method, None), "__module__", "")
    return not module.endswith(("py_dataset_adapter", "data_utils"))


def _signature(batch: Any) -> Any:
    return tf.nest.map_structure(
        lambda part: tf.TensorSpec([None, *part.shape[1:]], part.dtype), batch
    )


def _batch(element: Any, name: str) -> Any:
    """Returns a batch of arrays."""
    batch = _element(element, name)
    _check_batch(batch, name)
    return batch


def _check_batch(batch: Any, name: str) -> None:
    """Raises `DataError` unless all arrays of a batch have the same first dimension."""
    if len({part.shape[:1] or None for part in tf.nest.flatten(batch)}) == 1:
        return
    shapes = tf.nest.map_structure(lambda part: f"{part.dtype.name}{list(part.shape)}", batch)
    raise DataError(
        f"{name}: elements {shapes} received; allowed: batches (x, y) or (x, y, sample_weight) "
        "with as many labels as inputs, as fit takes them."
    )


def _element(element: Any, name: str) -> Any:
    """Returns an element (x, y) or (x, y, sample_weight) with arrays; None is left out."""
    if isinstance(element, (tuple, list)):
        parts = [part for part in element if part is not None]
        if len(parts) in (2, 3):
            return tuple(map(_arrays, parts))
    raise DataError(
        f"{name}: elements of type {type(element).__name__} received; allowed: (x, y) or (x, y, "
        "sample_weight)."
    )


def _arrays(part: Any) -> Any:
    if isinstance(part, Mapping):
        return {str(name): _arrays(each) for name, each in part.items()}
    if isinstance(part, (tuple, list)) and part and all(hasattr(each, "shape") for each in part):
        return tuple(map(_arrays, part)) if np.ndim(part[0]) else np.asarray(part)
    array = np.asarray(_columns(part))
    return array.astype(object) if array.dtype.kind == "U" else array


# Generators, functions that return one, other iterables


def _from_function(function: Callable[[], Any], name: str, limit: int) -> Adapted:
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        received = f"a function that needs arguments ({error})"
        raise ArgumentError("data", received, "a function without arguments") from error
    first = function()
    if not isinstance(first, Iterator):
        return adapt(first, name, limit)
    return _from_passes(function, name, limit)


def _from_iterable(data: Iterable[Any], name: str, limit: int) -> Adapted:
    if iter(data) is data:  # a generator, which can be read once: positions are the only ids
        return Adapted(_stacked(data, name, limit)[0])
    return _from_passes(lambda: iter(data), name, limit)


def _from_passes(start: Callable[[], Iterable[Any]], name: str, limit: int) -> Adapted:
    """Returns the arrays of all passes; shuffled samples are sorted by their content."""
    arrays, elements = _stacked(start(), name, limit)

    def hashes(values: Any) -> np.ndarray:
        return content_hashes(tf.data.Dataset.from_tensor_slices(values), name)

    first = hashes(arrays)
    if not is_shuffled(first, lambda: hashes(_stacked(start(), name, limit)[0]), elements, name):
        return Adapted(arrays)
    order = np.argsort(first, kind="stable")
    return Adapted(tf.nest.map_structure(lambda part: part[order], arrays))


def _stacked(elements: Iterable[Any], name: str, limit: int) -> tuple[Any, int]:
    """Returns all samples of one pass as arrays, and the number of elements."""
    parts, total = [], 0
    for element in elements:
        parts.append(_element(element, name))
        total += sum(part.nbytes for part in tf.nest.flatten(parts[-1]))
        if total > limit:
            raise DataError(
                f"{name}: {total:,} bytes in the first {len(parts)} elements of a generator or "
                f"iterable received; allowed: {limit:,} bytes, memory_limit_bytes. If it ends, "
                "raise the limit with tf_prac.data.as_samples(data, memory_limit_bytes=...), or "
                "stream it with tf.data.Dataset.from_generator(function, output_signature=...)."
            )
    if not parts:
        raise DataError(
            f"{name}: no samples received; allowed: at least one. A generator is empty after its "
            "first use: pass the function that returns it."
        )
    if tf.nest.flatten(parts[0][1])[0].ndim == 0:  # samples, of which batches of one are made
        parts = [tf.nest.map_structure(lambda each: each[None], part) for part in parts]
    for part in parts:
        _check_batch(part, name)
    try:
        arrays = tf.nest.map_structure(lambda *each: np.concatenate(each), *parts)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}: elements of different shapes or structures received.") from error
    return arrays, len(parts)
