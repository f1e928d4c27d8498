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
        codes = self._blobs["codes"].read_value() if "codes" in self._blobs else None
        for name, rows in self._groups.items():
            values = self._blobs[name].read_value()
            dtype = self._targets[rows[0]["name"]].dtype
            values = tf.cast(
                tf.bitcast(values, tf.bfloat16) if values.dtype == tf.uint16 else values, dtype
            )
            if "codes" in rows[0]:
                values = _spread(rows, values, codes)
            sizes = [int(np.prod(row["shape"])) for row in rows]
            for row, flat in zip(rows, tf.split(values, sizes), strict=True):
                self._assign(row, tf.reshape(flat, row["shape"]))

    def _assign(self, row: dict[str, Any], value: tf.Tensor) -> None:
        if "scale" in row:
            name, start, size, shape = row["scale"]
            scale = self._blobs[name][start : start + size]
            value *= tf.cast(tf.reshape(scale, shape), value.dtype)
        tf.raw_ops.AssignVariableOp(resource=self._targets[row["name"]].handle, value=value)


def _spread(rows: list[dict[str, Any]], values: tf.Tensor, codes: tf.Tensor) -> tf.Tensor:
    """Puts the kept values of several weights into their places: `encoding.decode`, in TensorFlow.

    All weights at once, one after the other in one flat tensor, so that the graph is small.
    """

    def starts(sizes: list[int]) -> np.ndarray:
        return np.cumsum([0, *sizes[:-1]])

    sizes = [int(np.prod(row["shape"])) for row in rows]
    counts = [row["count"] for row in rows]
    total = sum(counts)
    first_code = tf.constant(starts(counts), tf.int64)
    marks = tf.ones([len(rows) - 1], tf.int64)
    owner = tf.cumsum(tf.scatter_nd(first_code[1:, tf.newaxis], marks, [total + 1]))[:total]

    def of_owner(numbers: Any) -> tf.Tensor:
        return tf.gather(tf.cast(numbers, tf.int64), owner)

    width = of_owner([row["bits"] for row in rows])
    place = tf.range(total, dtype=tf.int64) - of_owner(first_code)
    first_bit = of_owner([8 * row["codes"][1] for row in rows]) + place * width
    octets = tf.cast(tf.pad(codes, [[0, 2]]), tf.int64)
    triples = octets[:-2] + 256 * octets[1:-1] + 65536 * octets[2:]  # all that a code lies in
    words = tf.bitwise.right_shift(tf.gather(triples, first_bit // 8), first_bit % 8)
    escape = tf.bitwise.left_shift(tf.constant(1, tf.int64), width) - 1
    gaps = tf.bitwise.bitwise_and(words, escape)
    is_kept = tf.not_equal(gaps, escape)
    ends = tf.cumsum(gaps + tf.cast(is_kept, tf.int64))
    before = tf.gather(tf.pad(ends, [[1, 0]]), first_code)
    places = ends - 1 + of_owner(tf.constant(starts(sizes), tf.int64) - before)
    kept_places = tf.boolean_mask(places, is_kept)[:, tf.newaxis]
    return tf.scatter_nd(kept_places, values, [sum(sizes)])


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
