"""The time of one global mask over ResNet-50's 25.5 million weights, and of one mask distance.

    python benchmarks/masks.py

Compared with TFMOT's update of the same weights, layer by layer, and with NumPy's `partition` of
all magnitudes, a lower bound of any exact global threshold.
"""

from __future__ import annotations

import common_flags
import numpy as np
import tensorflow as tf
import tf_keras
from absl import app
from common_flags import FLAGS
from tensorflow_model_optimization.python.core.sparsity.keras import pruning_impl
from tensorflow_model_optimization.sparsity.keras import ConstantSparsity
from turns import rows, table, take_turns, write

from tf_prac import global_magnitude
from tf_prac.pruning.masks import Masks

common_flags.define("sparsity", "output", repeats=7)


def kernels() -> dict[str, np.ndarray]:
    """Returns random weights with the shapes of ResNet-50's kernels."""
    with tf.device("CPU"):
        model = tf_keras.applications.ResNet50(weights=None)
    random = np.random.default_rng(0)
    return {
        w.name: random.standard_normal(w.shape, np.float32)
        for w in model.weights
        if len(w.shape) > 1
    }


def tfmot_update(weights: dict[str, np.ndarray]):
    """Returns TFMOT's compiled update of the masks of all layers."""
    variables = [
        (tf.Variable(value), tf.Variable(tf.ones_like(value)), tf.Variable(0.0))
        for value in weights.values()
    ]
    pruning = pruning_impl.Pruning(
        training_step_fn=lambda: tf.constant(100),
        pruning_vars=variables,
        pruning_schedule=ConstantSparsity(FLAGS.sparsity, 0),
        block_size=(1, 1),
        block_pooling_type="AVG",
    )
    return tf.function(pruning.conditional_mask_update)


def main(_) -> None:
    """Times the four and prints the table."""
    weights = kernels()
    count = sum(value.size for value in weights.values())
    dense = Masks.ones_like(weights)
    earlier = global_magnitude(weights, dense, FLAGS.sparsity)
    moved = {name: value * 1.01 for name, value in weights.items()}
    flat = np.concatenate([np.abs(value).ravel() for value in weights.values()])
    pruned = int(flat.size * FLAGS.sparsity)

    def distance():
        return global_magnitude(moved, dense, FLAGS.sparsity).hamming(earlier)

    alternatives = {
        "numpy.partition": lambda: np.partition(flat, pruned - 1),
        "global mask": lambda: global_magnitude(weights, dense, FLAGS.sparsity),
        "global mask and distance": distance,
        "TFMOT, each layer": tfmot_update(weights),
    }
    results = rows(take_turns(alternatives, FLAGS.repeats), "numpy.partition")
    print(f"{count:,} weights in {len(weights)} tensors, {FLAGS.sparsity:.0%} pruned\n")
    print(table(results, "numpy.partition"))
    ours = results["global mask and distance"]["seconds"]
    faster = results["TFMOT, each layer"]["seconds"] / ours
    print(f"\nmask and distance: {faster:.1f} times faster than TFMOT's update")
    write(FLAGS.output, {"weights": count, "sparsity": FLAGS.sparsity, "rows": results})


if __name__ == "__main__":
    app.run(main)
