"""Whether a training step takes longer the more samples there are.

    python benchmarks/sample_ids.py --keras=keras --devices=2

The same network and steps with each number of samples, in turn, over and over: each is the search's
own loop, which reads, trains, holds masks and records forgetting, at ids from all over the data.
What it takes to shuffle the ids, once an epoch, is measured beside it.
"""

import functools

import numpy as np
import tensorflow as tf
from absl import app, flags
from networks import tracked
from turns import rows, table, take_turns, write

from tf_prac import build_model
from tf_prac.data.order import shuffled
from tf_prac.data.pipeline import training_batches
from tf_prac.data.samples import ArraySamples
from tf_prac.keras_api import build_metrics
from tf_prac.training.distribution import make_distribution
from tf_prac.training.loop import StepLoop

_KERAS = flags.DEFINE_string("keras", "keras", "Flavour: keras or tf_keras.")
_DEVICES = flags.DEFINE_integer("devices", 1, "Logical devices of the CPU.")
_SAMPLES = flags.DEFINE_list("samples", "50000,1280000", "Numbers of samples.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 128, "Samples per step, of all devices.")
_STEPS = flags.DEFINE_integer("steps", 200, "Steps of a turn.")
_REPEATS = flags.DEFINE_integer("repeats", 15, "Turns after one to warm up.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")


def way(count, distribution):
    """Returns what takes the steps of a turn, on so many samples of 8 x 8."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 255, (count, 8, 8, 1), np.uint8)
    train = ArraySamples(images, generator.integers(0, 10, count))
    with distribution.strategy.scope():
        network = build_model("lenet300", keras=_KERAS.value, input_shape=(8, 8, 1), num_classes=10)
        model = tracked(network, count)
        if distribution.static:
            inputs = tf.zeros([1, 8, 8, 1])
            build_metrics(model, inputs, model(inputs))
        model.optimizer.build(network.trainable_variables)
    loop, size = StepLoop(model, distribution), _BATCH_SIZE.value

    def make(shard):
        ids = np.arange(count)
        return training_batches(train, ids, batch_size=size, seed=(0,), shard=shard)

    batches = iter(distribution.batches(make, size))
    loop.train(batches, 1)  # builds it, and shuffles
    return lambda: loop.train(batches, _STEPS.value)


def main(_) -> None:
    """Times each number of samples, and prints the table."""
    distribution = make_distribution("mirrored", _DEVICES.value) if _DEVICES.value > 1 else None
    distribution = make_distribution(distribution)
    counts = [int(count) for count in _SAMPLES.value]
    found = rows(
        take_turns({f"{count:,}": way(count, distribution) for count in counts}, _REPEATS.value),
        f"{counts[0]:,}",
        _STEPS.value * _BATCH_SIZE.value,
    )
    print(table(found, f"{counts[0]:,}"))
    key = tf.constant([0, 0], tf.int64)
    ids = {f"{count:,}": tf.range(count, dtype=tf.int64) for count in counts}
    shuffles = {name: functools.partial(shuffled, all_ids, key) for name, all_ids in ids.items()}
    order = rows(take_turns(shuffles, _REPEATS.value), f"{counts[0]:,}")
    print("to shuffle once an epoch:")
    print(table(order, f"{counts[0]:,}"))
    write(_OUTPUT.value, {"steps": found, "shuffles": order})


if __name__ == "__main__":
    app.run(main)
