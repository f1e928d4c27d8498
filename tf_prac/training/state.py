"""`TrainingState`: one training as far as it has come, in memory and in a checkpoint."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tf_prac.errors import DamagedFileError
from tf_prac.keras_api import to_numpy
from tf_prac.pruning.masks import Masks
from tf_prac.training.callbacks.best_weights import BestWeights
from tf_prac.training.callbacks.callback import Callback
from tf_prac.training.callbacks.mask_distance import MaskDistance
from tf_prac.training.checkpoint import SavedState


class TrainingState:
    """What a training has gathered so far, beside the variables of its model.

    Args:
        distance: watches the tentative mask, or None.

    Attributes:
        step: steps taken.
        rows: one for each epoch that has ended: epoch, step, loss, accuracy, ...
        snapshots: weights after the steps that were asked for, by step.
        best: the weights of the best validation accuracy.
        epoch_began: `elapsed` at the start of the present epoch.
    """

    def __init__(self, distance: MaskDistance | None = None):
        self.step = 0
        self.rows: list[dict[str, float]] = []
        self.snapshots: dict[int, dict[str, np.ndarray]] = {}
        self.best = BestWeights()
        self.epoch_began = 0.0
        self._distance = distance
        self._started = time.perf_counter()

    @property
    def hooks(self) -> list[Callback]:
        """What is called after each epoch."""
        return [self._distance, self.best] if self._distance else [self.best]

    @property
    def settings(self) -> dict[str, Any]:
        """What decides when the mask distance ends the training."""
        watched = ("rule", "eps", "window", "min_epochs", "armed")
        return {name: getattr(self._distance, name, None) for name in watched}

    @property
    def elapsed(self) -> float:
        """Seconds that the training took, in this process and those before."""
        return time.perf_counter() - self._started

    def end_epoch(self, logs: Mapping[str, float], learning_rate: float) -> None:
        """Adds the row of an epoch."""
        now = self.elapsed
        row = {"epoch": len(self.rows) + 1, "step": self.step, **logs}
        self.rows.append({**row, "learning_rate": learning_rate, "seconds": now - self.epoch_began})
        self.epoch_began = now

    def saved(self, identity: str, variables: Sequence[Any]) -> SavedState:
        """Returns everything that a training needs to go on.

        Args:
            identity: says which training this is.
            variables: those of the model, its optimizer, metrics and records.
        """
        distance, best = self._distance, self.best
        tentative = distance.tentative if distance else None
        tensors = {f"variable/{n}": to_numpy(v) for n, v in enumerate(variables)}
        tensors |= {f"tentative/{n}": mask for n, mask in (tentative or {}).items()}
        tensors |= {f"best/{name}": value for name, value in (best.weights or {}).items()}
        for step, weights in self.snapshots.items():
            tensors |= {f"snapshot/{step}/{name}": value for name, value in weights.items()}
        figures = {
            "identity": identity,
            "rows": [_to_json(row) for row in self.rows],
            "best": {"value": best.value, "epoch": best.epoch},
            "distances": distance.distances if distance else [],
            "stopped": bool(distance and distance.stopped),
            "seconds": self.elapsed,
            "epoch_began": self.epoch_began,
        }
        return SavedState(self.step, tensors, figures)

    def restore(self, state: SavedState, variables: Sequence[Any]) -> None:
        """Takes up what `saved` returned, variables included.

        Raises:
            DamagedFileError: something is missing, or variables have other shapes.
        """
        groups: dict[str, dict[str, np.ndarray]] = {}
        for name, value in state.tensors.items():
            group, _, rest = name.partition("/")
            groups.setdefault(group, {})[rest] = value
        values = groups.get("variable", {})
        shapes = {str(n): tuple(v.shape) for n, v in enumerate(variables)}
        if shapes != {name: value.shape for name, value in values.items()}:
            raise DamagedFileError(f"{state.path}: damaged, its tensors are not those needed.")
        for number, variable in enumerate(variables):
            variable.assign(values[str(number)])
        for name, value in groups.get("snapshot", {}).items():
            step, _, weight = name.partition("/")
            self.snapshots.setdefault(int(step), {})[weight] = value
        figures = state.figures
        self.step = state.step
        self.rows = [_from_json(row) for row in figures["rows"]]
        self.best.value, self.best.epoch = figures["best"]["value"], figures["best"]["epoch"]
        self.best.weights = groups.get("best")
        self.epoch_began = figures["epoch_began"]
        self._started = time.perf_counter() - figures["seconds"]
        if self._distance:
            tentative = Masks(groups["tentative"]) if "tentative" in groups else None
            self._distance.restore(figures["distances"], tentative, figures["stopped"])


def identity_of(*parts: Any) -> str:
    """Returns a digest of numbers, text, and mappings of names to arrays."""
    digest = hashlib.sha256()
    for part in parts:
        arrays = part if isinstance(part, Mapping) else {"": part}
        for name, value in arrays.items():
            array = isinstance(value, np.ndarray)
            digest.update(f"{name} {value.dtype} {value.shape}".encode() if array else b"")
            digest.update(np.ascontiguousarray(value).data if array else repr(value).encode())
    return digest.hexdigest()


def _to_json(row: Mapping[str, float]) -> dict[str, Any]:
    return {name: value if math.isfinite(value) else str(value) for name, value in row.items()}


def _from_json(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(v) if isinstance(v, str) else v for name, v in row.items()}
