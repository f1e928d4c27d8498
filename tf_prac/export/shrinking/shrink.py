"""`shrink`: a smaller model with the same outputs."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_prac.checks import check_bool
from tf_prac.export.shrinking.kinds import (
    Add,
    BatchNormalization,
    ChannelPadding,
    Concatenate,
    Elementwise,
    Flatten,
    Join,
    Kind,
    Padding,
    Passing,
    PReLU,
    Random,
    product,
)
from tf_prac.export.shrinking.network import Network
from tf_prac.export.shrinking.readers import (
    Convolution,
    Dense,
    Depthwise,
    Embedding,
    MultiHeadAttention,
    Recurrent,
    Separable,
    TransposedConvolution,
)
from tf_prac.export.shrinking.rebuild import rebuild
from tf_prac.export.shrinking.report import ShrinkReport, report_of
from tf_prac.export.source import source_of
from tf_prac.keras_api import copy_of, graph_of, named_weights
from tf_prac.pruning.masks import Masks
from tf_prac.pruning.weights import rewind

_DIMENSIONS = ("1D", "2D", "3D")
_POOLING = ("MaxPooling", "AveragePooling", "GlobalMaxPooling", "GlobalAveragePooling")

KINDS: dict[str, Kind] = {
    "Dense": Dense(),
    **{f"Conv{size}": Convolution() for size in _DIMENSIONS},
    **{f"Conv{size}Transpose": TransposedConvolution() for size in _DIMENSIONS},
    **{f"SeparableConv{size}": Separable() for size in _DIMENSIONS[:2]},
    **{f"DepthwiseConv{size}": Depthwise() for size in _DIMENSIONS[:2]},
    "Embedding": Embedding(),
    **dict.fromkeys(("SimpleRNN", "GRU", "LSTM"), Recurrent()),
    "MultiHeadAttention": MultiHeadAttention(),
    "BatchNormalization": BatchNormalization(),
    "PReLU": PReLU(),
    **dict.fromkeys(("Activation", "ReLU", "LeakyReLU", "ELU"), Elementwise()),
    **{
        f"{name}{size}": Passing()
        for name in (*_POOLING, "UpSampling", "Cropping")
        for size in _DIMENSIONS
    },
    **{f"ZeroPadding{size}": Padding() for size in _DIMENSIONS},
    "RepeatVector": Passing(),
    "Identity": Passing(),
    **dict.fromkeys(("Dropout", *(f"SpatialDropout{size}" for size in _DIMENSIONS)), Random()),
    **dict.fromkeys(("Flatten", "Reshape"), Flatten()),
    "Add": Add(),
    "Subtract": Join(lambda known: known[0] - known[1]),
    "Multiply": Join(product),
    "Average": Join(lambda known: np.asarray(sum(known)) / len(known)),
    "Maximum": Join(lambda known: np.max(known, axis=0)),
    "Minimum": Join(lambda known: np.min(known, axis=0)),
    "Concatenate": Concatenate(),
}
"""The kinds of Keras's layers, by class name. Others, and subclasses, keep all channels."""


def kind_of(layer: Any) -> Kind:
    """Returns the kind of a layer."""
    if not type(layer).__module__.startswith(("keras.src.layers", "tf_keras.src.layers")):
        return Kind()
    name = type(layer).__name__
    if name == "ZeroPadding2D" and layer.data_format == "channels_first":
        return ChannelPadding()
    return KINDS.get(name, Kind())


@dataclasses.dataclass(frozen=True)
class Shrunk:
    """A smaller model.

    Attributes:
        model: a functional model without masks.
        masks: its masks, for `tf_prac.prune(model, masks=masks)`; empty if nothing is pruned.
        report: what was removed, and what was not.
    """

    model: Any
    masks: Masks
    report: ShrinkReport

    def __repr__(self) -> str:
        return f"Shrunk({self.model.name}: {self.report!r})"


def shrink(
    model_or_ticket: Any | str | os.PathLike,
    *,
    model: Any = None,
    masks: Mapping[str, np.ndarray] | None = None,
    merge: bool = True,
) -> Shrunk:
    """Removes the channels that masks have made dead or constant; outputs stay the same.

    Channels, units, attention heads and branches are removed if each weight that reads them is
    pruned, or if each weight that computes them is: their constant value, through bias, batch
    normalization and activation, is added to the next bias. A convolution with padding sees a
    constant other than zero as an image with zeros around it; `merge` keeps one such channel for
    all. Each removal can make other channels dead, until none is.

    Nested models are inlined. Layers that are not known keep all channels of their inputs; the
    report names them. Outputs are those in inference; in training, a constant channel differs if
    batch normalization follows it whose moving statistics are not those of a batch.

    Example:

        >>> shrunk = shrink(pruned)  # doctest: +SKIP
        >>> print(shrunk.report.text())
        >>> pruned = tf_prac.prune(shrunk.model, masks=shrunk.masks)  # to train it further

    Args:
        model_or_ticket, model, masks: as for `saved_model`: a functional or sequential model of
            either flavour with masks or zeros, or a ticket and its model. It is not changed.
        merge: whether constants before padding are merged. With False, the gradients of all
            remaining weights stay the same too. Default True.

    Returns:
        The smaller model, its masks and a report. The model is not compiled.

    Raises:
        ArgumentError: If the model's graph cannot be followed, as in a subclassed model, or a layer
            cannot be made from its config.
        MismatchError: If the masks do not match the model.
    """
    check_bool("merge", merge)
    source = source_of(model_or_ticket, model=model, masks=masks)
    network_model = source.network
    if source.weights is not None:
        network_model = copy_of(network_model)
        rewind(network_model, source.weights)
    variables = {w.name: w.variable for w in named_weights(network_model)}
    by_id = {id(variables[name]): mask for name, mask in source.masks.items()}
    network = Network(graph_of(network_model), kind_of, by_id)
    network.solve(merge)
    smaller, new_masks = rebuild(network_model, network, by_id)
    return Shrunk(smaller, new_masks, report_of(network, network_model, smaller))
