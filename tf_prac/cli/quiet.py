"""Imports TensorFlow without the start-up messages of its C++ runtime."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def quiet_start() -> Iterator[None]:
    """Holds back what is written to standard error in the block, unless the block fails."""
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(saved, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)


def load_tensorflow(keras: str, strategy: str = "one", devices: int | None = None) -> Any:
    """Imports TensorFlow and one Keras, quietly; returns the `Distribution` of a strategy.

    Raises:
        ArgumentError: the strategy cannot be had; see `make_distribution`.
    """
    with quiet_start():
        import tensorflow as tf

        from tf_prac.keras_api import Flavour

        assert Flavour(keras).module is not None
        tf.get_logger().setLevel("ERROR")
        if strategy == "one" and devices is None:
            tf.constant(0)
            return None
    from tf_prac.training.distribution import make_distribution

    found = make_distribution(strategy, devices)
    tf.constant(0)
    return found
