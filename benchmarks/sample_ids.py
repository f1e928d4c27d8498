"""Whether the time of a training step depends on the number of samples.

    python benchmarks/sample_ids.py --keras=keras --devices=2

Times the same network and steps with each number of samples, in turns: the loop of a search, which
reads, trains, applies masks and records forgetting events, for ids of the whole data set. The time
to shuffle the ids, once per epoch, is measured separately.
"""

import functools

import common_flags
import numpy as np
import tensorflow as tf
from absl import app, flags
from common_flags import FLAGS
from networks import network_for, tracked
from turns import rows, table, take_turns, write

from tf_prac.data.order import shuffled
from tf_prac.data.pipeline import training_batches
from tf_prac.data.source import ArraySamples
from tf_prac.keras_api import build_metrics
from tf_prac.training.loop import StepLoop
from tf_prac.training.strategies import make_distribution

common_flags.define("keras", "devices", "batch_size", "output", repeats=15)
_SAMPLES = flags.DEFINE_list("samples", "50000,1280000", "Numbers of samples.")
_STEPS = flags.DEFINE_integer("steps", 200, "Steps per turn.")


def steps_on(count, distribution):
    """Returns a function that trains the steps of a turn on `count` samples of 8 x 8 pixels."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 255, (count, 8, 8, 1), np.uint8)
    train = ArraySamples(images, generator.integers(0, 10, count))
    with distribution.strategy.scope():
        network = network_for(train, "lenet300")
        model = tracked(network, count)
        model.padded_batches = distribution.pads_batches
        if distribution.pads_batches:
            inputs = tf.zeros([1, 8, 8, 1])
            build_metrics(model, inputs, model(inputs))
        model.optimizer.build(network.trainable_variables)
    loop, size = StepLoop(model, distribution), FLAGS.batch_size

    def of_shard(shard):
        ids = np.arange(count)
        return training_batches(train, ids, batch_size=size, seed=(0,), shard=shard)

    batches = iter(distribution.batches(of_shard, size))
    loop.train(batches, 1)  # compiles the step and shuffles the ids
    return lambda: loop.train(batches, _STEPS.value)


def main(_) -> None:
    """Times each number of samples and prints the tables."""
    distribution = make_distribution("mirrored", FLAGS.devices) if FLAGS.devices > 1 else None
    distribution = make_distribution(distribution)
    counts = [int(count) for count in _SAMPLES.value]
    results = rows(
        take_turns(
            {f"{count:,}": steps_on(count, distribution) for count in counts}, FLAGS.repeats
        ),
        f"{counts[0]:,}",
        _STEPS.value * FLAGS.batch_size,
    )
    print(table(results, f"{counts[0]:,}"))
    key = tf.constant([0, 0], tf.int64)
    ids = {f"{count:,}": tf.range(count, dtype=tf.int64) for count in counts}
    shuffles = {name: functools.partial(shuffled, all_ids, key) for name, all_ids in ids.items()}
    order = rows(take_turns(shuffles, FLAGS.repeats), f"{counts[0]:,}")
    print("to shuffle the ids, once per epoch:")
    print(table(order, f"{counts[0]:,}"))
    write(FLAGS.output, {"steps": results, "shuffles": order})


if __name__ == "__main__":
    app.run(main)
