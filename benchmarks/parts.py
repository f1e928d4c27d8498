"""The cost of each part of a training step: the loop of a search, with parts removed one by one.

    python benchmarks/parts.py --dataset=mnist --data_dir=DATA

Compares the loop of a search with the same loop without forgetting statistics; also without masks,
which is Keras's own step; also without the accuracy metric; and on one repeated batch, without an
input pipeline. Each trains one epoch per turn. Prints the median seconds of an epoch and the ratio
to the loop of a search; `--output` writes them as JSON.
"""

from __future__ import annotations

import common_flags
import numpy as np
import tensorflow as tf
from absl import app
from common_flags import FLAGS
from networks import compiled, network_for, tracked
from turns import rows, table, take_turns, write

from tf_prac import Masks, PracModel, prunable_weights, random_mask
from tf_prac.data.pipeline import training_batches
from tf_prac.training.loop import StepLoop

common_flags.define(
    *common_flags.DATA,
    *common_flags.NETWORK,
    "augment",
    "batch_size",
    "output",
    dataset="mnist",
    repeats=7,
)


def main(_) -> None:
    """Times the loops and prints the table."""
    train, size = common_flags.load_data().train, FLAGS.batch_size
    ids = np.arange(len(train))
    batches = training_batches(train, ids, batch_size=size, seed=(0,), augment=FLAGS.augment)
    plain = batches.map(lambda x, y: (x["inputs"], y))

    def masked():
        network = network_for(train)
        masks = random_mask(Masks.ones_like(prunable_weights(network)), 0.8, seed=0)
        return compiled(PracModel(network, masks=masks))

    def without_metrics():
        model = compiled(network_for(train))
        model.compile(model.optimizer, model.loss, jit_compile=False)
        return model

    repeated = tf.data.Dataset.from_tensors(next(iter(plain))).repeat()
    loops = {
        "search loop": (tracked(network_for(train), len(train)), batches),
        "- forgetting": (masked(), plain),
        "- masks": (compiled(network_for(train)), plain),
        "- accuracy": (without_metrics(), plain),
        "- input": (without_metrics(), repeated),
    }
    steps = -(-len(train) // size)
    alternatives = {name: epoch(model, iter(data), steps) for name, (model, data) in loops.items()}
    results = rows(take_turns(alternatives, FLAGS.repeats), "search loop", len(train))
    print(table(results, "search loop"))
    write(FLAGS.output, results)


def epoch(model, batches, steps):
    """Returns a function that trains one more epoch."""
    loop = StepLoop(model)
    return lambda: loop.train(batches, steps)


if __name__ == "__main__":
    app.run(main)
