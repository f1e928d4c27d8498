"""`Network`: the channels of a functional model, and which of them can be removed.

A group of channels is removed if each layer that reads it ignores it (all weights for it are
pruned, or their outputs are removed) or if it is constant there, and the layer can absorb the
constant in its bias.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tf_prac.export.shrinking.channels import Array, Channels
from tf_prac.export.shrinking.kinds import Kind, Layer
from tf_prac.keras_api import Call, Graph, Value

INPUT = "an input of the model"
OUTPUT = "an output of the model"
LAST = "a layer keeps at least one channel"


class Network(Channels):
    """The channels of a model.

    Args:
        graph: the calls of the model.
        kind_of: returns the kind of a layer.
        masks: by id of a variable, the elements that are kept. Other weights are kept.

    Attributes:
        layers: the layers by id of the Keras layer.
        demanded: which layer needs a group that is kept.
    """

    def __init__(self, graph: Graph, kind_of: Callable[[Any], Kind], masks: Mapping[int, Array]):
        super().__init__()
        self.graph = graph
        self.layers: dict[int, Layer] = {}
        for call in graph.calls:
            if id(call.layer) not in self.layers:
                self.layers[id(call.layer)] = _layer(call, kind_of(call.layer), masks)
            self.layers[id(call.layer)].calls.append(call)
        for layer in self.layers.values():
            if not _is_followed(layer):
                layer.kind, layer.weights = Kind(), {}
        self._link()
        self.finish()
        self._find_constants()
        self.demanded: dict[int, tuple[Layer, Value]] = {}

    def _link(self) -> None:
        for _, value in self.graph.inputs:
            self._set(value, self.fresh(value))
            self.pin(value, INPUT)
        for call in self.graph.calls:
            layer = self.layers[id(call.layer)]
            for value, ids in zip(call.outputs, layer.kind.link(layer, call, self), strict=True):
                self._set(value, ids)
            first = layer.calls[0]
            if call is not first:  # a shared layer has one set of weights, and one config
                tensors = layer.kind.tied(layer, call), layer.kind.tied(layer, first)
                for a, b in zip(*tensors, strict=True):
                    self._tie_values(a, b)
        for value in self.outputs:
            self.pin(value, OUTPUT)

    def _tie_values(self, a: Value, b: Value) -> None:
        """Ties the channels of two tensors; a last axis of another size is none of channels."""
        first, second = self.channels.get(a), self.channels.get(b)
        if first is not None and second is not None and first.size == second.size:
            self.tie(first, second)

    def _set(self, value: Value, ids: Array | None) -> None:
        if ids is not None:
            self.channels[value] = ids

    @property
    def outputs(self) -> list[Value]:
        """The outputs of the model."""
        import tensorflow as tf

        return tf.nest.flatten(self.graph.output_structure)

    # Constants

    def _find_constants(self) -> None:
        for _, value in self.graph.inputs:
            self._set_known(value, None)
        for call in self.graph.calls:
            layer = self.layers[id(call.layer)]
            results = layer.kind.constants(layer, call, self)
            for value, known in zip(call.outputs, results, strict=True):
                self._set_known(value, known)
            if layer.kind.pads(layer):
                self.padded.update(call.outputs)

    def _set_known(self, value: Value, known: Array | None) -> None:
        if value in self.channels:
            size = self.channels[value].size
            self.known[value] = np.full(size, np.nan) if known is None else known

    # Which groups are kept

    def solve(self, merge: bool) -> None:
        """Finds the groups to keep: a fixed point, as each removal can make others dead.

        Args:
            merge: whether constant channels that cannot be absorbed are merged into one.
        """
        self._demand_until_stable()
        while merge and self._merge():
            self._demand_until_stable()

    def _demand_until_stable(self) -> None:
        while True:
            self.keep[:] = False
            self.demanded.clear()
            self.keep[list(self.pinned)] = True
            while self._demand():
                pass
            if not self._keep_one_channel():
                return

    def _demand(self) -> bool:
        """Keeps the groups that a layer needs for its kept outputs; returns whether any is new."""
        before = int(self.keep.sum())
        for call in reversed(self.graph.calls):
            layer = self.layers[id(call.layer)]
            for value, needed in self.demands(layer, call):
                groups = self.channels[value][needed]
                for group in groups[~self.keep[groups]].tolist():
                    if group not in self.merged:
                        self.demanded[group] = (layer, value)
                        self.keep[group] = True
        return int(self.keep.sum()) > before

    def demands(self, layer: Layer, call: Call) -> list[tuple[Value, Array]]:
        """Returns for the inputs of a call which channels it needs."""
        return [each for each in layer.kind.demands(layer, call, self) if each[0] in self.channels]

    def used(self) -> tuple[list[Call], list[Value]]:
        """Returns the calls and tensors that the smaller model consists of, in order."""
        values = dict.fromkeys(self.outputs)
        calls = []
        for call in reversed(self.graph.calls):
            if any(value in values for value in call.outputs):
                layer = self.layers[id(call.layer)]
                values.update(dict.fromkeys(layer.kind.used_inputs(layer, call, self)))
                calls.append(call)
        return calls[::-1], list(values)

    def _keep_one_channel(self) -> bool:
        """Pins a channel of the first tensor that is used and has none; returns if there is one."""
        for value in self.used()[1]:
            if value not in self.channels or not self.channels[value].size:
                continue
            if not self.kept(value).any():
                known = self.known[value]
                order = np.argsort(np.where(np.isnan(known), 2, known != 0), kind="stable")
                group = int(self.channels[value][order[0]])
                self.merged.pop(group, None)
                self.pinned[group] = LAST
                return True
        return False

    # Constants before padding

    def _merge(self) -> bool:
        """Merges groups that are constant wherever a layer reads them; returns whether any was.

        A convolution with padding sees a constant as an image with zeros around it, and this image
        is the same for all channels, but for a factor. So one of them can stand for all.
        """
        readers: dict[int, list[tuple[int, int, float]]] = {}
        others = {*self.pinned, *self.merged}
        for number, call in enumerate(self.graph.calls):
            layer = self.layers[id(call.layer)]
            for position, (value, needed) in enumerate(self.demands(layer, call)):
                groups = self.channels[value]
                if not layer.kind.linear:
                    others.update(groups[needed].tolist())
                    continue
                for index in np.flatnonzero(needed):
                    known = float(self.known[value][index])
                    readers.setdefault(int(groups[index]), []).append((number, position, known))
        families: dict[Any, list[tuple[int, float]]] = {}
        for group, reads in readers.items():
            values = np.array([known for _, _, known in reads])
            calls = [read[:2] for read in reads]
            if group in others or len(set(calls)) < len(calls) or not np.all(values):
                continue
            if np.isfinite(values).all():
                ratios = tuple(np.round(values / values[0], 6).tolist())
                families.setdefault((tuple(calls), ratios), []).append((group, values[0]))
        changed = False
        for members in families.values():
            if len(members) > 1:
                into, scale = max(members, key=lambda each: abs(each[1]))
                self.pinned[into] = "stands for constants that meet padding"
                for group, constant in members:
                    if group != into:
                        self.merged[group] = (into, constant / scale)
                        changed = True
        return changed


def _is_followed(layer: Layer) -> bool:
    """Whether the kind of a layer describes all of its calls."""
    counts = {(len(call.inputs), len(call.outputs)) for call in layer.calls}
    own = {id(variable) for variable in layer.kind.variables(layer.layer).values()}
    if own and (len(counts) > 1 or any(id(w) not in own for w in layer.layer.weights)):
        return False  # such as a layer with weights as an activation
    return all(layer.kind.follows(layer, call) for call in layer.calls)


def _layer(call: Call, kind: Kind, masks: Mapping[int, Array]) -> Layer:
    variables = kind.variables(call.layer)
    weights = {role: np.asarray(v) for role, v in variables.items()}
    present = {
        role: masks.get(id(variable), np.ones(weights[role].shape, bool))
        for role, variable in variables.items()
    }
    return Layer(call.layer, kind, call.path + call.layer.name, weights, present)
