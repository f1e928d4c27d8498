"""`MaskDistance`: the distance between the tentative masks of successive epochs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tf_prac.checks import check_choice, check_int, check_number
from tf_prac.config import SCOPES, STOP_DISTANCES, PruningConfig
from tf_prac.errors import ArgumentError
from tf_prac.keras_api import to_numpy
from tf_prac.pruning.criteria import (
    Criterion,
    PruneRule,
    Rate,
    Scores,
    Weights,
    check_rate,
    check_scores_weights,
    criterion_name,
    scores_of,
)
from tf_prac.pruning.mask_distance import MaskDistanceStop, mask_distance, order_distance
from tf_prac.pruning.masks import Masks
from tf_prac.training.callbacks.callback import Callback, as_options
from tf_prac.training.masked_weights import get_masks, get_prunable


class MaskDistance(Callback):
    """Monitors the mask distance, and optionally stops training when it stays small.

    After each epoch, it computes the tentative mask, which is the result of pruning the current
    weights, and adds its distance from the tentative mask of the previous epoch to `logs`, as
    `mask_distance`. It works with any model; a model without masks counts as dense.

    Example:

        >>> watch = MaskDistance(0.2, eps=0.07)  # doctest: +SKIP
        >>> model.fit(x, y, epochs=100, callbacks=[watch])  # stops when the mask has converged
        >>> masks = watch.tentative

    Source: PrAC paper, Section 3.1 and Figure 2.

    Args:
        rate: fraction of the remaining weights to prune in the tentative mask, in (0, 1), or one
            fraction for each weight by name. Default 0.2.
        criterion: a criterion of trained weights: a name in `tf_prac.pruning.CRITERIA`, a
            `Criterion` or a function of weights. Default "magnitude".
        scope: "global" or "layerwise". Default "global".
        eps: stop training when the distance stays below this for `window` epochs. Default None:
            never stop.
        window: see `MaskDistanceStop`. Default 5.
        min_epochs: minimum number of epochs before training is stopped. Default 0.
        keep: called after each epoch with its number, from 1, and its tentative `Masks`.
            Default None.
        rule: function of the prunable weights and the current masks that returns the tentative
            masks, in place of rate, criterion and scope. Default None: the rule of these three.
        armed: see `MaskDistanceStop`. Default False.
        pruning: which weights are prunable, in a model without masks. Default `PruningConfig()`.
        average: factor, in [0, 1), of the exponential moving average of the weights at the ends of
            epochs, which is pruned in place of the weights. At a constant learning rate the noise
            of SGD keeps the distance of the weights' masks up until the rate drops; that of the
            average's falls. Default 0: the weights.
        distance: what stops training: "masks", or "order", the distance in the order of the scores
            near the pruning threshold, which is added to `logs` as `order_distance`; see
            `PracConfig.early_stop_distance`. Default "masks".
        first: the distances in the logs of the first epoch, which has no previous mask; None to
            omit it. `CSVLogger` takes its columns from the first epoch, and `EarlyStopping`
            requires a number. Default infinity.

    Raises:
        ArgumentError: If an option is out of range, or the criterion does not score weights alone.

    Attributes:
        distances: the mask distance of each epoch from the second on.
        order_distances: the same of the order of the scores, with distance="order".
        previous: the scores of the last epoch, by name, with distance="order".
        tentative: the tentative `Masks` of the last epoch, or None.
        averaged: the moving average of the weights, by name; empty without `average`.
        stopped: whether this callback has stopped training.
    """

    _not_serialized = ("keep", "rule")

    def __init__(
        self,
        rate: Rate = 0.2,
        *,
        criterion: str | Criterion | Callable[[Weights], Scores] = "magnitude",
        scope: str = "global",
        eps: float | None = None,
        window: int = 5,
        min_epochs: int = 0,
        keep: Callable[[int, Masks], None] | None = None,
        rule: Callable[[Weights, Masks], Masks] | None = None,
        armed: bool = False,
        pruning: PruningConfig | Mapping[str, Any] | None = None,
        first: float | None = math.inf,
        average: float = 0.0,
        distance: str = "masks",
    ):
        check_rate(rate)
        if rule is None:
            check_scores_weights(criterion)
        check_choice("scope", scope, SCOPES)
        check_number("average", average, minimum=0, below=1)
        check_int("window", window, 1)
        check_int("min_epochs", min_epochs, 0)
        self.average = average
        self.rate, self.criterion, self.scope = rate, criterion_name(criterion), scope
        self.rule = rule or PruneRule(rate, criterion, scope)
        self.pruning, self.first = as_options(PruningConfig, pruning), first
        self.eps, self.window, self.min_epochs = eps, window, min_epochs
        self.keep = keep
        self.armed = armed
        check_choice("distance", distance, STOP_DISTANCES)
        self.distance = distance
        if distance == "order" and not isinstance(self.rule, PruneRule):
            raise ArgumentError("rule", rule, "none with distance='order', which ranks scores")
        self._reset()

    def _reset(self) -> None:
        self.distances: list[float] = []
        self.order_distances: list[float] = []
        self.previous: dict[str, np.ndarray] = {}
        self.tentative: Masks | None = None
        self.averaged: dict[str, np.ndarray] = {}
        self.stopped = False
        self._stop_rule = None
        if self.eps is not None:
            self._stop_rule = MaskDistanceStop(self.eps, self.window, armed=self.armed)

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Resets the state.

        Raises:
            ArgumentError: If the model has nothing to prune.
        """
        get_prunable(self.model, self.pruning)
        self._reset()

    def restore(
        self,
        distances: Sequence[float],
        tentative: Masks | None,
        stopped: bool,
        averaged: Weights | None = None,
        order_distances: Sequence[float] = (),
        previous: Scores | None = None,
    ) -> None:
        """Restores the state after some epochs.

        Args:
            distances: the mask distances of these epochs.
            tentative: the tentative mask of the last of them, or None.
            stopped: whether training was stopped.
            averaged: the moving average of the weights. Default None: there is none.
            order_distances: those of these epochs, with distance="order". Default ().
            previous: the scores of the last of them, with distance="order". Default None.
        """
        self._reset()
        self.order_distances, self.previous = list(order_distances), dict(previous or {})
        self.distances, self.tentative, self.stopped = list(distances), tentative, stopped
        self.averaged = dict(averaged or {})
        self.model.stop_training = stopped
        if self._stop_rule is not None:
            for distance in self.order_distances if self.distance == "order" else distances:
                self._stop_rule.update(distance)

    def _to_prune(self, weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns the weights, or their moving average after this epoch."""
        if not self.average:
            return weights
        old, factor = self.averaged or weights, np.float32(self.average)
        self.averaged = {n: factor * old[n] + (1 - factor) * weights[n] for n in weights}
        return self.averaged

    def _order_distance(self, weights: Weights, masks: Masks) -> float | None:
        """Returns the distance of the scores' order from the last epoch; None in the first."""
        assert isinstance(self.rule, PruneRule)
        previous, self.previous = self.previous, dict(scores_of(weights, self.rule.criterion))
        if not previous:
            return None
        near = self.rule.near_threshold(previous, masks)
        return order_distance(self.previous, previous, near)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Adds the distance to `logs`, and stops training if it has stayed small."""
        masks = get_masks(self.model, self.pruning)
        prunable = get_prunable(self.model, self.pruning)
        weights = {name: to_numpy(v) for name, v in prunable.items()}
        previous, self.tentative = self.tentative, None
        compared = self._to_prune(weights)
        self.tentative = self.rule(compared, masks)
        in_order = self._order_distance(compared, masks) if self.distance == "order" else None
        if self.keep is not None:
            self.keep(epoch + 1, self.tentative)
        watched = "order_distance" if self.distance == "order" else "mask_distance"
        if previous is None:
            if logs is not None and self.first is not None:
                logs.update({"mask_distance": self.first, watched: self.first})
            return
        found = {"mask_distance": mask_distance(self.tentative, previous, masks.remaining)}
        self.distances.append(found["mask_distance"])
        if in_order is not None:
            found["order_distance"] = in_order
            self.order_distances.append(in_order)
        if logs is not None:
            logs.update(found)
        converged = self._stop_rule is not None and self._stop_rule.update(found[watched])
        if converged and epoch + 1 >= self.min_epochs:
            self.stopped = True
            self.model.stop_training = True
