"""The search's training loop beside a bare one: no Keras loop, no ids, no masks, no record.

    python benchmarks/bare.py --dataset=mnist --data_dir=DATA

The bare loop is a `tf.function` that gathers batches from tensors in memory, with the same network,
optimizer, batches of the same size and shuffling; there is nothing left to take out of it but the
training itself. Both train an epoch in turn, over and over. Prints the median seconds of an epoch
and the ratio to the bare loop of the same turn; `--output` writes them as JSON.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf
from absl import app, flags
from networks import compiled, network_for, search_epoch
from turns import rows, table, take_turns, write

from tf_prac import load_dataset
from tf_prac.data.pipeline import normalised
from tf_prac.data.source import Samples
from tf_prac.keras_api import Flavour

_DATASET = flags.DEFINE_string("dataset", "mnist", "Name of the data set.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where it is.")
_LIMIT_TRAIN = flags.DEFINE_integer("limit_train", None, "Use the first n samples.")
_MODEL = flags.DEFINE_string("model", "lenet300", "Name of the network.")
_KERAS = flags.DEFINE_string("keras", "keras", "Flavour: keras or tf_keras.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 128, "Samples per step.")
_REPEATS = flags.DEFINE_integer("repeats", 9, "Turns after one to warm up.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")


def main(_) -> None:
    """Times both, and prints the table."""
    data = load_dataset(_DATASET.value, data_dir=_DATA_DIR.value, limit_train=_LIMIT_TRAIN.value)
    network = network_for(data.train, _MODEL.value, _KERAS.value)
    search = search_epoch(network, data.train, _BATCH_SIZE.value)
    ways = {"bare loop": bare(data.train), "search loop": search}
    found = rows(take_turns(ways, _REPEATS.value), "bare loop", len(data.train))
    print(table(found, "bare loop"))
    write(_OUTPUT.value, found)


def bare(samples: Samples) -> Callable[[], object]:
    """Returns what trains one epoch more, in one call of a function that does nothing else."""
    size = _BATCH_SIZE.value
    model = compiled(network_for(samples, _MODEL.value, _KERAS.value), Flavour(_KERAS.value).module)
    x = normalised(samples, tf.constant(samples.inputs(range(len(samples)))))
    y = tf.constant(samples.labels)
    variables = model.trainable_variables
    model.optimizer.build(variables)

    @tf.function(autograph=False)
    def epoch():
        order = tf.random.shuffle(tf.range(len(samples)))

        def step(start):
            ids = order[start : start + size]
            with tf.GradientTape() as tape:
                outputs = model(tf.gather(x, ids), training=True)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.gather(y, ids), outputs)
                loss = tf.reduce_mean(losses)
            gradients = tape.gradient(loss, variables)
            model.optimizer.apply_gradients(zip(gradients, variables, strict=True))
            return (start + size,)

        tf.while_loop(lambda start: start < len(samples), step, [tf.constant(0)])

    return lambda: epoch() or variables[0].numpy()


if __name__ == "__main__":
    app.run(main)
