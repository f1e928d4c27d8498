"""`Source`: the network and masks that are exported, and the rewind weights of a ticket."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tf_prac.config import LAYER_GROUPS, PruningConfig
from tf_prac.errors import ArgumentError, MismatchError
from tf_prac.export.serving import Serving, serve
from tf_prac.keras_api import named_weights, to_numpy
from tf_prac.pruning.masks import Masks
from tf_prac.pruning.weights import rewind, snapshot, weight_report
from tf_prac.search.ticket import Ticket
from tf_prac.training.masked_weights import attach_masks
from tf_prac.training.pruned import strip

ALL_LAYERS = PruningConfig(layers=LAYER_GROUPS, prune_last_dense=True)


@dataclasses.dataclass(frozen=True)
class Source:
    """A model or ticket to export.

    Attributes:
        network: a built model of either flavor.
        masks: the masks of its pruned weights; empty for a dense network.
        kind: "model", or "ticket" for masked rewind weights.
        metadata: values of the ticket for the metadata.
        weights: the weights to export, by name; None: those of `network`.
        loss: the loss that the model is compiled with, or None.
    """

    network: Any
    masks: Masks
    kind: str = "model"
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    weights: Mapping[str, np.ndarray] | None = None
    loss: Any = None

    @contextlib.contextmanager
    def applied(self, weights: Mapping[str, np.ndarray] | None = None) -> Iterator[None]:
        """Sets the network to the weights to export, or to `weights`, during the block."""
        if weights is None:
            weights = self.weights
        if weights is None:
            yield
            return
        original = snapshot(self.network)
        rewind(self.network, weights)
        try:
            yield
        finally:
            rewind(self.network, original)

    @contextlib.contextmanager
    def served(
        self, inputs: Any = None, preprocess: Any = None, softmax: bool = False
    ) -> Iterator[Serving]:
        """Yields the traced network with the weights to export; arguments of `serve`."""
        with self.applied():
            yield serve(
                self.network, inputs=inputs, preprocess=preprocess, softmax=softmax, loss=self.loss
            )


def source_of(
    model_or_ticket: Any, *, model: Any = None, masks: Mapping[str, np.ndarray] | None = None
) -> Source:
    """Returns the `Source` of a model or ticket.

    Args:
        model_or_ticket: a built model, pruned (`prune`, `PracModel`, TFMOT's wrappers) or plain; a
            `Ticket`; or the directory of a ticket.
        model: for a ticket, a built model of its architecture.
        masks: masks of the model, by name. By default those of the pruned model or ticket; for a
            plain model, the zeros of its prunable weights.

    Raises:
        ArgumentError: If a ticket is given without a model, or the object is not a model.
        MismatchError: If the masks do not match the model, or a masked weight is not zero.
    """
    if isinstance(model_or_ticket, (str, os.PathLike)):
        model_or_ticket = Ticket.load(model_or_ticket)
    if isinstance(model_or_ticket, Ticket):
        return _source_of_ticket(model_or_ticket, model)
    network = strip(model_or_ticket)
    if network is not model_or_ticket and masks is None:
        masks = attach_masks(model_or_ticket).masks
    source = _source_of_model(network, masks)
    return dataclasses.replace(source, loss=getattr(model_or_ticket, "loss", None))


def _source_of_ticket(ticket: Ticket, model: Any) -> Source:
    if model is None:
        raise ArgumentError(
            "model", None, "a built model", "A ticket has weights and masks, not an architecture."
        )
    metadata = {
        "round": ticket.round,
        "rewind_step": ticket.rewind_step,
        "lr_rewind": ticket.lr_rewind,
    }
    weights = ticket.masks.apply(ticket.weights)
    source = Source(
        model,
        _pruning_masks(ticket.masks),
        "ticket",
        {"ticket": metadata},
        weights,
        getattr(model, "loss", None),
    )
    with source.applied():  # raises an error if the architecture differs
        return source


def _source_of_model(network: Any, masks: Mapping[str, np.ndarray] | None) -> Source:
    weights = {w.name: w.variable for w in named_weights(network)}
    if masks is None:
        return Source(network, _masks_of_zeros(network, weights))
    masks = masks if isinstance(masks, Masks) else Masks(masks)
    shapes = {name: tuple(v.shape) for name, v in weights.items() if name in masks}
    masks.check_shapes(shapes)
    for name, mask in masks.items():
        nonzero = int(np.count_nonzero(to_numpy(weights[name])[~mask]))
        if nonzero:
            raise MismatchError(
                f"masks: {name} has {nonzero:,} non-zero weights where its mask prunes. "
                "Apply the mask to the model first, or train it as a PracModel with this mask."
            )
    return Source(network, _pruning_masks(masks))


def _masks_of_zeros(network: Any, weights: Mapping[str, Any]) -> Masks:
    report = weight_report(network, ALL_LAYERS, frozen=True)
    prunable = [info.name for info in report if info.prunable]
    return _pruning_masks(Masks({name: to_numpy(weights[name]) != 0 for name in prunable}))


def _pruning_masks(masks: Masks) -> Masks:
    """The masks that prune at least one element."""
    return Masks({name: mask for name, mask in masks.items() if not mask.all()})
