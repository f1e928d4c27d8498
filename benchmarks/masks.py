"""One global mask over ResNet-50's 25.5 million weights, and one mask distance.

    python benchmarks/masks.py

Beside them, in turn: TFMOT's own update of the same weights, layer by layer, and numpy's
`partition` of all magnitudes, below which no exact global threshold can be.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf
import tf_keras
from absl import app, flags
from tensorflow_model_optimization.python.core.sparsity.keras import pruning_impl
from tensorflow_model_optimization.sparsity.keras import ConstantSparsity
from turns import rows, table, take_turns, write

from tf_prac import global_magnitude
from tf_prac.pruning.masks import Masks

_SPARSITY = flags.DEFINE_float("sparsity", 0.8, "Fraction pruned.")
_REPEATS = flags.DEFINE_integer("repeats", 7, "Turns after one to warm up.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")


def kernels() -> dict[str, np.ndarray]:
    """Random weights of the shapes of ResNet-50's kernels."""
    with tf.device("CPU"):
        model = tf_keras.applications.ResNet50(weights=None)
    random = np.random.default_rng(0)
    return {
        w.name: random.standard_normal(w.shape, np.float32)
        for w in model.weights
        if len(w.shape) > 1
    }


def tfmot_update(weights: dict[str, np.ndarray]):
    """TFMOT's update of the masks of all layers, compiled."""
    variables = [
        (tf.Variable(value), tf.Variable(tf.ones_like(value)), tf.Variable(0.0))
        for value in weights.values()
    ]
    pruning = pruning_impl.Pruning(
        training_step_fn=lambda: tf.constant(100),
        pruning_vars=variables,
        pruning_schedule=ConstantSparsity(_SPARSITY.value, 0),
        block_size=(1, 1),
        block_pooling_type="AVG",
    )
    return tf.function(pruning.conditional_mask_update)


def main(_) -> None:
    """Times the four, and prints the table."""
    weights = kernels()
    count = sum(value.size for value in weights.values())
    dense = Masks.ones_like(weights)
    earlier = global_magnitude(weights, dense, _SPARSITY.value)
    moved = {name: value * 1.01 for name, value in weights.items()}
    flat = np.concatenate([np.abs(value).ravel() for value in weights.values()])
    pruned = int(flat.size * _SPARSITY.value)

    def distance():
        return global_magnitude(moved, dense, _SPARSITY.value).hamming(earlier)

    ways = {
        "numpy.partition": lambda: np.partition(flat, pruned - 1),
        "global mask": lambda: global_magnitude(weights, dense, _SPARSITY.value),
        "global mask and distance": distance,
        "TFMOT, each layer": tfmot_update(weights),
    }
    found = rows(take_turns(ways, _REPEATS.value), "numpy.partition")
    print(f"{count:,} weights in {len(weights)} tensors, {_SPARSITY.value:.0%} pruned\n")
    print(table(found, "numpy.partition"))
    faster = found["TFMOT, each layer"]["seconds"] / found["global mask and distance"]["seconds"]
    print(f"\nmask and distance: {faster:.1f} times faster than TFMOT's update")
    write(_OUTPUT.value, {"weights": count, "sparsity": _SPARSITY.value, "rows": found})


if __name__ == "__main__":
    app.run(main)
