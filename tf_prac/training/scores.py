"""Scores of how difficult samples are, for any task: which tensors they take, and their values."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.data.selection import REDUCTIONS, joint_scores
from tf_prac.errors import ArgumentError
from tf_prac.tasks.outputs import Outputs
from tf_prac.tasks.regression import Regression
from tf_prac.tasks.task import Task, flat


def parts_of(score: str, task: Task, labels: Any, outputs: Any, weight: Any = None) -> Any:
    """Returns the tensors of a batch from which `score_of` computes a score.

    Args:
        score: a key of `tf_prac.data.selection.SCORES`.
        task: the task.
        labels, outputs, weight: as for `Task.correct`.

    Raises:
        ArgumentError: If the score needs class probabilities that the task does not have.
    """
    if isinstance(task, Outputs):
        return {
            name: parts_of(score, each, *(task.of(v, name) for v in (labels, outputs, weight)))
            for name, each in task.judging.items()
        }
    check_score(score, task)
    if isinstance(task, Regression):
        return {"errors": task.errors(labels, outputs, weight)}
    parts = {
        "probabilities": task.probabilities(outputs),
        "labels": tf.cast(flat(task.targets(labels)), tf.int64),
    }
    judged = task.judged(labels, outputs, weight)
    return parts if judged is None else {**parts, "judged": judged}


def check_score(score: str, task: Task) -> None:
    """Raises `ArgumentError` if a score needs class probabilities or losses that a task lacks.

    Args:
        score: a key of `tf_prac.data.selection.SCORES`, or "grand"; others need neither.
        task: the task.
    """
    if isinstance(task, Outputs):
        for each in task.judging.values() if score in REDUCTIONS else ():
            check_score(score, each)
        return
    if isinstance(task, Regression) and score in ("entropy", "margin"):
        allowed = "el2n, loss, grand, random or forgetting, for regression"
        raise ArgumentError("score", score, allowed, f"{score} needs class probabilities.")


def score_of(score: str, parts: Any) -> np.ndarray:
    """Returns the score of each sample, float [batch], from the arrays of `parts_of`."""
    if "errors" in parts and not isinstance(parts["errors"], dict):
        squares = np.sum(np.square(parts["errors"]), axis=1)
        return np.sqrt(squares) if score == "el2n" else squares
    if "probabilities" in parts and not isinstance(parts["probabilities"], dict):
        return joint_scores(score, **parts)
    return REDUCTIONS[score](np.stack([score_of(score, part) for part in parts.values()]), axis=0)
