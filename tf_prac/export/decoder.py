"""`Decoder`: the object of a SavedModel that decodes its weights on loading."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.export.content import Content


class Decoder(tf.saved_model.experimental.TrackableResource):
    """Contains packed weights, and decodes them into variables when a SavedModel is loaded.

    It is a `TrackableResource` only for its initializer, which every loader runs. A loader builds
    the graph of the initializer each time, which takes longer than most decoding, so the graph has
    few operations per weight and shares those it can.
    """

    def __init__(self, content: Content):
        super().__init__()
        self._content = content
        self._targets = {name: content.variables[name] for name in content.stored}
        self._packed: dict[str, tf.Variable] = {}
        for group, packed in content.packed.items():
            self._add(f"{group}/values", packed.values)
            if packed.bits:
                self._add(f"{group}/codes", packed.codes)
        for name, stored in content.stored.items():
            if stored.scale is not None:
                self._add(f"{name}/scale", stored.scale)
        for number, target in enumerate(self._targets.values()):
            self._track_trackable(target, f"decoded_{number}")

    def _add(self, name: str, array: np.ndarray) -> None:
        variable = tf.Variable(array, trainable=False)
        self._packed[name] = variable
        self._track_trackable(variable, name)

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
        for group, names in self._content.groups.items():
            dtype = self._targets[names[0]].dtype
            values = self._packed[f"{group}/values"].read_value()
            if values.dtype == tf.uint16:
                values = tf.bitcast(values, tf.bfloat16)
            if values.dtype != dtype:
                values = tf.cast(values, dtype)
            packed = self._content.packed[group]
            if packed.bits:
                codes = self._packed[f"{group}/codes"].read_value()
                values = _unpack(values, codes, packed.bits, packed.size)
            sizes = [self._content.stored[name].values.size for name in names]
            for name, flat in zip(names, tf.split(values, sizes), strict=True):
                self._assign(name, tf.reshape(flat, self._targets[name].shape))

    def _assign(self, name: str, value: tf.Tensor) -> None:
        if f"{name}/scale" in self._packed:
            value *= tf.cast(self._packed[f"{name}/scale"].read_value(), value.dtype)
        tf.raw_ops.AssignVariableOp(resource=self._targets[name].handle, value=value)


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
