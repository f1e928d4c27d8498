"""The calls between the layers of a serialized functional model.

Keras makes these calls while it builds the model. It executes a call without a symbolic tensor at
once, and Keras 2 waits forever for an output that no call returns.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_GRAPHS = ("Functional", "Model", "Sequential")


def find_bad_call(layers: list[Any]) -> tuple[Any, str] | None:
    """Returns the name of a layer whose calls cannot be made, and why; None if all can be.

    Args:
        layers: the "layers" of a serialized model of either flavor.
    """
    layers = [layer for layer in layers if isinstance(layer, dict)]
    names = {str(layer.get("name")) for layer in layers}
    waiting: list[tuple[str, list[tuple[str, int]]]] = []
    for layer in layers:
        for node in _nodes(layer):
            outputs = list(_outputs(node, names))
            if not outputs:
                return layer.get("name"), "a call on constants only"
            waiting.append((str(layer.get("name")), outputs))
    calls = _calls_before(layers)
    progress = True
    while waiting and progress:
        blocked: set[str] = set()
        still = []
        for name, outputs in waiting:
            if name in blocked or any(index >= calls[other] for other, index in outputs):
                blocked.add(name)  # the calls of a layer are made in order
                still.append((name, outputs))
            else:
                calls[name] += 1
        progress = len(still) < len(waiting)
        waiting = still
    return (waiting[0][0], "a call on an output that no call returns") if waiting else None


def _calls_before(layers: list[dict[str, Any]]) -> dict[str, float]:
    """The outputs that a layer has before its calls: an input any, a nested model its own."""
    return {
        str(layer.get("name")): float("inf")
        if layer.get("class_name") == "InputLayer"
        else int(str(layer.get("class_name")).endswith(_GRAPHS))
        for layer in layers
    }


def _nodes(layer: dict[str, Any]) -> list[Any]:
    nodes = layer.get("inbound_nodes") or []
    return nodes if isinstance(nodes, list) else [nodes]


def _outputs(value: Any, names: set[str]) -> Iterator[tuple[str, int]]:
    """Yields the outputs of layers among the arguments of a call: (layer, number of its call)."""
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            config = value.get("config")
            value = config.get("keras_history") if isinstance(config, dict) else None
            yield from _outputs(value, names)
            return
        value = list(value.values())
    if not isinstance(value, list):
        return
    if value[:1] == ["_CONSTANT_VALUE"]:
        value = value[3:]
    elif len(value) >= 3 and isinstance(value[0], str) and value[0] in names:
        yield value[0], value[1] if type(value[1]) is int else -1
        value = value[3:]
    for item in value:
        yield from _outputs(item, names)
