"""Checks of sample ids, labels and inputs. NumPy only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_prac.checks import check_int
from tf_prac.errors import ArgumentError, DataError

NAMED_LABELS = (
    "Number the classes: names, labels = np.unique(labels, return_inverse=True); or pass "
    "pandas.Categorical(labels), which keeps the names. Use the same numbers for all splits."
)
FLOAT32_INTEGERS = 2**24  # up to here, float32 represents every integer
MEMORY_LIMIT_BYTES = 4 * 2**30  # default limit of decoded data in memory


def check_id_vector(argument: str, ids: Any) -> np.ndarray:
    """Returns sample ids as int64 [n], in the same order.

    Args:
        argument: name of the argument, for errors.
        ids: sample ids, int [n]; may be empty.

    Raises:
        ArgumentError: If the ids are not a vector of integers.
    """
    array = np.asarray(ids)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ArgumentError(argument, ids, "a vector of integer sample ids")
    return array.astype(np.int64)


def check_labels(labels: Any, num_classes: int | None) -> tuple[Any, int | None]:
    """Returns labels as read-only arrays, and the number of classes if they are class numbers.

    Integers [N] or [N, 1] become class numbers, int64 [N]. Other labels keep their dtype and
    shape; whether they are those of the task is checked where the task is known.

    Args:
        labels: numbers [N, ...], or a dictionary of them, for several outputs.
        num_classes: number of classes; None for the largest label plus one.

    Raises:
        DataError: If labels are empty, not numbers, NaN or infinite, not below `num_classes`, or
            of different lengths.
    """
    if isinstance(labels, Mapping):
        arrays = {str(name): check_labels(each, None)[0] for name, each in labels.items()}
        if len({len(array) for array in arrays.values()}) != 1:
            sizes = {name: len(array) for name, array in arrays.items()}
            raise DataError(f"labels: {sizes} samples received; allowed: as many for each output.")
        return arrays, None
    if isinstance(labels, tuple) and all(np.ndim(each) for each in labels):
        raise DataError(
            f"labels: a tuple of {len(labels)} received; allowed: numbers, or a dictionary of them "
            "by the name of the output, such as {'digit': y1, 'even': y2}."
        )
    array = np.asarray(labels)
    if array.ndim == 2 and array.shape[1] == 1 and array.dtype.kind in "iub":
        array = array[:, 0]
    if array.ndim == 0 or not array.size:
        raise DataError(f"labels: shape {array.shape} received; allowed: at least one sample, [N].")
    if array.dtype.kind not in "biuf":
        remedy = NAMED_LABELS
        if not all(isinstance(label, (str, bytes)) for label in array.flat):
            remedy = "Convert them to the dtype of numbers, without missing values."
        raise DataError(f"labels: dtype {array.dtype} received; allowed: numbers. {remedy}")
    _check_finite("labels", array)
    is_class = array.ndim == 1 and array.dtype.kind in "iub"
    if num_classes is not None:
        _check_class_numbers(array, num_classes, is_class)
    if is_class:
        array = array.astype(np.int64)
        num_classes = int(num_classes or max(1, int(array.max()) + 1))
    else:
        array = np.array(array)
    array.flags.writeable = False
    return array, num_classes


def _check_class_numbers(labels: np.ndarray, num_classes: int, is_class: bool) -> None:
    """Raises `DataError` unless labels are class numbers below `num_classes`."""
    check_int("num_classes", num_classes, 1)
    if is_class and labels.min() >= 0 and labels.max() < num_classes:
        return
    received = f"from {labels.min()} to {labels.max()}"
    received += "" if is_class else f", {labels.dtype} of shape {labels.shape},"
    remedy = ""
    if is_class and labels.min() > 0:
        remedy = f" Class numbers start at 0, these at {labels.min()}."
    allowed = f"0 to {num_classes - 1}, integers [N]"
    raise DataError(f"labels: {received} received; allowed: {allowed}.{remedy}")


def _check_finite(argument: str, array: np.ndarray, of_dtype: str = "") -> None:
    """Raises `DataError` for the first sample that has NaN or infinity."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        index = np.argmin(np.isfinite(array.reshape(len(array), -1)).all(axis=1))
        found = f"sample {index} has NaN or infinity{of_dtype}"
        raise DataError(f"{argument}: {found}; allowed: finite numbers.")


def are_class_numbers(labels: Any) -> bool:
    """Whether labels are integers [N] or [N, 1]."""
    if isinstance(labels, Mapping):
        return False
    array = np.asarray(labels)
    return array.dtype.kind in "iub" and array.shape[1:] in ((), (1,))


def check_inputs(inputs: Any, min_rank: int = 2) -> Any:
    """Returns inputs as an array of finite numbers or strings [N, ...], or a nest of them.

    Args:
        inputs: of all samples; several inputs may be [N], one number for each sample.
        min_rank: the lowest rank of numbers that are not nested. Default 2.

    Raises:
        ArgumentError: If inputs are neither numbers of at least this rank nor strings.
        DataError: If there are none, one is NaN or infinite, or lengths differ.
    """
    if isinstance(inputs, Mapping):
        return _same_length({name: check_inputs(each, 1) for name, each in inputs.items()})
    if isinstance(inputs, tuple):
        return _same_length(dict(enumerate(check_inputs(each, 1) for each in inputs)), tuple)
    try:
        array = np.asarray(inputs)
    except ValueError:  # NumPy's message is about its own arrays
        shapes = ", ".join(str(np.shape(each)) for each in inputs[:3])
        raise DataError(
            f"inputs: a list of arrays of shapes {shapes} received; allowed: samples of one shape. "
            "Pass several inputs as a dictionary by name, or as a tuple."
        ) from None
    is_text = array.dtype.kind in "US" or (
        array.dtype.kind == "O" and all(isinstance(each, (str, bytes)) for each in array.flat)
    )
    if is_text and array.ndim:
        array = array.astype(object)
    elif array.ndim < min_rank or array.dtype.kind not in "biuf":
        is_vector = array.ndim == 1 and array.dtype.kind in "biuf"
        remedy = "For one number for each sample, pass x[:, None]." if is_vector else ""
        raise ArgumentError(
            "inputs",
            f"{array.dtype} of shape {array.shape}",
            f"numbers [N, ...] of rank >= {min_rank}, or strings",
            remedy,
        )
    if not array.size:
        raise DataError(f"inputs: shape {array.shape} received; allowed: at least one sample.")
    _check_finite("inputs", array)
    return array if is_text else array.astype(array.dtype.newbyteorder("="), copy=False)


def check_float32(inputs: np.ndarray) -> bool:
    """Returns whether inputs are integers that float32 does not represent exactly, such as ids.

    Raises:
        DataError: If inputs are numbers that are infinite as float32.
    """
    kind, size = inputs.dtype.kind, inputs.dtype.itemsize
    if kind not in "iuf" or size < 4 or inputs.dtype == np.float32:
        return False
    with np.errstate(over="ignore", invalid="ignore"):
        if kind == "f":
            _check_finite("inputs", inputs.astype(np.float32), " as float32")
            return False
        is_large = inputs.max() > FLOAT32_INTEGERS or inputs.min() < -FLOAT32_INTEGERS
        return bool(is_large and np.any(inputs.astype(np.float32).astype(inputs.dtype) != inputs))


def check_weights(weights: Any, count: int) -> np.ndarray | None:
    """Returns sample weights as read-only float32 [N, ...], or None if none are given.

    Raises:
        DataError: If they are not finite numbers from 0 for each of the `count` samples.
    """
    if weights is None:
        return None
    array = np.asarray(weights)
    if array.ndim == 0 or len(array) != count or array.dtype.kind not in "biuf":
        raise DataError(
            f"sample weights: {array.dtype} of shape {array.shape} received; "
            f"allowed: a number for each of the {count} samples."
        )
    array = array.astype(np.float32)
    if not np.isfinite(array).all() or array.min() < 0:
        raise DataError("sample weights: negative, NaN or infinite; allowed: numbers from 0.")
    array.flags.writeable = False
    return array


def _same_length(parts: Mapping[Any, Any], kind: type = dict) -> Any:
    sizes = {name: first_length(part) for name, part in parts.items()}
    if len(set(sizes.values())) != 1:
        raise DataError(f"inputs: {sizes} samples received; allowed: as many of each.")
    return dict(parts) if kind is dict else kind(parts.values())


def first_length(values: Any) -> int:
    """Returns the number of samples of an array, or of the arrays of a nest."""
    while isinstance(values, (Mapping, tuple)):
        values = next(iter(values.values() if isinstance(values, Mapping) else values))
    return len(values)
