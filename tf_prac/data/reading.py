"""`read_errors`: errors while a `tf.data.Dataset` is read, in one line."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import tensorflow as tf

from tf_prac.checks import first_line
from tf_prac.errors import DataError

_NOISE = re.compile(r"\{\{.*?\}\}\s*|\s*\[Op:.*")  # node names in TensorFlow's messages


@contextlib.contextmanager
def read_errors(name: str) -> Iterator[None]:
    """Turns a TensorFlow error during reading into a `DataError` of one line."""
    try:
        yield
    except tf.errors.OpError as error:
        reason = _NOISE.sub("", first_line(error))
        if "shape" in reason.lower():
            reason += " All samples need the same shape: resize images, pad sequences."
        raise DataError(f"{name}: cannot be read: {reason}") from error
