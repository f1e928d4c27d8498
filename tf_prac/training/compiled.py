"""`compiled`: a `tf.function` for one object, such as a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def compiled(function: Callable[..., Any], **options: Any) -> Any:
    """Returns a `tf.function` without the warning about frequent retracing.

    TensorFlow counts the traces of all functions from one line of code together, so that a process
    with many networks, each traced once, would be warned.

    Args:
        function: the function to compile.
        **options: of `tf.function`.
    """
    result = tf.function(function, **options)
    result._omit_frequent_tracing_warning = True
    return result
