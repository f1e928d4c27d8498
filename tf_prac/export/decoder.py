"""The part of a SavedModel that decodes its weights when it is loaded."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.export.content import Content

PACKED = ("values", "codes", "scale")  # what of a weight is in the packed variables


class Decoder(tf.saved_model.experimental.TrackableResource):
    """Holds packed weights and decodes them into variables when a SavedModel is loaded.

    There is no resource: its initializer is what counts, because every loader runs it.
    """

    def __init__(self, content: Content, rows: list[dict[str, Any]]):
        super().__init__()
        parts: dict[str, list[np.ndarray]] = {}
        self._groups: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            if "values" in row:
                self._groups.setdefault(row["values"][0], []).append(row)
                for key in PACKED:
                    if key in row:
                        array = getattr(content.packed[row["name"]], key)
                        parts.setdefault(row[key][0], []).append(array.reshape(-1))
        self._blobs = {
            name: tf.Variable(np.concatenate(arrays), trainable=False, name=name)
            for name, arrays in parts.items()
        }
        self._targets = {name: content.variables[name] for name in content.packed}
        for name, blob in self._blobs.items():
            self._track_trackable(blob, name)
        for number, target in enumerate(self._targets.values()):
            self._track_trackable(target, f"decoded_{number}")

    def _create_resource(self) -> Any:
        return tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[])

    def _trackable_children(self, save_type: Any = "checkpoint", **kwargs: Any) -> Any:
        children = super()._trackable_children(save_type, **kwargs)
        unused = ("_create_resource", "_destroy_resource")  # to load them takes time
        return {name: child for name, child in children.items() if name not in unused}

    def _initialize(self) -> None:
        for name, rows in self._groups.items():
            values = self._blobs[name].read_value()
            dtype = self._targets[rows[0]["name"]].dtype
            values = tf.cast(
                tf.bitcast(values, tf.bfloat16) if values.dtype == tf.uint16 else values, dtype
            )
            if "codes" in rows[0]:
                weights = _spread(rows, values, self._blobs[rows[0]["codes"][0]].read_value())
            else:
                weights = tf.split(values, [_size(row) for row in rows])
            for row, flat in zip(rows, weights, strict=True):
                self._assign(row, tf.reshape(flat, row["shape"]))

    def _assign(self, row: dict[str, Any], value: tf.Tensor) -> None:
        if "scale" in row:
            name, start, size, shape = row["scale"]
            scale = self._blobs[name][start : start + size]
            value *= tf.cast(tf.reshape(scale, shape), value.dtype)
        tf.raw_ops.AssignVariableOp(resource=self._targets[row["name"]].handle, value=value)


def _spread(rows: list[dict[str, Any]], values: tf.Tensor, codes: tf.Tensor) -> list[tf.Tensor]:
    """Puts kept values into their places: `encoding.decode`, in TensorFlow.

    The codes of all rows are read at once, so that the graph is small.

    Returns:
        The weights of the rows, flat.
    """
    bits = rows[0]["bits"]
    dtype = tf.int32 if sum(map(_size, rows)) < 2**30 else tf.int64
    gaps = _codes(codes, bits, dtype)
    is_kept = tf.not_equal(gaps, (1 << bits) - 1)
    ends = tf.cumsum(gaps + tf.cast(is_kept, dtype))
    counts = [8 * row["codes"][2] // bits for row in rows]
    before = tf.gather(tf.pad(ends, [[1, 0]]), np.cumsum([0, *counts[:-1]]))
    kept = [row["values"][2] for row in rows]
    places = tf.split(tf.boolean_mask(ends, is_kept), kept)
    parts = zip(rows, places, tf.unstack(before + 1), tf.split(values, kept), strict=True)
    return [
        tf.scatter_nd((place - start)[:, tf.newaxis], value, tf.constant([_size(row)], dtype))
        for row, place, start, value in parts
    ]


def _codes(octets: tf.Tensor, bits: int, dtype: tf.DType) -> tf.Tensor:
    """Reads codes of 1, 2, 4, 8 or 16 bits."""
    if bits == 16:
        return tf.cast(tf.bitcast(tf.reshape(octets, [-1, 2]), tf.uint16), dtype)
    if bits < 8:
        shifts = tf.constant(list(range(0, 8, bits)), tf.uint8)
        shifted = tf.bitwise.right_shift(octets[:, tf.newaxis], shifts)
        octets = tf.reshape(tf.bitwise.bitwise_and(shifted, (1 << bits) - 1), [-1])
    return tf.cast(octets, dtype)


def _size(row: dict[str, Any]) -> int:
    return int(np.prod(row["shape"]))


@contextlib.contextmanager
def left_out(variables: list[Any]) -> Iterator[None]:
    """Keeps the values of variables out of a SavedModel's checkpoint; the initializer sets them."""

    def leave_out(variable: Any) -> None:
        variable._serialize_to_tensors = dict
        variable._gather_saveables_for_checkpoint = dict

    def copy_to_graph(variable: Any, object_map: Any, *args: Any, **kwargs: Any) -> Any:
        captured = type(variable)._export_to_saved_model_graph(
            variable, object_map, *args, **kwargs
        )
        leave_out(object_map[variable])
        return captured

    try:
        for variable in variables:
            leave_out(variable)
            variable._export_to_saved_model_graph = functools.partial(copy_to_graph, variable)
        yield
    finally:
        for variable in variables:
            for name in (
                "_serialize_to_tensors",
                "_gather_saveables_for_checkpoint",
                "_export_to_saved_model_graph",
            ):
                variable.__dict__.pop(name, None)
