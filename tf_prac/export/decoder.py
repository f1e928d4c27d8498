"""`Decoder`: the object of a SavedModel that decodes its weights on loading."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from tf_prac.export.content import VECTORS, Content
from tf_prac.export.encoding import DATA, compress


class Decoder(tf.saved_model.experimental.TrackableResource):
    """Contains compressed weights, and decodes them into variables when a SavedModel is loaded.

    It is a `TrackableResource` only for its initializer, which every loader runs. A loader builds
    the graph of the initializer each time, which takes longer than most decoding, so the graph has
    few operations per weight and shares those it can.
    """

    def __init__(self, content: Content):
        super().__init__()
        self._content = content
        self._targets = {name: content.variables[name] for name in decoded_names(content)}
        compressed = [compress(array) for array in content.streams.values()]
        self._data = tf.Variable(tf.constant(compressed), trainable=False)
        self._track_trackable(self._data, DATA)
        for number, target in enumerate(decoded_variables(content)):
            self._track_trackable(target, str(number))

    def _create_resource(self) -> Any:
        return tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[])

    def _trackable_children(self, save_type: Any = "checkpoint", **kwargs: Any) -> Any:
        children = super()._trackable_children(save_type, **kwargs)
        unused = ("_create_resource", "_destroy_resource")  # loading them takes time
        if "_initialize" in children:  # the loader would trace a tf.function again
            concrete = children["_initialize"].get_concrete_function()
            concrete.get_concrete_function = lambda: concrete  # called by tf.saved_model.save
            children["_initialize"] = concrete
        return {name: child for name, child in children.items() if name not in unused}

    def _initialize(self) -> None:
        streams = self._streams()
        for group, names in self._content.groups.items():
            if self._content.vectors and group == VECTORS:
                self._assign(self._content.vectors.variable, streams[f"{group}/values"])
                continue
            dtype = self._targets[names[0]].dtype
            values = streams[f"{group}/values"]
            if values.dtype == tf.uint16:
                values = tf.bitcast(values, tf.bfloat16)
            if values.dtype != dtype:
                values = tf.cast(values, dtype)
            packed = self._content.packed[group]
            if packed.bits:
                values = _unpack(values, streams[f"{group}/codes"], packed.bits, packed.size)
            sizes = [self._content.stored[name].values.size for name in names]
            for name, flat in zip(names, tf.split(values, sizes), strict=True):
                shape = self._targets[name].shape
                value = flat if shape.rank == 1 else tf.reshape(flat, shape)
                if f"{name}/scale" in streams:
                    scale = tf.reshape(streams[f"{name}/scale"], self._scale_shape(name))
                    value *= tf.cast(scale, value.dtype)
                self._assign(self._targets[name], value)

    def _streams(self) -> dict[str, tf.Tensor]:
        """The arrays of `Content.streams`: `encoding.decompress` in TensorFlow."""
        arrays = self._content.streams
        texts = tf.unstack(tf.io.decode_compressed(self._data.read_value(), "ZLIB"), len(arrays))
        return {
            name: _decode(text, tf.as_dtype(array.dtype.name))
            for text, (name, array) in zip(texts, arrays.items(), strict=True)
        }

    @staticmethod
    def _assign(variable: tf.Variable, value: tf.Tensor) -> None:
        tf.raw_ops.AssignVariableOp(resource=variable.handle, value=value)

    def _scale_shape(self, name: str) -> tuple[int, ...]:
        scale = self._content.stored[name].scale
        assert scale is not None
        return scale.shape


def decoded_variables(content: Content) -> list[Any]:
    """Returns the variables that the decoder sets."""
    vectors = [content.vectors.variable] if content.vectors else []
    return [content.variables[name] for name in decoded_names(content)] + vectors


def decoded_names(content: Content) -> list[str]:
    """Returns the names of the weights that have a variable of their own."""
    joined = content.vectors.names if content.vectors else []
    return [name for name in content.stored if name not in joined]


def _decode(text: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Returns a vector from its bytes, which are grouped by their position in an element."""
    data = tf.io.decode_raw(text, tf.uint8)
    if dtype == tf.bool:
        return tf.cast(data, dtype)
    if dtype.size > 1:
        data = tf.transpose(tf.reshape(data, [dtype.size, -1]))
    return tf.bitcast(data, dtype)


def _unpack(values: tf.Tensor, codes: tf.Tensor, bits: int, size: int) -> tf.Tensor:
    """Scatters kept values to their positions: `encoding.unpack` in TensorFlow."""
    dtype = tf.int32 if size < 2**30 else tf.int64
    gaps = _unpack_codes(codes, bits, dtype)
    is_kept = tf.not_equal(gaps, (1 << bits) - 1)
    positions = tf.cumsum(gaps + tf.cast(is_kept, dtype)) - 1
    # Much faster than tf.scatter_nd, whose elements are slices.
    return tf.raw_ops.SparseToDense(
        sparse_indices=tf.gather(positions, tf.where(is_kept)),
        output_shape=tf.constant([size], dtype),
        sparse_values=values,
        default_value=tf.zeros([], values.dtype),
        validate_indices=False,
    )


def _unpack_codes(packed: tf.Tensor, bits: int, dtype: tf.DType) -> tf.Tensor:
    """Unpacks codes of 1, 2, 4, 8 or 16 bits from bytes."""
    if bits == 16:
        packed = tf.bitcast(tf.reshape(packed, [-1, 2]), tf.uint16)
    if bits < 8:
        shifts = tf.constant(list(range(0, 8, bits)), tf.uint8)
        shifted = tf.bitwise.right_shift(tf.reshape(packed, [-1, 1]), shifts)
        packed = tf.reshape(tf.bitwise.bitwise_and(shifted, (1 << bits) - 1), [-1])
    return tf.cast(packed, dtype)


@contextlib.contextmanager
def without_values(variables: list[Any]) -> Iterator[None]:
    """Omits the values of variables from a SavedModel's checkpoint; the decoder restores them."""

    def omit(variable: Any) -> None:
        variable._serialize_to_tensors = dict
        variable._gather_saveables_for_checkpoint = dict

    def copy_to_graph(variable: Any, object_map: Any, *args: Any, **kwargs: Any) -> Any:
        captured = type(variable)._export_to_saved_model_graph(
            variable, object_map, *args, **kwargs
        )
        omit(object_map[variable])
        return captured

    try:
        for variable in variables:
            omit(variable)
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
