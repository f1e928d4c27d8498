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

    The resource itself is a placeholder: it is there for its initializer.
    """

    def __init__(self, content: Content, rows: list[dict[str, Any]]):
        super().__init__()
        self._rows = [row for row in rows if row["name"] in content.packed]
        parts: dict[str, list[np.ndarray]] = {}
        for row in self._rows:
            for key in PACKED:
                if key in row:
                    array = getattr(content.packed[row["name"]], key)
                    parts.setdefault(row[key][0], []).append(array.reshape(-1))
        self._sizes = {name: [a.size for a in arrays] for name, arrays in parts.items()}
        self._blobs = {
            name: tf.Variable(np.concatenate(arrays), trainable=False, name=name)
            for name, arrays in parts.items()
        }
        self._targets = [content.variables[row["name"]] for row in self._rows]
        for name, blob in self._blobs.items():
            self._track_trackable(blob, name)
        for i, target in enumerate(self._targets):
            self._track_trackable(target, f"decoded_{i}")

    def _create_resource(self) -> Any:
        return tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[])

    def _initialize(self) -> None:
        parts = {
            (name, int(start)): part
            for name, blob in self._blobs.items()
            for start, part in _split(blob, self._sizes[name]).items()
        }
        for row, target in zip(self._rows, self._targets, strict=True):
            given = {key: parts[tuple(row[key][:2])] for key in PACKED if key in row}
            tf.raw_ops.AssignVariableOp(
                resource=target.handle, value=_decoded(row, target.dtype, **given)
            )


def _split(blob: Any, sizes: list[int]) -> dict[int, tf.Tensor]:
    """The parts of a packed variable by where they start, by one operation."""
    starts = np.cumsum([0, *sizes[:-1]])
    return dict(zip(starts, tf.split(blob.read_value(), sizes), strict=True))


def _decoded(
    row: dict[str, Any],
    dtype: tf.DType,
    values: tf.Tensor,
    codes: tf.Tensor | None = None,
    scale: tf.Tensor | None = None,
) -> tf.Tensor:
    """The operations that decode one weight; `encoding.decode` in TensorFlow."""
    if codes is None:
        value = tf.reshape(_as_type(values, dtype), row["shape"])
    else:
        shape = tf.constant(row["shape"], tf.int64)
        bits, count = (tf.constant(row[key], tf.int64) for key in ("bits", "count"))
        value = _spreader(values.dtype, dtype)(values, codes, bits, count, shape)
    if scale is not None:
        value *= tf.cast(tf.reshape(scale, row["scale"][3]), dtype)
    return value


@functools.cache
def _spreader(stored: tf.DType, dtype: tf.DType) -> Any:
    """One function for all weights of a type, so that the graph has it once."""
    number, vector = tf.TensorSpec([], tf.int64), tf.TensorSpec([None], tf.int64)
    stream = tf.TensorSpec([None], tf.uint8)
    kept = tf.TensorSpec([None], stored)

    def decode_gaps(values, codes, bits, count, shape):
        octets = tf.cast(tf.pad(codes, [[0, 2]]), tf.int32)
        triples = octets[:-2] + 256 * octets[1:-1] + 65536 * octets[2:]  # all that a code lies in
        first = tf.range(count) * bits
        escape = tf.bitwise.left_shift(tf.constant(1), tf.cast(bits, tf.int32)) - 1
        words = tf.bitwise.right_shift(tf.gather(triples, first // 8), tf.cast(first % 8, tf.int32))
        gaps = tf.bitwise.bitwise_and(words, escape)
        is_kept = tf.not_equal(gaps, escape)
        places = tf.cumsum(tf.cast(gaps, tf.int64) + tf.cast(is_kept, tf.int64)) - 1
        size = tf.reduce_prod(shape, keepdims=True)
        kept_places = tf.boolean_mask(places, is_kept)[:, tf.newaxis]
        return tf.reshape(tf.scatter_nd(kept_places, _as_type(values, dtype), size), shape)

    return tf.function(
        decode_gaps, input_signature=[kept, stream, number, number, vector], autograph=False
    )


def _as_type(values: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    if values.dtype == tf.uint16:
        values = tf.bitcast(values, tf.bfloat16)
    return tf.cast(values, dtype)


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
