"""Whether the data of a trainer fits its model, and the weights of its classes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.data.checks import check_weights
from tf_prac.data.pipeline import evaluation_batches
from tf_prac.data.source import Samples
from tf_prac.data.splits import Split
from tf_prac.errors import ArgumentError, DataError, TfPracError
from tf_prac.keras_api import symbolic_inputs
from tf_prac.tasks.task import Task
from tf_prac.training.prac_model import PracModel


def outputs_of(model: PracModel, inputs: Any) -> Any:
    """Returns the outputs of a model for a batch.

    Args:
        model: the model.
        inputs: a batch of {"inputs": x, "sample_id": id}.

    Raises:
        DataError: If the model cannot be called with the batch.
    """
    try:
        return model(inputs, training=False)
    except TfPracError:
        raise
    except Exception as error:
        received = tf.nest.map_structure(_describe, inputs["inputs"])
        expected = {each.name: _describe(each) for each in symbolic_inputs(model.network)}
        allowed = str(expected) if expected else "inputs that the model can be called with"
        if len(expected) == 1:
            (allowed,) = expected.values()
        raise DataError(f"inputs: {received} received; allowed: {allowed}.") from error


def check_takes(model: PracModel, task: Task, split: Split) -> None:
    """Checks that a model takes the inputs of a split, and has an output for each of its labels.

    Raises:
        DataError, ArgumentError: If it does not.
    """
    inputs, labels, *_ = next(iter(evaluation_batches(split.samples, split.ids[:1], batch_size=1)))
    outputs = outputs_of(model, inputs)
    task.check_outputs(labels, outputs)
    task.check_classes(split.labels, outputs)


def with_class_weight(samples: Samples, task: Task, class_weight: Mapping[int, float]) -> Samples:
    """Returns samples with their weights multiplied by those of their classes.

    Args:
        samples: the training set.
        task: its task.
        class_weight: a factor for each class number.

    Raises:
        ArgumentError: If the samples have no single class, or a class has no factor.
    """
    classes = task.classes(samples.labels)
    if classes is None:
        allowed = f"None for the task {task.name}, whose samples have no single class"
        raise ArgumentError("class_weight", class_weight, allowed)
    missing = sorted({int(each) for each in np.unique(classes) if each >= 0} - set(class_weight))
    if missing:
        allowed = f"a number for each class; {missing[0]} is missing"
        raise ArgumentError("class_weight", class_weight, allowed)
    factors = {**class_weight, -1: 1.0}  # samples without a class, which the loss ignores
    weights = np.array([factors[int(each)] for each in classes], np.float32)
    weighted = copy.copy(samples)
    if samples.weights is not None:
        weights = weights.reshape(-1, *[1] * (samples.weights.ndim - 1)) * samples.weights
    weighted.weights = check_weights(weights, len(samples))
    return weighted


def _describe(values: Any) -> str:
    """Returns dtype and shape of a batch or an input, such as "float32 (N, 64)"."""
    sizes = ", ".join(map(str, ["N", *values.shape[1:]]))
    return f"{getattr(values.dtype, 'name', values.dtype)} ({sizes})"
