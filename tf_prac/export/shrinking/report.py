"""`ShrinkReport`: the channels of each layer before and after, and why others are kept."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tf_prac.export.shrinking.kinds import Layer
from tf_prac.export.shrinking.network import Network
from tf_prac.keras_api import named_weights
from tf_prac.tables import text_table


@dataclasses.dataclass(frozen=True)
class LayerChannels:
    """The channels of the output of a layer.

    Attributes:
        name: of the layer, after the names of nested models.
        before, after: number of channels; `after` is 0 for a layer that is removed.
        kept_constant: how many of the remaining channels are constant, or read by no layer.
        reason: why these are kept; "" if there are none.
    """

    name: str
    before: int
    after: int
    kept_constant: int = 0
    reason: str = ""


@dataclasses.dataclass(frozen=True, repr=False)
class ShrinkReport:
    """What `shrink` removed.

    Example:

        >>> report = tf_prac.export.shrink(network).report
        >>> print(report.text())

    Attributes:
        layers: the layers with weights.
        parameters: number of weights before and after.
        merged: how many constant channels were added to others.
        not_followed: names and classes of the layers that are not known, whose inputs stay.
    """

    layers: tuple[LayerChannels, ...]
    parameters: tuple[int, int]
    merged: int
    not_followed: tuple[str, ...]

    @property
    def channels(self) -> tuple[int, int]:
        """Number of channels of all layers before and after."""
        return sum(each.before for each in self.layers), sum(each.after for each in self.layers)

    def __repr__(self) -> str:
        channels = " to ".join(f"{count:,}" for count in self.channels)
        parameters = " to ".join(f"{count:,}" for count in self.parameters)
        kept = sum(each.kept_constant for each in self.layers)
        more = f", {kept:,} constant or unread channels kept" if kept else ""
        lost = f", not followed: {', '.join(self.not_followed)}" if self.not_followed else ""
        return f"ShrinkReport({channels} channels, {parameters} parameters{more}{lost})"

    def text(self) -> str:
        """Returns a table with a row for each layer, and the layers that are not known."""
        rows = [("layer", "channels", "kept", "why constant or unread channels are kept")]
        rows += [
            (each.name, f"{each.before:,}", f"{each.after:,}", each.reason) for each in self.layers
        ]
        lines = [text_table(rows, left=[0, 3])]
        lines += [
            f"not followed: {name}; its inputs keep all channels" for name in self.not_followed
        ]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Returns the report as JSON values, for the metadata of an export."""
        return {
            "channels": list(self.channels),
            "parameters": list(self.parameters),
            "merged": self.merged,
            "not_followed": list(self.not_followed),
            "layers": [dataclasses.asdict(each) for each in self.layers],
        }


def report_of(network: Network, model: Any, smaller: Any) -> ShrinkReport:
    """Returns the report of a solved network, its model and the smaller one."""
    calls = {id(call.layer) for call in network.used()[0]}
    rows, not_followed = [], []
    for layer in network.layers.values():
        if type(layer.kind).__name__ == "Kind":
            not_followed.append(f"{layer.name} ({type(layer.layer).__name__})")
        elif layer.weights and layer.calls[0].outputs[0] in network.channels:
            rows.append(_row(layer, network, id(layer.layer) in calls))
    sizes = [
        sum(int(np.prod(weight.variable.shape)) for weight in named_weights(each))
        for each in (model, smaller)
    ]
    return ShrinkReport(tuple(rows), (sizes[0], sizes[1]), len(network.merged), tuple(not_followed))


def _row(layer: Layer, network: Network, used: bool) -> LayerChannels:
    value = layer.calls[0].outputs[0]
    groups, kept = network.channels[value], network.kept(value)
    constant = kept & ~np.isnan(network.known[value]) & used
    reasons: dict[str, int] = {}
    for group in groups[constant].tolist():
        reason = _reason(group, network)
        reasons[reason] = reasons.get(reason, 0) + 1
    text = "; ".join(f"{count}: {reason}" for reason, count in reasons.items())
    after = int(kept.sum()) if used else 0
    return LayerChannels(layer.name, groups.size, after, int(constant.sum()), text)


def _reason(group: int, network: Network) -> str:
    if group in network.pinned:
        return network.pinned[group]
    layer, value = network.demanded[group]
    here = network.known[value][network.channels[value] == group]
    if np.isnan(here).any():
        return f"added to others that {layer.name} reads"
    return f"{layer.name} pads its input with zeros"
