"""Kinds of layers that compute new channels from those of their input."""

from __future__ import annotations

from typing import Any

import numpy as np

from tf_prac.export.shrinking.channels import Array, Channels
from tf_prac.export.shrinking.kinds import Kind, Known, Layer, apply, is_elementwise, is_usual
from tf_prac.keras_api import Call, Value, class_names

DEPTHWISE = ("depthwise_kernel", "kernel")


def _first(layer: Any, names: tuple[str, ...]) -> Any:
    return next(found for name in names if (found := getattr(layer, name, None)) is not None)


class Linear(Kind):
    """Dense layers and convolutions without groups.

    Args:
        units: the option for the number of outputs.
    """

    def __init__(self, units: str):
        self.units = units

    linear = True

    def follows(self, layer: Layer, call: Call) -> bool:
        """Returns whether the layer has a plain kernel."""
        rewritten = getattr(layer.layer, "quantization_mode", None) or getattr(
            layer.layer, "lora_enabled", False
        )
        return is_usual(layer, call) and not rewritten

    def variables(self, layer: Any) -> dict[str, Any]:
        """Returns kernel and bias."""
        bias = getattr(layer, "bias", None)
        return {"kernel": layer.kernel} | ({} if bias is None else {"bias": bias})

    def axes(self, layer: Any) -> dict[str, tuple[str | None, ...]]:
        """Returns inputs and outputs of the kernel."""
        return {"kernel": ("in", "out"), "bias": ("out",)}

    def link(self, layer: Layer, call: Call, network: Channels) -> list[Array | None]:
        """Returns new groups."""
        ids = network.fresh(call.outputs[0])
        if not is_elementwise(layer.layer.activation):
            network.pin(ids, f"the activation of {layer.name} needs all channels")
        return [ids]

    def present(self, layer: Layer) -> Array:
        """Returns which inputs each output has weights for, [in, out]."""
        kernel = layer.present["kernel"]
        return np.asarray(kernel.any(tuple(range(kernel.ndim - 2))))

    def gain(self, layer: Layer) -> Array:
        """Returns the output for a constant input of one, [in, out]."""
        kernel = layer.weights["kernel"].astype(np.float64)
        return kernel.sum(tuple(range(kernel.ndim - 2)))

    def absorbs(self, layer: Layer) -> bool:
        """Returns whether a constant input changes each output by a constant, at borders too."""
        padding = getattr(layer.layer, "padding", "valid")
        return padding == "valid" or set(layer.layer.kernel_size) == {1}

    def constants(self, layer: Layer, call: Call, network: Channels) -> list[Known]:
        """Returns the outputs all of whose inputs are pruned or constant."""
        if not is_elementwise(layer.layer.activation):
            return [None]
        known = network.constant(call.inputs[0])
        blocked = self._blocked(layer, known)
        varying = self._cached(layer, "present")[blocked].any(0)
        sums = np.where(blocked, 0, np.nan_to_num(known)) @ self._cached(layer, "gain")
        sums = sums + layer.weights.get("bias", 0)
        return [apply(layer.layer.activation, np.where(varying, np.nan, sums))]

    def demands(self, layer: Layer, call: Call, network: Channels) -> list[tuple[Value, Array]]:
        """Returns the inputs with weights, except constants that the bias can absorb."""
        present = self._cached(layer, "present")[:, network.kept(call.outputs[0])].any(1)
        return [(call.inputs[0], present & self._blocked(layer, _known(layer, network)))]

    def config(self, config: dict[str, Any], layer: Layer, network: Channels) -> dict[str, Any]:
        """Sets the number of outputs, and adds a bias if constants were absorbed."""
        units = int(network.kept(layer.calls[0].outputs[0]).sum())
        use_bias = config["use_bias"] or bool(np.any(self._absorbed(layer, network)))
        return {**config, self.units: units, "use_bias": use_bias}

    def adapted(self, layer: Layer, network: Channels) -> tuple[dict[str, Array], dict[str, Array]]:
        """Adds the rows of merged inputs to another row, and absorbed constants to the bias."""
        weights, present = dict(layer.weights), dict(layer.present)
        absorbed = self._absorbed(layer, network)
        if np.any(absorbed):
            bias = weights.get("bias", np.zeros(absorbed.size, weights["kernel"].dtype))
            weights["bias"] = (bias + absorbed).astype(bias.dtype)
            present.setdefault("bias", np.ones(absorbed.size, bool))
        merged = self._merged(layer, network)
        if merged:
            axis = self.axes(layer.layer)["kernel"].index("in") - 2
            kernel = np.moveaxis(weights["kernel"], axis, 0).copy()
            mask = np.moveaxis(present["kernel"], axis, 0).copy()
            for index, into, factor in merged:
                kernel[into] += (factor * kernel[index].astype(np.float64)).astype(kernel.dtype)
                mask[into] |= mask[index]
            weights["kernel"] = np.moveaxis(kernel, 0, axis)
            present["kernel"] = np.moveaxis(mask, 0, axis)
        return weights, present

    def _absorbed(self, layer: Layer, network: Channels) -> Array:
        """Returns what removed constant inputs add to each kept output."""
        call, known = layer.calls[0], _known(layer, network)
        absorbed = ~network.kept(call.inputs[0]) & ~self._blocked(layer, known)
        sums = np.where(absorbed, known, 0) @ self._cached(layer, "gain")
        return np.where(network.kept(call.outputs[0]), sums, 0)

    def _merged(self, layer: Layer, network: Channels) -> list[tuple[int, int, float]]:
        """Returns the inputs that are merged, each with that into which it is, and a factor."""
        value = layer.calls[0].inputs[0]
        groups = network.channels[value]
        blocked = self._blocked(layer, _known(layer, network)) & ~network.kept(value)
        rows = self._cached(layer, "present").any(1)
        result = []
        for index in np.flatnonzero(blocked & rows):
            if int(groups[index]) in network.merged:
                into, _ = network.merged[int(groups[index])]
                place = int(np.flatnonzero(groups == into)[0]) if into in groups else None
                if place is not None:
                    known = network.known[value]
                    result.append((int(index), place, float(known[index] / known[place])))
        return result

    def _blocked(self, layer: Layer, known: Array) -> Array:
        """Returns which inputs are neither zero nor constants that the layer absorbs."""
        return np.isnan(known) | ((known != 0) & (not self.absorbs(layer)))

    def _cached(self, layer: Layer, name: str) -> Array:
        if name not in layer.cache:
            layer.cache[name] = getattr(self, name)(layer)
        return layer.cache[name]


class Dense(Linear):
    """Dense layers, which work on the last axis."""

    def __init__(self) -> None:
        super().__init__("units")

    def absorbs(self, layer: Layer) -> bool:
        """Returns True."""
        return True


class Convolution(Linear):
    """Convolutions; those with groups are removed by whole groups."""

    def __init__(self) -> None:
        super().__init__("filters")

    def link(self, layer: Layer, call: Call, network: Channels) -> list[Array | None]:
        """Returns new groups of channels; in a grouped convolution, one for each of its groups."""
        (ids,) = super().link(layer, call, network)
        if ids is not None and layer.layer.groups > 1:
            layer.kind = Grouped()
            inputs = network.channels[call.inputs[0]]
            split = [np.split(each, layer.layer.groups) for each in (inputs, ids)]
            for part in zip(*split, strict=True):
                members = np.concatenate(part)
                network.tie(np.full(members.size - 1, members[0]), members[1:])
        return [ids]


class Grouped(Convolution):
    """Convolutions with groups: inputs and outputs of a group are kept or removed together."""

    linear = False

    def axes(self, layer: Any) -> dict[str, tuple[str | None, ...]]:
        """Returns the outputs of the kernel; each has the same number of inputs."""
        return {"kernel": ("out",), "bias": ("out",)}

    def link(self, layer: Layer, call: Call, network: Channels) -> list[Array | None]:
        """Returns the groups of the first call, which has made them."""
        return [network.channels[layer.calls[0].outputs[0]]]

    def present(self, layer: Layer) -> Array:
        """Returns the weights as of a convolution without groups."""
        return self._spread(super().present(layer), layer)

    def gain(self, layer: Layer) -> Array:
        """Returns the sums of weights as of a convolution without groups."""
        return self._spread(super().gain(layer), layer)

    def demands(self, layer: Layer, call: Call, network: Channels) -> list[tuple[Value, Array]]:
        """Returns nothing: inputs are tied to outputs."""
        return []

    def config(self, config: dict[str, Any], layer: Layer, network: Channels) -> dict[str, Any]:
        """Sets the number of outputs and of groups."""
        kept = network.kept(layer.calls[0].outputs[0])
        groups = kept.sum() * layer.layer.groups // kept.size
        return {**config, "filters": int(kept.sum()), "groups": int(groups)}

    def adapted(self, layer: Layer, network: Channels) -> tuple[dict[str, Array], dict[str, Array]]:
        """Returns the weights as they are."""
        return layer.weights, layer.present

    def _spread(self, matrix: Array, layer: Layer) -> Array:
        size, groups = matrix.shape[0], layer.layer.groups
        spread = np.zeros((size * groups, matrix.shape[1]), matrix.dtype)
        for number, columns in enumerate(np.split(np.arange(matrix.shape[1]), groups)):
            spread[number * size : (number + 1) * size, columns] = matrix[:, columns]
        return spread


class TransposedConvolution(Convolution):
    """Transposed convolutions, whose outputs depend on the number of inputs that they overlap."""

    def axes(self, layer: Any) -> dict[str, tuple[str | None, ...]]:
        """Returns outputs and inputs of the kernel."""
        return {"kernel": ("out", "in"), "bias": ("out",)}

    def link(self, layer: Layer, call: Call, network: Channels) -> list[Array | None]:
        """Returns new groups."""
        return Linear.link(self, layer, call, network)

    def present(self, layer: Layer) -> Array:
        """Returns which inputs each output has weights for, [in, out]."""
        return super().present(layer).T

    def gain(self, layer: Layer) -> Array:
        """Returns the sums of weights, [in, out]."""
        return super().gain(layer).T

    def absorbs(self, layer: Layer) -> bool:
        """Returns False."""
        return False


class Separable(Convolution):
    """Separable convolutions: one for each input channel, then a 1x1 convolution."""

    linear = False

    def variables(self, layer: Any) -> dict[str, Any]:
        """Returns both kernels and the bias."""
        found = {role: getattr(layer, role) for role in ("depthwise_kernel", "pointwise_kernel")}
        return found | ({} if layer.bias is None else {"bias": layer.bias})

    def axes(self, layer: Any) -> dict[str, tuple[str | None, ...]]:
        """Returns the axes; those between the kernels are "middle"."""
        return {
            "depthwise_kernel": ("in", None),
            "pointwise_kernel": ("middle", "out"),
            "bias": ("out",),
        }

    def link(self, layer: Layer, call: Call, network: Channels) -> list[Array | None]:
        """Returns new groups."""
        return Linear.link(self, layer, call, network)

    def indices(self, layer: Layer, network: Channels) -> dict[str, Array]:
        """Returns the kept indices, with those between the kernels."""
        found = super().indices(layer, network)
        count = layer.weights["depthwise_kernel"].shape[-1]
        middle = found["in"][:, None] * count + np.arange(count)
        return {**found, "middle": middle.ravel()}

    def present(self, layer: Layer) -> Array:
        """Returns which inputs each output has weights for."""
        return self._product(layer.present).astype(bool)

    def gain(self, layer: Layer) -> Array:
        """Returns the output for a constant input of one."""
        return self._product(layer.weights)

    def adapted(self, layer: Layer, network: Channels) -> tuple[dict[str, Array], dict[str, Array]]:
        """Adds absorbed constants to the bias."""
        weights, present = dict(layer.weights), dict(layer.present)
        absorbed = self._absorbed(layer, network)
        if np.any(absorbed):
            bias = weights.get("bias", np.zeros(absorbed.size, np.float32))
            weights["bias"] = (bias + absorbed).astype(bias.dtype)
            present.setdefault("bias", np.ones(absorbed.size, bool))
        return weights, present

    def _product(self, arrays: dict[str, Array]) -> Array:
        depthwise = arrays["depthwise_kernel"].astype(np.float64)
        depthwise = depthwise.sum(tuple(range(depthwise.ndim - 2)))
        pointwise = arrays["pointwise_kernel"].astype(np.float64)
        pointwise = pointwise.reshape(*depthwise.shape, -1)
        return np.einsum("im,imo->io", depthwise, pointwise)


class Depthwise(Kind):
    """Depthwise convolutions: a channel depends on one channel, and is removed with it."""

    def follows(self, layer: Layer, call: Call) -> bool:
        """Returns whether the layer is usual and its activation is elementwise."""
        return is_usual(layer, call) and is_elementwise(layer.layer.activation)

    def variables(self, layer: Any) -> dict[str, Any]:
        """Returns kernel and bias."""
        kernel = _first(layer, DEPTHWISE)
        return {"kernel": kernel} | ({} if layer.bias is None else {"bias": layer.bias})

    def axes(self, layer: Any) -> dict[str, tuple[str | None, ...]]:
        """Returns the inputs of the kernel."""
        return {"kernel": ("in", None), "bias": ("out",)}

    def link(self, layer: Layer, call: Call, network: Channels) -> list[Array | None]:
        """Returns the groups of the input, each for all outputs that depend on it."""
        ids = network.channels[call.inputs[0]]
        return [np.repeat(ids, call.outputs[0].shape[-1] // ids.size)]

    def constants(self, layer: Layer, call: Call, network: Channels) -> list[Known]:
        """Returns the outputs whose kernel is pruned, or whose input is constant."""
        kernel, present = layer.weights["kernel"].astype(np.float64), layer.present["kernel"]
        spatial = tuple(range(kernel.ndim - 2))
        known = np.repeat(network.constant(call.inputs[0]), kernel.shape[-1])
        exact = layer.layer.padding == "valid" or set(layer.layer.kernel_size) == {1}
        varying = np.isnan(known) | ((known != 0) & (not exact))
        sums = np.where(varying, 0, np.nan_to_num(known)) * kernel.sum(spatial).ravel()
        sums = sums + layer.weights.get("bias", 0)
        varying &= present.any(spatial).ravel()
        return [apply(layer.layer.activation, np.where(varying, np.nan, sums))]


class Embedding(Kind):
    """Embeddings: a channel is zero if it is pruned for all words."""

    def follows(self, layer: Layer, call: Call) -> bool:
        """Returns whether the layer has a plain table."""
        quantized = getattr(layer.layer, "quantization_mode", None)
        return (
            len(call.inputs) == 1 and not quantized and not getattr(layer.layer, "lora_enabled", 0)
        )

    def variables(self, layer: Any) -> dict[str, Any]:
        """Returns the table."""
        return {"embeddings": layer.embeddings}

    def axes(self, layer: Any) -> dict[str, tuple[str | None, ...]]:
        """Returns the last axis."""
        return {"embeddings": ("out",)}

    def link(self, layer: Layer, call: Call, network: Channels) -> list[Array | None]:
        """Returns new groups."""
        network.pin(call.inputs[0], f"{layer.name} needs all words")
        return [network.fresh(call.outputs[0])]

    def constants(self, layer: Layer, call: Call, network: Channels) -> list[Known]:
        """Returns zero for channels that are pruned."""
        return [np.where(layer.present["embeddings"].any(0), np.nan, 0.0)]

    def config(self, config: dict[str, Any], layer: Layer, network: Channels) -> dict[str, Any]:
        """Sets the number of channels."""
        return {**config, "output_dim": int(network.kept(layer.calls[0].outputs[0]).sum())}


class Recurrent(Kind):
    """Recurrent layers, which keep their units and drop inputs that have no weights."""

    def follows(self, layer: Layer, call: Call) -> bool:
        """Returns whether the layer is called with a sequence only."""
        return is_usual(layer, call) if len(call.outputs) == 1 else False

    def variables(self, layer: Any) -> dict[str, Any]:
        """Returns the weights of the cell."""
        cell = layer.cell
        found = {"kernel": cell.kernel, "recurrent_kernel": cell.recurrent_kernel}
        return found | ({} if cell.bias is None else {"bias": cell.bias})

    def axes(self, layer: Any) -> dict[str, tuple[str | None, ...]]:
        """Returns the inputs of the kernel."""
        return {"kernel": ("in", None), "recurrent_kernel": (None,), "bias": (None,)}

    def link(self, layer: Layer, call: Call, network: Channels) -> list[Array | None]:
        """Returns new groups, which are kept."""
        ids = network.fresh(call.outputs[0])
        network.pin(ids, f"units of the recurrent layer {layer.name} are kept")
        return [ids]

    def demands(self, layer: Layer, call: Call, network: Channels) -> list[tuple[Value, Array]]:
        """Returns the inputs with weights that are not zero."""
        return [(call.inputs[0], layer.present["kernel"].any(1) & (_known(layer, network) != 0))]


class MultiHeadAttention(Kind):
    """Attention over one axis: heads without output, or without values, are removed."""

    parts = ("query", "key", "value", "output")

    def follows(self, layer: Layer, call: Call) -> bool:
        """Returns whether the inputs are query, value and key, and the output is one axis."""
        plain = "GroupedQueryAttention" not in class_names(layer.layer)
        kernel = layer.weights["output/kernel"]
        return (
            plain
            and kernel.ndim == 3
            and len(call.outputs) == 1
            and not call.kwargs.get("training")
            and set(call.inputs) == set(self._inputs(call).values())
            and layer.weights["query/kernel"].ndim == 3
        )

    def _inputs(self, call: Call) -> dict[str, Value]:
        names = ("query", "value", "key")
        found = dict(zip(names, call.args, strict=False)) | {
            name: call.kwargs[name] for name in names if call.kwargs.get(name) is not None
        }
        if found.get("key") is None:
            found["key"] = found["value"]
        return found

    def variables(self, layer: Any) -> dict[str, Any]:
        """Returns kernels and biases of all parts."""
        found = {}
        for part in self.parts:
            dense = getattr(layer, f"_{part}_dense")
            found[f"{part}/kernel"] = dense.kernel
            if getattr(dense, "bias", None) is not None:
                found[f"{part}/bias"] = dense.bias
        return found

    def axes(self, layer: Any) -> dict[str, tuple[str | None, ...]]:
        """Returns the inputs, heads and outputs."""
        found: dict[str, tuple[str | None, ...]] = {
            "output/kernel": ("head", None, "out"),
            "output/bias": ("out",),
        }
        for part in self.parts[:3]:
            found |= {f"{part}/kernel": (part, "head", None), f"{part}/bias": ("head", None)}
        return found

    def link(self, layer: Layer, call: Call, network: Channels) -> list[Array | None]:
        """Returns new groups for the outputs, and makes those of the heads."""
        if layer.own is None:
            heads = layer.weights["output/kernel"].shape[0]
            layer.own = Value((heads,))
            ids = network.fresh(heads)
            assert ids is not None
            network.channels[layer.own] = ids
            network.known[layer.own] = np.full(heads, np.nan)
        return [network.fresh(call.outputs[0])]

    def constants(self, layer: Layer, call: Call, network: Channels) -> list[Known]:
        """Returns the outputs for which all heads are pruned."""
        working = self._working(layer, call, network)
        varying = (layer.present["output/kernel"].any(1) & working[:, None]).any(0)
        return [np.where(varying, np.nan, layer.weights.get("output/bias", 0.0))]

    def demands(self, layer: Layer, call: Call, network: Channels) -> list[tuple[Value, Array]]:
        """Returns the heads that kept outputs need, and the inputs that kept heads need."""
        assert layer.own is not None
        present = layer.present["output/kernel"][..., network.kept(call.outputs[0])]
        needed = present.any((1, 2)) & self._working(layer, call, network)
        kept = network.kept(layer.own)
        found = [(layer.own, needed)]
        for part, value in self._inputs(call).items():
            rows = layer.present[f"{part}/kernel"][:, kept].any((1, 2))
            found.append((value, rows & (network.constant(value) != 0)))
        return found

    def used_inputs(self, layer: Layer, call: Call, network: Channels) -> list[Value]:
        """Returns the inputs and the heads."""
        assert layer.own is not None
        return [*call.inputs, layer.own]

    def indices(self, layer: Layer, network: Channels) -> dict[str, Array]:
        """Returns the kept indices of heads, inputs and outputs."""
        call = layer.calls[0]
        assert layer.own is not None
        values = {**self._inputs(call), "head": layer.own, "out": call.outputs[0]}
        return {axis: np.flatnonzero(network.kept(value)) for axis, value in values.items()}

    def config(self, config: dict[str, Any], layer: Layer, network: Channels) -> dict[str, Any]:
        """Sets the number of heads and of outputs."""
        indices = self.indices(layer, network)
        built = ("query_shape", "key_shape", "value_shape")
        config = {key: value for key, value in config.items() if key not in built}
        return {
            **config,
            "num_heads": len(indices["head"]),
            "output_shape": len(indices["out"]),
        }

    def make(self, layer: Any, config: dict[str, Any]) -> Any:
        """Returns a new layer; `from_config` of tf_keras needs the shapes of the old inputs."""
        return type(layer)(**config)

    def _working(self, layer: Layer, call: Call, network: Channels) -> Array:
        """Returns which heads have values other than zero."""
        rows = network.constant(self._inputs(call)["value"]) != 0
        bias = layer.weights.get("value/bias", np.zeros(1))
        return layer.present["value/kernel"][rows].any((0, 2)) | np.any(bias, -1)


def _known(layer: Layer, network: Channels) -> Array:
    """Returns the constants of the input that are the same in each call of a layer."""
    known = [network.constant(call.inputs[0]) for call in layer.calls]
    return np.where(np.all([each == known[0] for each in known], axis=0), known[0], np.nan)
