"""Checks of sample ids, labels and inputs. NumPy only."""

from __future__ import annotations

from typing import Any

import numpy as np

from tf_prac.checks import check_int
from tf_prac.errors import ArgumentError, DataError

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


def check_labels(labels: Any, num_classes: int | None) -> tuple[np.ndarray, int]:
    """Returns class numbers as read-only int64 [N], and the number of classes.

    One-hot labels are refused.

    Raises:
        DataError: If labels are empty, not integers, negative, not below `num_classes`, or of
            another shape.
    """
    array = np.asarray(labels)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise DataError(
            f"labels: shape {array.shape} received; allowed: integer class numbers [N]. "
            "Turn one-hot labels into class numbers with np.argmax(labels, axis=-1)."
        )
    if not array.size:
        raise DataError("labels: no samples received; allowed: at least one.")
    if array.dtype.kind not in "iu":
        raise DataError(
            f"labels: dtype {array.dtype} received; allowed: integer class numbers. "
            "Convert them with labels.astype(np.int64)."
        )
    if num_classes is None:
        num_classes = int(array.max()) + 1
    else:
        check_int("num_classes", num_classes, 1)
    if array.min() < 0 or array.max() >= num_classes:
        raise DataError(
            f"labels: from {array.min()} to {array.max()} received; "
            f"allowed: 0 to {num_classes - 1}."
        )
    array = array.astype(np.int64)
    array.flags.writeable = False
    return array, num_classes


def check_inputs(inputs: Any) -> np.ndarray:
    """Returns inputs as an array of finite numbers [N, ...].

    Raises:
        ArgumentError: If inputs are not numbers, or have rank 0 or 1.
        DataError: If there are none, or one is NaN or infinite.
    """
    array = np.asarray(inputs)
    if array.ndim < 2 or array.dtype.kind not in "biuf":
        raise ArgumentError(
            "images", f"{array.dtype} of shape {array.shape}", "numbers [N, ...] of rank >= 2"
        )
    if not array.size:
        raise DataError(f"images: shape {array.shape} received; allowed: at least one sample.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        index = np.argmin(np.isfinite(array.reshape(len(array), -1)).all(axis=1))
        raise DataError(f"images: sample {index} has NaN or infinity; allowed: finite numbers.")
    return array.astype(array.dtype.newbyteorder("="), copy=False)
