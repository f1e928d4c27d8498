"""Importing TensorFlow without the messages of its C++ runtime."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from tf_prac.keras_api import Flavor
from tf_prac.storage.atomic import scratch_directory

LOADING = "loading TensorFlow ..."


@contextlib.contextmanager
def quiet_start(show: bool = True) -> Iterator[None]:
    """Suppresses warnings and output to standard error during the block, unless it fails.

    Args:
        show: whether a terminal shows in the meantime what takes so long. Default True.
    """
    with _shown_in_the_meantime(LOADING if show else ""), _without_stderr():
        yield


@contextlib.contextmanager
def _shown_in_the_meantime(text: str) -> Iterator[None]:
    if not text or not sys.stderr.isatty():
        yield
        return
    print(f"\r{text}", end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        print(f"\r{' ' * len(text)}\r", end="", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _without_stderr() -> Iterator[None]:
    sys.stderr.flush()
    stderr = os.dup(2)
    with contextlib.ExitStack() as stack:
        captured = stack.enter_context(open(stack.enter_context(scratch_directory()) / "2", "w+b"))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        os.dup2(captured.fileno(), 2)
        try:
            yield
        except BaseException:
            captured.seek(0)
            os.write(stderr, captured.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)


def load_tensorflow(
    keras: str,
    strategy: str = "one",
    devices: int | None = None,
    device: str = "auto",
    *,
    quiet: bool = False,
) -> Any:
    """Imports TensorFlow and a Keras quietly; returns the `Distribution` of a strategy.

    Args:
        keras: the flavor.
        strategy: see `make_distribution`. Default "one".
        devices: number of devices. Default None.
        device: "auto", "gpu" or "cpu", see `use_device`. Default "auto".
        quiet: whether nothing is shown on a terminal in the meantime. Default False.

    Raises:
        ArgumentError: If the strategy or device is not available, see `make_distribution` and
            `use_device`.
        MissingPackageError: If the Keras is not installed.
    """
    flavor = Flavor(keras)
    flavor.require()
    with quiet_start(not quiet):
        import tensorflow as tf

        assert flavor.module is not None
        tf.get_logger().setLevel("ERROR")
        tf.config.list_physical_devices()
    from tf_prac.training.devices import use_device
    from tf_prac.training.strategies import make_distribution

    use_device(device)
    distribution = None
    if strategy != "one" or devices is not None:
        distribution = make_distribution(strategy, devices)
    with quiet_start(not quiet):
        tf.constant(0)
    return distribution
