"""`MaskDistance`: how far the mask that pruning would give still moves."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tf_prac.config import SCOPES, PruningConfig, check_choice
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
)
from tf_prac.pruning.mask_distance import MaskDistanceStop, mask_distance
from tf_prac.pruning.masks import Masks
from tf_prac.training.callbacks.callback import Callback, built
from tf_prac.training.masked_weights import masks_in_force, watched_weights


class MaskDistance(Callback):
    """Watches the mask that pruning now would give; can stop training when it settles.

    Adds `mask_distance` to `logs`. Works with any model; the masks that it holds are those in
    force, and one without starts from dense ones.

    Example:

        >>> watch = MaskDistance(0.2, eps=0.07)  # doctest: +SKIP
        >>> model.fit(x, y, epochs=100, callbacks=[watch])  # ends when the mask has settled
        >>> masks = watch.tentative

    Source: PrAC paper, Section 3.1 and Figure 2.

    Args:
        rate: fraction of the remaining weights that would be pruned, or one for each name.
            Default 0.2.
        criterion: a criterion of trained weights: a name in `tf_prac.pruning.CRITERIA`, a
            `Criterion` or a function of weights. Default "magnitude".
        scope: "global" or "layerwise". Default "global".
        eps: stop when the distance stays below this for `window` epochs. Default None: watch.
        window: see `MaskDistanceStop`. Default 5.
        min_epochs: never stop before as many epochs. Default 0.
        keep: called after each epoch with its number, from 1, and its tentative `Masks`.
            Default None.
        rule: function of the prunable weights and the current masks that returns the tentative
            masks, in place of rate, criterion and scope. Default None: the rule of these three.
        armed: see `MaskDistanceStop`. Default False.
        pruning: which weights are prunable, in a model that brings no masks.
            Default `PruningConfig()`.
        first: what the first epoch's logs say, whose mask there is none to compare with; None:
            nothing. `CSVLogger` takes its columns from the first epoch, and `EarlyStopping` wants
            a number. Default infinity.

    Attributes:
        distances: one for each epoch but the first.
        tentative: the `Masks` after the last epoch, or None.
        stopped: whether the rule stopped training.
    """

    _given_again = ("keep", "rule")

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
    ):
        check_rate(rate)
        if rule is None:
            check_scores_weights(criterion)
        check_choice("scope", scope, SCOPES)
        self.rate, self.criterion, self.scope = rate, criterion_name(criterion), scope
        self.rule = rule or PruneRule(rate, criterion, scope)
        self.pruning, self.first = built(PruningConfig, pruning), first
        self.eps, self.window, self.min_epochs = eps, window, min_epochs
        self.keep = keep
        self.armed = armed
        self._start()

    def _start(self) -> None:
        self.distances: list[float] = []
        self.tentative: Masks | None = None
        self.stopped = False
        self._rule = None
        if self.eps is not None:
            self._rule = MaskDistanceStop(self.eps, self.window, armed=self.armed)

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Starts anew; raises `ArgumentError` for a model that has nothing to prune."""
        watched_weights(self.model, self.pruning)
        self._start()

    def restore(self, distances: Sequence[float], tentative: Masks | None, stopped: bool) -> None:
        """Goes on after epochs that gave these distances, the tentative mask of the last one."""
        self._start()
        self.distances, self.tentative, self.stopped = list(distances), tentative, stopped
        self.model.stop_training = stopped
        if self._rule is not None:
            for distance in distances:
                self._rule.update(distance)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Adds the distance to `logs` and stops training if the rule says so."""
        masks = masks_in_force(self.model, self.pruning)
        watched = watched_weights(self.model, self.pruning)
        weights = {name: to_numpy(v) for name, v in watched.items()}
        previous, self.tentative = self.tentative, None
        self.tentative = self.rule(weights, masks)
        if self.keep is not None:
            self.keep(epoch + 1, self.tentative)
        if previous is None:
            if logs is not None and self.first is not None:
                logs["mask_distance"] = self.first
            return
        distance = mask_distance(self.tentative, previous, masks.remaining)
        self.distances.append(distance)
        if logs is not None:
            logs["mask_distance"] = distance
        settled = self._rule is not None and self._rule.update(distance)
        if settled and epoch + 1 >= self.min_epochs:
            self.stopped = True
            self.model.stop_training = True
