"""`TrainingState`: the progress of one training run, in memory and in its checkpoints."""

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
    """The progress of a training run, apart from the variables of its model.

    Args:
        mask_distance: the callback that monitors the tentative mask, or None.
        best: the callback that copies the best weights. Default `BestWeights()`.

    Attributes:
        step: the number of training steps taken.
        rows: the metrics of each finished epoch: epoch, step, loss, accuracy, ...
        snapshots: copies of the weights after the requested steps, by step.
        best: the weights of the best validation accuracy.
        average: the average of the weights at the steps `Budget.averaged_at`.
        epoch_start: `elapsed` at the start of the current epoch.
    """

    def __init__(self, mask_distance: MaskDistance | None = None, best: BestWeights | None = None):
        self.step = 0
        self.rows: list[dict[str, float]] = []
        self.snapshots: dict[int, dict[str, np.ndarray]] = {}
        self.best = best or BestWeights()
        self.average = WeightAverage()
        self.epoch_start = 0.0
        self._mask_distance = mask_distance
        self._started = time.perf_counter()

    @property
    def callbacks(self) -> list[Callback]:
        """The callbacks of the training run."""
        return [self._mask_distance, self.best] if self._mask_distance else [self.best]

    @property
    def early_stopping(self) -> dict[str, Any]:
        """The options that determine when the mask distance stops training."""
        options = ("rule", "eps", "window", "min_epochs", "armed")
        values = {name: getattr(self._mask_distance, name, None) for name in options}
        later = {"average": 0.0, "distance": "masks"}  # identities of 0.1.0 lack them
        for name, default in later.items():
            if (value := getattr(self._mask_distance, name, default)) != default:
                values[name] = value
        return values

    @property
    def elapsed(self) -> float:
        """Seconds of training so far, in this process and those it resumes from."""
        return time.perf_counter() - self._started

    def end_epoch(self, logs: Mapping[str, float], learning_rate: float) -> None:
        """Adds the metrics of the epoch that ends at this step to `rows`.

        Args:
            logs: the metrics of the epoch.
            learning_rate: the learning rate of its last step.
        """
        now = self.elapsed
        row = {"epoch": len(self.rows) + 1, "step": self.step, **logs}
        self.rows.append({**row, "learning_rate": learning_rate, "seconds": now - self.epoch_start})
        self.epoch_start = now

    def to_checkpoint(self, identity: str, variables: Sequence[Any]) -> SavedState:
        """Returns everything that is needed to resume the training run.

        Args:
            identity: identifies the training run, see `identity_of`.
            variables: all variables of the model, its optimizer, metrics and records.
        """
        distance, best = self._mask_distance, self.best
        tentative = distance.tentative if distance else None
        tensors = {f"variable/{n}": to_numpy(v) for n, v in enumerate(variables)}
        tensors |= {f"tentative/{n}": mask for n, mask in (tentative or {}).items()}
        for group in ("averaged", "previous"):
            arrays = getattr(distance, group, {})
            tensors |= {f"{group}/{name}": value for name, value in arrays.items()}
        tensors |= {f"best/{name}": value for name, value in (best.weights or {}).items()}
        tensors |= {f"average/{name}": value for name, value in self.average.weights.items()}
        for step, weights in self.snapshots.items():
            tensors |= {f"snapshot/{step}/{name}": value for name, value in weights.items()}
        metadata = {
            "identity": identity,
            "rows": [_to_json(row) for row in self.rows],
            "best": {"value": best.value, "epoch": best.epoch},
            "distances": distance.distances if distance else [],
            "stopped": bool(distance and distance.stopped),
            "seconds": self.elapsed,
            "epoch_began": self.epoch_start,
        }
        if self.average.count:
            metadata["averaged_steps"] = self.average.count
        if distance and distance.distance == "order":
            metadata["order_distances"] = distance.order_distances
        return SavedState(self.step, tensors, metadata)

    def restore(
        self,
        checkpoint: SavedState,
        variables: Sequence[Any],
        weights: Mapping[str, np.ndarray],
        masks: Masks,
    ) -> None:
        """Sets this state and the variables to those of a checkpoint.

        Args:
            checkpoint: as returned by `to_checkpoint`.
            variables: the variables to set, in the same order.
            weights: the weights that the training starts from, for their names and shapes.
            masks: its masks.

        Raises:
            DamagedFileError: If tensors are missing or have other shapes than the variables.
        """
        groups: dict[str, dict[str, np.ndarray]] = {}
        for name, value in checkpoint.tensors.items():
            group, _, rest = name.partition("/")
            groups.setdefault(group, {})[rest] = value
        metadata, values = checkpoint.metadata, groups.get("variable", {})
        _check_shapes(checkpoint, values, {str(n): tuple(v.shape) for n, v in enumerate(variables)})
        snapshots: dict[str, dict[str, np.ndarray]] = {}
        for name, value in groups.get("snapshot", {}).items():
            step, _, weight = name.partition("/")
            snapshots.setdefault(step, {})[weight] = value
        copies = [*snapshots.values(), *([groups["best"]] if "best" in groups else [])]
        shapes = {name: value.shape for name, value in weights.items() if name[0] != "@"}
        for copy in copies:
            _check_shapes(checkpoint, {n: v for n, v in copy.items() if n[0] != "@"}, shapes)
        for group in ("tentative", "averaged", "previous", "average"):
            if group in groups:
                _check_shapes(checkpoint, groups[group], masks.shapes)
        if (metadata["best"]["value"] is None) != ("best" not in groups) or not all(
            step.isdecimal() for step in snapshots
        ):
            raise DamagedFileError(f"{checkpoint.path}: damaged, tensors are missing.")
        for number, variable in enumerate(variables):
            variable.assign(values[str(number)])
        self.snapshots = {int(step): copy for step, copy in snapshots.items()}
        self.step = checkpoint.step
        self.rows = [_from_json(row) for row in metadata["rows"]]
        self.best.value, self.best.epoch = metadata["best"]["value"], metadata["best"]["epoch"]
        self.best.weights = groups.get("best")
        self.average = WeightAverage(groups.get("average"), metadata.get("averaged_steps", 0))
        self.epoch_start = metadata["epoch_began"]
        self._started = time.perf_counter() - metadata["seconds"]
        if self._mask_distance:
            tentative = Masks(groups["tentative"]) if "tentative" in groups else None
            distances, stopped = metadata["distances"], metadata["stopped"]
            self._mask_distance.restore(
                distances,
                tentative,
                stopped,
                groups.get("averaged"),
                metadata.get("order_distances", ()),
                groups.get("previous"),
            )


class WeightAverage:
    """The mean of weights at several steps, as float32 (stochastic weight averaging).

    Source: Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima and Better
    Generalization", Section 3.1.

    Args:
        weights: the mean so far. Default None: nothing was added.
        count: how many were added. Default 0.
    """

    def __init__(self, weights: Mapping[str, np.ndarray] | None = None, count: int = 0):
        self.weights, self.count = dict(weights or {}), count

    def add(self, variables: Mapping[str, Any]) -> None:
        """Adds the current values of variables, by name."""
        self.count += 1
        for name, variable in variables.items():
            value = to_numpy(variable).astype(np.float32)
            mean = self.weights.get(name, value)
            self.weights[name] = mean + (value - mean) / np.float32(self.count)


def identity_of(*parts: Any) -> str:
    """Returns a SHA-256 digest of values, arrays, and mappings from names to them."""
    digest = hashlib.sha256()
    for part in parts:
        arrays = part if isinstance(part, Mapping) else {"": part}
        for name, value in arrays.items():
            is_array = isinstance(value, np.ndarray)
            digest.update(f"{name} {value.dtype} {value.shape}".encode() if is_array else b"")
            digest.update(_bytes_of(value) if is_array else repr(value).encode())
    return digest.hexdigest()


def _bytes_of(array: np.ndarray) -> memoryview:
    """Returns the content of an array, also of bfloat16, which has no buffer of its own."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _check_shapes(
    checkpoint: SavedState, values: Mapping[str, np.ndarray], shapes: Mapping[str, Any]
) -> None:
    if {name: value.shape for name, value in values.items()} != dict(shapes):
        raise DamagedFileError(f"{checkpoint.path}: damaged, its tensors are not those needed.")


def _to_json(row: Mapping[str, float]) -> dict[str, Any]:
    return {name: value if math.isfinite(value) else str(value) for name, value in row.items()}


def _from_json(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(v) if isinstance(v, str) else v for name, v in row.items()}
