"""`shrink`: a smaller model with the same outputs."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_prac.checks import check_bool
from tf_prac.export.shrinking.check import output_difference
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
from tf_prac.search.ticket import Ticket
from tf_prac.training.masked_weights import get_masks, has_masks

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

    Example:

        >>> shrunk = shrink(network)
        >>> pruned = tf_prac.prune(shrunk.model, masks=shrunk.masks)

    Attributes:
        model: a functional model without masks.
        masks: its masks, for `tf_prac.prune(model, masks=masks)`; empty if nothing is pruned.
        report: what was removed, and what was not.
        max_error: largest difference of outputs for random inputs; None if not compared.
    """

    model: Any
    masks: Masks
    report: ShrinkReport
    max_error: float | None = None

    def __repr__(self) -> str:
        return f"Shrunk({self.model.name}: {self.report!r})"


def shrink(
    model_or_ticket: Any | str | os.PathLike,
    *,
    model: Any = None,
    masks: Mapping[str, np.ndarray] | None = None,
    merge: bool = True,
    check: bool = True,
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
            either flavor with masks or zeros, or a ticket and its model. It is not changed.
        merge: whether constants before padding are merged. With False, the gradients of all
            remaining weights stay the same too, except of a channel that is only kept because a
            layer needs one. Default True.
        check: whether to compare the outputs for random inputs. Default True.

    Returns:
        The smaller model, its masks and a report. The model is not compiled.

    Raises:
        ArgumentError: If the model's graph cannot be followed, as in a subclassed model, or a layer
            cannot be made from its config.
        MismatchError: If the masks do not match the model, or the outputs are not the same.
    """
    check_bool("merge", merge)
    check_bool("check", check)
    original, network, by_id = network_of(model_or_ticket, model, masks)
    network.solve(merge)
    smaller, new_masks = rebuild(original, network, by_id)
    max_error = output_difference("shrink", original, smaller) if check else None
    return Shrunk(smaller, new_masks, report_of(network, original, smaller), max_error)


def network_of(
    model_or_ticket: Any, model: Any, masks: Mapping[str, np.ndarray] | None
) -> tuple[Any, Network, dict[int, np.ndarray]]:
    """Returns the plain model of a model or ticket, its network, and masks by id of variable."""
    source = source_of(model_or_ticket, model=model, masks=masks)
    plain = source.network
    graph_of(plain)  # refuses models that cannot be followed, before they are copied
    if source.weights is not None:
        plain = copy_of(plain)
        rewind(plain, source.weights)
    variables = {w.name: w.variable for w in named_weights(plain)}
    all_masks = {**_masks_of(model_or_ticket, masks), **source.masks}
    by_id = {id(variables[name]): mask for name, mask in all_masks.items()}
    return plain, Network(graph_of(plain), kind_of, by_id), by_id


def _masks_of(model_or_ticket: Any, masks: Mapping[str, np.ndarray] | None) -> Masks:
    """Returns the masks of a model or ticket, those that prune nothing too."""
    if isinstance(model_or_ticket, (str, os.PathLike)):
        model_or_ticket = Ticket.load(model_or_ticket)
    if isinstance(model_or_ticket, Ticket):
        return model_or_ticket.masks
    if masks is None and has_masks(model_or_ticket):
        return get_masks(model_or_ticket)
    return Masks(masks or {})
