"""`fold_batch_norm`: batch normalization as part of the layers before it, for serving."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_prac.checks import check_bool
from tf_prac.export.shrinking.channels import Array, Channels
from tf_prac.export.shrinking.check import output_difference
from tf_prac.export.shrinking.kinds import (
    BatchNormalization,
    Kind,
    Layer,
    is_linear,
    scale_and_offset,
)
from tf_prac.export.shrinking.network import Network
from tf_prac.export.shrinking.readers import Depthwise, Linear
from tf_prac.export.shrinking.rebuild import rebuild
from tf_prac.export.shrinking.shrink import kind_of, network_of
from tf_prac.pruning.masks import Masks


@dataclasses.dataclass(frozen=True)
class Folded:
    """A model whose batch normalization is folded.

    Example:

        >>> folded = fold_batch_norm(network)
        >>> folded.folded, folded.kept

    Attributes:
        model: a functional model without masks, for inference.
        masks: its masks; empty if nothing is pruned.
        folded: names of the BatchNormalization layers that are gone.
        kept: the other ones, each with the reason.
        max_error: largest difference of outputs for random inputs; None if not compared.
    """

    model: Any
    masks: Masks
    folded: tuple[str, ...]
    kept: Mapping[str, str]
    max_error: float | None

    def __repr__(self) -> str:
        kept = "".join(f", kept {name}: {reason}" for name, reason in self.kept.items())
        return f"Folded({self.model.name}: {len(self.folded)} layers{kept})"


def fold_batch_norm(
    model_or_ticket: Any | str | os.PathLike,
    *,
    model: Any = None,
    masks: Mapping[str, np.ndarray] | None = None,
    check: bool = True,
) -> Folded:
    """Multiplies the weights of layers by the scale of the batch normalization that follows them.

    The result computes the same in inference with fewer layers: convolutions and dense layers have
    the moving statistics in kernel and bias. Pruned weights stay zero. Do not train it: it
    normalizes no batches. To shrink it too, call `shrink` first.

    Example:

        >>> fold_batch_norm(shrink(pruned).model)  # doctest: +SKIP
        Folded(resnet20: 19 layers)

    Source: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", Section 3.2.

    Args:
        model_or_ticket, model, masks: as for `shrink`. The model is not changed.
        check: whether to compare the outputs for random inputs. Default True.

    Returns:
        The `Folded` model.

    Raises:
        ArgumentError, MismatchError: As for `shrink`.
    """
    check_bool("check", check)
    original, network, by_id = network_of(model_or_ticket, model, masks)
    network.keep[:] = True
    folded, kept = {}, {}
    for layer in network.layers.values():
        if isinstance(kind_of(layer.layer), BatchNormalization):
            before, reason = _layer_before(layer, network)
            if before is None:
                kept[layer.name] = reason
            else:
                folded[layer.name] = (before, layer)
    for before, layer in folded.values():
        before.kind = _Scaled(before.kind, *scale_and_offset(layer.layer))
        layer.kind = _Nothing()
    smaller, new_masks = rebuild(original, network, by_id)
    max_error = output_difference("fold_batch_norm", original, smaller) if check else None
    return Folded(smaller, new_masks, tuple(folded), kept, max_error)


def _layer_before(layer: Layer, network: Network) -> tuple[Layer | None, str]:
    """Returns the layer that can take over a batch normalization, or the reason why none can."""
    if len(layer.calls) > 1:
        return None, "it is shared"
    if not isinstance(layer.kind, BatchNormalization):
        batches = layer.calls[0].kwargs.get("training")
        return None, "it normalizes " + ("batches (training=True)" if batches else "another axis")
    (value,) = layer.calls[0].inputs
    for call in network.graph.calls:
        if value in call.outputs:
            before = network.layers[id(call.layer)]
            break
    else:
        return None, "it follows an input"
    if not isinstance(before.kind, (Linear, Depthwise)):
        return None, f"it follows {before.name} ({type(before.layer).__name__})"
    readers = [call for call in network.graph.calls if value in call.inputs]
    if len(readers) > 1 or value in network.outputs or len(before.calls) > 1:
        return None, f"other layers use {before.name} too"
    if not is_linear(before.layer.activation):
        return None, f"it follows an activation, that of {before.name}"
    return before, ""


class _Nothing(BatchNormalization):
    """A layer that is left out."""

    skips = True


class _Scaled(Kind):
    """A layer whose outputs are scaled and shifted by its weights.

    Args:
        kind: the kind of the layer.
        scale, offset: of each output.
    """

    def __init__(self, kind: Kind, scale: Array, offset: Array):
        self.kind, self.scale, self.offset = kind, scale, offset

    def variables(self, layer: Any) -> dict[str, Any]:
        """Returns those of the kind."""
        return self.kind.variables(layer)

    def axes(self, layer: Any) -> dict[str, tuple[str | None, ...]]:
        """Returns those of the kind."""
        return self.kind.axes(layer)

    def indices(self, layer: Layer, network: Channels) -> dict[str, Array]:
        """Returns those of the kind."""
        return self.kind.indices(layer, network)

    def config(self, config: dict[str, Any], layer: Layer, network: Channels) -> dict[str, Any]:
        """Adds a bias."""
        return {**config, "use_bias": True}

    def adapted(self, layer: Layer, network: Channels) -> tuple[dict[str, Array], dict[str, Array]]:
        """Returns the scaled weights."""
        weights = dict(layer.weights)
        axes = self.axes(layer.layer)
        role = next((r for r in axes if r != "bias" and "out" in axes[r]), "kernel")
        kernel = weights[role].astype(np.float64)
        if isinstance(self.kind, Depthwise):
            kernel = kernel * self.scale.reshape(kernel.shape[-2:])
        else:
            position = axes[role].index("out") - len(axes[role])
            kernel = np.moveaxis(np.moveaxis(kernel, position, -1) * self.scale, -1, position)
        bias = weights.get("bias", 0) * self.scale + self.offset
        dtype = weights[role].dtype
        weights |= {role: kernel.astype(dtype), "bias": bias.astype(dtype)}
        return weights, {**layer.present, "bias": np.ones(bias.shape, bool)}
