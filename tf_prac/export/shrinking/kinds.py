"""How kinds of layers treat channels, first those that pass them on.

To add a kind of layer, write a subclass of `Kind` and add it to `KINDS` in `shrink.py`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tf_prac.export.shrinking.channels import Array, Channels
from tf_prac.keras_api import Call, Value

Known = Array | None
ELEMENTWISE = {
    *("linear", "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "swish"),
    *("sigmoid", "hard_sigmoid", "hard_silu", "hard_swish", "tanh", "softplus", "softsign"),
    *("mish", "exponential", "log_sigmoid", "hard_tanh", "relu_squared"),
}
"""Activations that compute each element from one element."""


@dataclasses.dataclass
class Layer:
    """A layer of the network, with all of its calls.

    Attributes:
        layer: the Keras layer.
        kind: how it treats channels.
        name: its name, with those of the nested models that contain it.
        weights: its weights by role; empty if its kind does not slice them.
        present: for each weight, the elements that no mask prunes.
        calls: its calls.
        own: stands for the heads of an attention layer.
        cache: what its kind has computed from the weights.
    """

    layer: Any
    kind: Kind
    name: str
    weights: dict[str, Array]
    present: dict[str, Array]
    calls: list[Call] = dataclasses.field(default_factory=list)
    own: Value | None = None
    cache: dict[str, Array] = dataclasses.field(default_factory=dict)


class Kind:
    """A kind of layer. This class is for layers that are not known: they need all channels.

    Attributes:
        linear: whether a kernel with an axis "in" multiplies the input, so that the rows of two
                inputs which differ by a factor can be added.
        skips: whether the smaller model passes the input on instead of calling the layer.
    """

    linear = False
    skips = False

    def follows(self, layer: Layer, call: Call) -> bool:
        """Returns whether this kind describes a call, as the layer and its inputs are."""
        return True

    def variables(self, layer: Any) -> dict[str, Any]:
        """Returns the variables of a Keras layer that have channels, by role."""
        return {}

    def axes(self, layer: Any) -> dict[str, tuple[str | None, ...]]:
        """Returns for each role what the last axes of its variable are: "in", "out" or other."""
        return {}

    def link(self, layer: Layer, call: Call, network: Channels) -> list[Array | None]:
        """Returns the groups of the channels of each output, after tying those of the inputs."""
        reason = f"{layer.name} ({type(layer.layer).__name__}) needs all channels"
        for value in call.inputs:
            network.pin(value, reason)
        outputs = [network.fresh(value) for value in call.outputs]
        for ids in outputs:
            network.pin(ids, f"an output of {layer.name} ({type(layer.layer).__name__})")
        return outputs

    def tied(self, layer: Layer, call: Call) -> list[Value]:
        """Returns the tensors whose channels are those of the same tensors of other calls."""
        return [*call.inputs, *call.outputs] if layer.weights else []

    def constants(self, layer: Layer, call: Call, network: Channels) -> list[Known]:
        """Returns the constants of each output; None if no channel is constant."""
        return [None] * len(call.outputs)

    def pads(self, layer: Layer) -> bool:
        """Returns whether constant channels have zeros at the borders after the layer."""
        return False

    def demands(self, layer: Layer, call: Call, network: Channels) -> list[tuple[Value, Array]]:
        """Returns for the inputs which of their channels the kept outputs need."""
        return []

    def used_inputs(self, layer: Layer, call: Call, network: Channels) -> list[Value]:
        """Returns the inputs that the smaller layer is called with."""
        return call.inputs

    def indices(self, layer: Layer, network: Channels) -> dict[str, Array]:
        """Returns the kept indices along each axis that `axes` names."""
        call = layer.calls[0]
        kept = {"in": call.inputs[:1], "out": call.outputs[:1]}
        return {
            axis: np.flatnonzero(network.kept(value))
            for axis, values in kept.items()
            for value in values
            if value in network.channels
        }

    def config(self, config: dict[str, Any], layer: Layer, network: Channels) -> dict[str, Any]:
        """Returns the config of the smaller layer."""
        return config

    def make(self, layer: Any, config: dict[str, Any]) -> Any:
        """Returns a new layer of the class of a Keras layer."""
        return type(layer).from_config(config)

    def adapted(self, layer: Layer, network: Channels) -> tuple[dict[str, Array], dict[str, Array]]:
        """Returns weights and present elements, with what was removed absorbed, before slicing."""
        return layer.weights, layer.present


def is_usual(layer: Layer, call: Call) -> bool:
    """Whether a layer is called with one tensor, in inference or training, channels last."""
    first = getattr(layer.layer, "data_format", None) == "channels_first"
    return (
        len(call.inputs) == len(call.outputs) == 1
        and not first
        and not call.kwargs.get("training")
        and (call.inputs[0].shape or (None,))[-1] is not None
    )


def is_elementwise(activation: Callable) -> bool:
    """Whether an activation is a known function of single elements."""
    own = getattr(activation, "__module__", "").startswith(("keras.", "tf_keras.", "tensorflow."))
    return own and getattr(activation, "__name__", None) in ELEMENTWISE


def is_linear(activation: Callable) -> bool:
    """Whether an activation is that of Keras which returns its input."""
    return is_elementwise(activation) and activation.__name__ == "linear"


def apply(function: Callable, known: Array) -> Array:
    """Returns a function of each constant."""
    values = np.asarray(function(np.nan_to_num(known).astype(np.float32)), np.float64)
    return np.where(np.isnan(known), np.nan, values)


def _has_one_width(layer: Layer) -> bool:
    """Whether all calls of a layer return as many channels."""
    return len({call.outputs[0].shape[-1] for call in layer.calls}) == 1


class Passing(Kind):
    """Layers whose outputs have the channels of their input, such as pooling."""

    def follows(self, layer: Layer, call: Call) -> bool:
        """Returns whether the channels are those of the input."""
        return is_usual(layer, call) and call.inputs[0].shape[-1] == call.outputs[0].shape[-1]

    def link(self, layer: Layer, call: Call, network: Channels) -> list[Array | None]:
        """Returns the groups of the input."""
        return [network.channels[call.inputs[0]]]

    def constants(self, layer: Layer, call: Call, network: Channels) -> list[Known]:
        """Returns `value` of the constants of the input."""
        return [self.value(layer, network.constant(call.inputs[0]))]

    def value(self, layer: Layer, known: Array) -> Array:
        """Returns the constants of the output for those of the input."""
        return known


class Padding(Passing):
    """Zero padding of the image."""

    def pads(self, layer: Layer) -> bool:
        """Returns True."""
        return True


class Random(Passing):
    """Layers such as dropout: a constant other than zero is none in training."""

    def value(self, layer: Layer, known: Array) -> Array:
        """Returns the zeros."""
        return np.where(known == 0, known, np.nan)


class Elementwise(Passing):
    """Activations."""

    def follows(self, layer: Layer, call: Call) -> bool:
        """Returns whether the layer is a function of single elements."""
        activation = getattr(layer.layer, "activation", None)
        return super().follows(layer, call) and (activation is None or is_elementwise(activation))

    def value(self, layer: Layer, known: Array) -> Array:
        """Returns the activation of each constant."""
        activation = getattr(layer.layer, "activation", None)
        if activation is not None:
            return apply(activation, known)
        return apply(lambda values: layer.layer(values[None]), known)[0]


class BatchNormalization(Passing):
    """Batch normalization of the last axis, with its moving statistics."""

    roles = ("gamma", "beta", "moving_mean", "moving_variance")

    def follows(self, layer: Layer, call: Call) -> bool:
        """Returns whether the last axis is normalized."""
        axis, rank = layer.layer.axis, len(call.inputs[0].shape)
        axes = (
            list(axis) if isinstance(axis, (list, tuple)) or hasattr(axis, "__iter__") else [axis]
        )
        renorm = getattr(layer.layer, "renorm", False)
        return super().follows(layer, call) and axes in ([-1], [rank - 1]) and not renorm

    def variables(self, layer: Any) -> dict[str, Any]:
        """Returns scale, offset and statistics."""
        found = {role: getattr(layer, role, None) for role in self.roles}
        return {role: variable for role, variable in found.items() if variable is not None}

    def axes(self, layer: Any) -> dict[str, tuple[str | None, ...]]:
        """Returns one axis for each."""
        return dict.fromkeys(self.roles, ("out",))

    def value(self, layer: Layer, known: Array) -> Array:
        """Returns the normalized constants."""
        scale, offset = scale_and_offset(layer.layer)
        return known * scale + offset


def scale_and_offset(layer: Any) -> tuple[Array, Array]:
    """Returns the factor and offset of each channel of a BatchNormalization in inference."""
    mean = np.asarray(layer.moving_mean, np.float64)
    scale = 1 / np.sqrt(np.asarray(layer.moving_variance, np.float64) + layer.epsilon)
    if layer.gamma is not None:
        scale = scale * np.asarray(layer.gamma, np.float64)
    beta = 0 if layer.beta is None else np.asarray(layer.beta, np.float64)
    return scale, beta - mean * scale


class PReLU(Passing):
    """A slope for each channel, or each element."""

    def variables(self, layer: Any) -> dict[str, Any]:
        """Returns the slopes."""
        return {"alpha": layer.alpha}

    def axes(self, layer: Any) -> dict[str, tuple[str | None, ...]]:
        """Returns the last axis."""
        return {"alpha": ("out",)}

    def follows(self, layer: Layer, call: Call) -> bool:
        """Returns whether channels have slopes of their own."""
        return (
            super().follows(layer, call) and layer.layer.alpha.shape[-1] == call.inputs[0].shape[-1]
        )

    def value(self, layer: Layer, known: Array) -> Array:
        """Returns the constants that are not negative."""
        return np.where(known >= 0, known, np.nan)


class ChannelPadding(Kind):
    """Zero channels before and after those of the input: shortcuts without parameters.

    This is `ZeroPadding2D` with "channels_first" on channels-last images.
    """

    def follows(self, layer: Layer, call: Call) -> bool:
        """Returns whether only the last axis is padded."""
        rows, _ = layer.layer.padding
        is_known = call.inputs[0].shape[-1] is not None
        return tuple(rows) == (0, 0) and is_known and _has_one_width(layer)

    def tied(self, layer: Layer, call: Call) -> list[Value]:
        """Returns the outputs, as the config has the numbers of their zeros."""
        return call.outputs

    def link(self, layer: Layer, call: Call, network: Channels) -> list[Array | None]:
        """Returns the groups of the input between new ones."""
        before, after = (network.fresh(size) for size in layer.layer.padding[1])
        return [np.concatenate([before, network.channels[call.inputs[0]], after])]

    def constants(self, layer: Layer, call: Call, network: Channels) -> list[Known]:
        """Returns zeros around the constants of the input."""
        return [np.pad(network.constant(call.inputs[0]), tuple(layer.layer.padding[1]))]

    def config(self, config: dict[str, Any], layer: Layer, network: Channels) -> dict[str, Any]:
        """Pads by as many channels as are kept."""
        kept = network.kept(layer.calls[0].outputs[0])
        before, after = layer.layer.padding[1]
        sizes = (int(kept[:before].sum()), int(kept[len(kept) - after :].sum()))
        return {**config, "padding": ((0, 0), sizes)}


class Flatten(Kind):
    """Layers that make a longer last axis of several axes: Flatten and Reshape."""

    def follows(self, layer: Layer, call: Call) -> bool:
        """Returns whether every channel stays in one place of each period of the last axis."""
        size, new = call.inputs[0].shape[-1], call.outputs[0].shape[-1]
        if not is_usual(layer, call) or not size or new is None or new % size:
            return False
        return not self.tied(layer, call) or _has_one_width(layer)

    def tied(self, layer: Layer, call: Call) -> list[Value]:
        """Returns the outputs of Reshape, whose config has their size."""
        return call.outputs if hasattr(layer.layer, "target_shape") else []

    def link(self, layer: Layer, call: Call, network: Channels) -> list[Array | None]:
        """Returns the groups of the input, repeated."""
        ids = network.channels[call.inputs[0]]
        return [np.tile(ids, call.outputs[0].shape[-1] // ids.size)]

    def constants(self, layer: Layer, call: Call, network: Channels) -> list[Known]:
        """Returns the constants of the input, repeated."""
        known = network.constant(call.inputs[0])
        return [np.tile(known, call.outputs[0].shape[-1] // known.size)]

    def config(self, config: dict[str, Any], layer: Layer, network: Channels) -> dict[str, Any]:
        """Sets the last axis of Reshape."""
        if "target_shape" not in config:
            return config
        last = int(network.kept(layer.calls[0].outputs[0]).sum())
        return {**config, "target_shape": (*config["target_shape"][:-1], last)}


class Join(Kind):
    """Layers that combine tensors element by element, such as additions.

    Args:
        combine: function of the constants of the inputs, each [channels], NaN if not constant.
    """

    def __init__(self, combine: Callable[[list[Array]], Array]):
        self.combine = combine

    def follows(self, layer: Layer, call: Call) -> bool:
        """Returns whether all inputs have channels."""
        sizes = [(value.shape or (None,))[-1] for value in call.inputs]
        return None not in sizes and len(call.outputs) == 1

    def link(self, layer: Layer, call: Call, network: Channels) -> list[Array | None]:
        """Ties the channels of the inputs; those that are broadcast along the axis are kept."""
        size = call.outputs[0].shape[-1]
        first, *others = self._full(call)
        for value in others:
            network.tie(network.channels[first], network.channels[value])
        for value in call.inputs:
            if value.shape[-1] != size:
                network.pin(value, f"{layer.name} uses it for all channels")
        return [network.channels[first]]

    def constants(self, layer: Layer, call: Call, network: Channels) -> list[Known]:
        """Returns the combined constants."""
        size = call.outputs[0].shape[-1]
        known = [np.broadcast_to(network.constant(value), size) for value in call.inputs]
        return [np.asarray(self.combine(known), np.float64)]

    def _full(self, call: Call) -> list[Value]:
        return [v for v in call.inputs if v.shape[-1] == call.outputs[0].shape[-1]]


class Add(Join):
    """Additions; branches that are zero are left out."""

    def __init__(self) -> None:
        super().__init__(lambda known: np.asarray(sum(known)))

    def used_inputs(self, layer: Layer, call: Call, network: Channels) -> list[Value]:
        """Returns the branches that are not zero."""
        ranks = {len(value.shape) for value in call.inputs}
        full = self._full(call) if len(ranks) == 1 else []
        other = [v for v in call.inputs if v not in full or not self._is_zero(v, network)]
        shapes = {value.shape for value in call.inputs}
        if len(shapes) > 1 and len(other) < len(call.inputs):
            return call.inputs  # a branch may give the sum its size
        return other or call.inputs[:1]

    def _is_zero(self, value: Value, network: Channels) -> bool:
        return not np.any(network.known[value][network.kept(value)])  # NaN is true


class Concatenate(Kind):
    """Concatenation of channels; branches without channels are left out."""

    def follows(self, layer: Layer, call: Call) -> bool:
        """Returns whether the last axis is concatenated."""
        last = layer.layer.axis in (-1, len(call.outputs[0].shape) - 1)
        return last and all(value.shape[-1] is not None for value in call.inputs)

    def link(self, layer: Layer, call: Call, network: Channels) -> list[Array | None]:
        """Returns the groups of all inputs."""
        return [np.concatenate([network.channels[value] for value in call.inputs])]

    def constants(self, layer: Layer, call: Call, network: Channels) -> list[Known]:
        """Returns the constants of all inputs."""
        return [np.concatenate([network.constant(value) for value in call.inputs])]

    def used_inputs(self, layer: Layer, call: Call, network: Channels) -> list[Value]:
        """Returns the inputs with channels that are kept."""
        kept = [value for value in call.inputs if network.kept(value).any()]
        return kept or call.inputs[:1]


def product(known: list[Array]) -> Array:
    """Returns the product of constants; zero times anything is zero."""
    zero = np.any([each == 0 for each in known], axis=0)
    return np.where(zero, 0, math.prod(known))
