"""Sizes that files declare, compared with the bytes that they have before memory is allocated."""

from __future__ import annotations

import contextlib
import math
import pathlib
from collections.abc import Iterator
from typing import IO, Any

from tf_prac.errors import DamagedFileError, UnsafeFileError
from tf_prac.storage.files import MAX_RATIO

EXTRA = 2**20
"""Elements that a model may have in addition to those of its file: metrics and random states."""
COPIES = 4
"""Variables for each stored element: the weight, its mask, and two of an optimizer."""


@contextlib.contextmanager
def at_most(elements: int, source: str) -> Iterator[None]:
    """Limits the variables that are created in the block, in either flavor of Keras.

    Args:
        elements: the number of elements in the file that the model is built from.
        source: the file, for the error.

    Raises:
        UnsafeFileError: When a variable would exceed `COPIES` times `elements` plus `EXTRA`.
    """
    import tensorflow as tf

    left = COPIES * elements + EXTRA

    def create(next_creator: Any, **options: Any) -> Any:
        nonlocal left
        left -= math.prod(_shape(options))
        if left < 0:
            raise UnsafeFileError(
                f"{source}: not loaded. Its architecture declares more variables than its weights: "
                f"{options.get('name')} of shape {_shape(options)}; the file has {elements:,} "
                f"elements."
            )
        return next_creator(**options)

    with tf.variable_creator_scope(create):
        yield


def _shape(options: dict[str, Any]) -> tuple[int, ...]:
    """The shape of a variable from the arguments of its creator, without computing its value."""
    import tensorflow as tf

    shape, value = options.get("shape"), options.get("initial_value")
    if shape is None and callable(value):  # Keras 3 names no shape
        with tf.__internal__.FuncGraph("shape").as_default():
            shape = tf.convert_to_tensor(value()).shape
    if shape is None:
        shape = tf.convert_to_tensor(value).shape
    return (
        tuple(tf.TensorShape(shape).as_list()) if tf.TensorShape(shape).is_fully_defined() else ()
    )


def open_checkpoint(prefix: pathlib.Path) -> Any:
    """Returns a reader of a TensorFlow checkpoint whose tensors have the bytes that they declare.

    Raises:
        DamagedFileError: If they do not, or a file is missing.
        tf.errors.OpError: If TensorFlow cannot read the checkpoint.
    """
    import tensorflow as tf

    parts = [prefix.with_name(f"{prefix.name}.index"), *prefix.parent.glob(f"{prefix.name}.data-*")]
    for part in parts:
        if not part.is_file():  # TensorFlow would wait for a pipe
            raise DamagedFileError(f"{part}: missing, or not a regular file.")
    reader = tf.train.load_checkpoint(str(prefix))
    shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    declared = sum(math.prod(shape) * dtypes[name].size for name, shape in shapes.items())
    data = sum(part.stat().st_size for part in parts[1:])
    if declared > data:
        raise DamagedFileError(
            f"{prefix}: damaged, its tensors declare {declared:,} bytes and its data has {data:,}."
        )
    return reader


def hdf5_elements(file: IO[bytes], source: str) -> int:
    """Returns the number of elements of an HDF5 file, after a check of each of its arrays.

    Raises:
        DamagedFileError: If an array refers to other files, has no numbers, or declares more bytes
            than its compression can hold.
    """
    import h5py

    total, seen = 0, set()
    with h5py.File(file, "r") as root:
        pending = [("", root)]
        while pending:
            path, group = pending.pop()
            for name in group:
                inner = f"{path}/{name}"
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise DamagedFileError(f"{source}: not loaded, {inner} is a link.")
                item = group[name]
                address = h5py.h5o.get_info(item.id).addr
                if address in seen:
                    raise DamagedFileError(f"{source}: not loaded, {inner} is stored twice.")
                seen.add(address)
                if isinstance(item, h5py.Dataset):
                    _check_dataset(item, inner, source)
                    total += int(item.size or 0)
                else:
                    pending.append((inner, item))
    return total


def _check_dataset(dataset: Any, path: str, source: str) -> None:
    if dataset.external or dataset.is_virtual:
        raise DamagedFileError(f"{source}: not loaded, {path} is stored in another file.")
    if dataset.dtype.kind not in "biufcV" or dataset.dtype.hasobject:
        raise DamagedFileError(f"{source}: not loaded, {path} has the type {dataset.dtype}.")
    declared, stored = dataset.size * dataset.dtype.itemsize, dataset.id.get_storage_size()
    if declared > (stored if dataset.chunks is None else MAX_RATIO * stored):
        raise DamagedFileError(
            f"{source}: damaged, {path} declares {declared:,} bytes and has {stored:,}."
        )
