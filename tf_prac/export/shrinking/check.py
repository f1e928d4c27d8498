"""Compares the outputs of a changed model with those of the original."""

from __future__ import annotations

from typing import Any

import numpy as np

from tf_prac.errors import MismatchError
from tf_prac.export.verify import SMALLEST_SCALE, example_inputs, rounding_of
from tf_prac.keras_api import structures

TOLERANCE = 1e-5
"""Allowed difference in float32, relative to the largest output."""


def output_difference(what: str, model: Any, changed: Any) -> float | None:
    """Returns the largest difference between the outputs of two models for random inputs.

    Args:
        what: what changed the model, for the error.
        model: a functional model.
        changed: a model with the same inputs and outputs.

    Returns:
        The difference; None if the model has inputs of text.

    Raises:
        MismatchError: If outputs differ by more than rounding explains.
    """
    import tensorflow as tf

    inputs = tf.nest.flatten(structures(model)[0])
    specs = {str(i): tf.TensorSpec(x.shape, x.dtype) for i, x in enumerate(inputs)}
    if any(spec.dtype == tf.string for spec in specs.values()):
        return None
    examples = [tf.constant(each) for each in example_inputs(specs).values()]
    packed = tf.nest.pack_sequence_as(structures(model)[0], examples)
    expected, received = (
        [np.asarray(y, np.float64) for y in tf.nest.flatten(each(packed, training=False))]
        for each in (model, changed)
    )
    allowed = max(TOLERANCE, rounding_of(model))
    largest = 0.0
    for a, b in zip(expected, received, strict=True):
        error = float(np.abs(a - b).max(initial=0))
        scale = float(np.abs(a).max(initial=SMALLEST_SCALE))
        largest = max(largest, error)
        if not error <= allowed * scale:
            raise MismatchError(
                f"{what}: outputs of {model.name} would differ by up to {error:g}, more than the "
                f"{allowed * scale:g} that rounding explains. Export the model without it, and "
                "report this."
            )
    return largest
