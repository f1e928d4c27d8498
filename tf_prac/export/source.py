"""What is exported: a network, its masks, and for a ticket the weights to export it with."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tf_prac.config import LAYER_GROUPS, PruningConfig
from tf_prac.errors import ArgumentError, MismatchError
from tf_prac.keras_api import named_weights, to_numpy
from tf_prac.pruning.masks import Masks
from tf_prac.pruning.weights import rewind, snapshot, weight_report
from tf_prac.search.ticket import Ticket
from tf_prac.training.masked_weights import held_masks
from tf_prac.training.pruned import strip

EVERYTHING = PruningConfig(layers=LAYER_GROUPS, prune_last_dense=True)


@dataclasses.dataclass(frozen=True)
class Source:
    """What is exported.

    Attributes:
        network: a built model of either flavour.
        masks: the masks of its pruned weights; empty for a dense network.
        kind: "model", or "ticket" for the masked rewind weights.
        about: figures of the ticket, for the metadata.
        weights: every weight, by name, if they are not those of `network`.
    """

    network: Any
    masks: Masks
    kind: str = "model"
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    weights: Mapping[str, np.ndarray] | None = None

    @contextlib.contextmanager
    def applied(self, weights: Mapping[str, np.ndarray] | None = None) -> Iterator[None]:
        """Gives the network the weights to export, or others, until the block ends."""
        wanted = weights if weights is not None else self.weights
        if wanted is None:
            yield
            return
        before = snapshot(self.network)
        rewind(self.network, wanted)
        try:
            yield
        finally:
            rewind(self.network, before)


def source_of(
    model_or_ticket: Any, *, model: Any = None, masks: Mapping[str, np.ndarray] | None = None
) -> Source:
    """Reads what the user gave.

    Args:
        model_or_ticket: a built model, pruned (`prune`, `PracModel`, TFMOT's wrappers) or plain, a
            `Ticket`, or the directory of a ticket.
        model: for a ticket, a built model of its architecture.
        masks: masks of the model. Default: those of a pruned model or ticket; of a plain model,
            the zeros of its prunable weights.

    Raises:
        ArgumentError: a ticket without a model, or no model at all.
        MismatchError: masks that are not the model's, or non-zero weights under them.
    """
    if isinstance(model_or_ticket, (str, os.PathLike)):
        model_or_ticket = Ticket.load(model_or_ticket)
    if isinstance(model_or_ticket, Ticket):
        return _of_ticket(model_or_ticket, model)
    network = strip(model_or_ticket)
    if network is not model_or_ticket and masks is None:
        masks = held_masks(model_or_ticket).get()
    return _of_model(network, masks)


def _of_ticket(ticket: Ticket, model: Any) -> Source:
    if model is None:
        raise ArgumentError(
            "model", None, "a built model", "A ticket has weights and masks, not an architecture."
        )
    figures = {
        "round": ticket.round,
        "rewind_step": ticket.rewind_step,
        "lr_rewind": ticket.lr_rewind,
    }
    weights = ticket.masks.apply(ticket.weights)
    source = Source(model, _pruned(ticket.masks), "ticket", {"ticket": figures}, weights)
    with source.applied():
        return source  # refuses another architecture


def _of_model(network: Any, masks: Mapping[str, np.ndarray] | None) -> Source:
    weights = {w.name: w.variable for w in named_weights(network)}
    if masks is None:
        return Source(network, _zeros(network, weights))
    masks = masks if isinstance(masks, Masks) else Masks(masks)
    shapes = {name: tuple(v.shape) for name, v in weights.items() if name in masks}
    masks.check_shapes(shapes)
    for name, mask in masks.items():
        wrong = int(np.count_nonzero(to_numpy(weights[name])[~mask]))
        if wrong:
            raise MismatchError(
                f"masks: {name} has {wrong:,} non-zero weights where its mask prunes. "
                "Apply the mask to the model first, or train it as a PracModel with this mask."
            )
    return Source(network, _pruned(masks))


def _zeros(network: Any, weights: Mapping[str, Any]) -> Masks:
    prunable = [info.name for info in weight_report(network, EVERYTHING) if info.prunable]
    return _pruned(Masks({name: to_numpy(weights[name]) != 0 for name in prunable}))


def _pruned(masks: Masks) -> Masks:
    """The masks that prune something."""
    return Masks({name: mask for name, mask in masks.items() if not mask.all()})
