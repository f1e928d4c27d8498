"""The training loop of a search against a bare loop: no Keras loop, ids, masks or statistics.

    python benchmarks/bare.py --dataset=mnist --data_dir=DATA

The bare loop is a `tf.function` that gathers shuffled batches of the same size from tensors in
memory, with the same network and optimizer: a lower bound of the cost of training (it does not
augment). The loop of a search runs with samples on the device and streamed. All train one epoch per
turn. Prints the median seconds of an epoch and the ratio to the bare loop; `--output`
writes them as JSON.
"""

from __future__ import annotations

from collections.abc import Callable

import common_flags
import tensorflow as tf
from absl import app
from common_flags import FLAGS
from networks import compiled, network_for, search_epoch
from turns import rows, table, take_turns, write

from tf_prac.data.pipeline import normalized
from tf_prac.data.source import Samples

common_flags.define(
    *common_flags.DATA,
    *common_flags.NETWORK,
    "augment",
    "batch_size",
    "output",
    dataset="mnist",
    repeats=9,
)


def main(_) -> None:
    """Times both loops and prints the table."""
    train = common_flags.load_data().train
    alternatives = {"bare loop": bare(train)}
    for placement in ("device", "stream"):
        alternatives[f"search loop, {placement}"] = search_epoch(
            network_for(train),
            train,
            FLAGS.batch_size,
            augment=FLAGS.augment,
            data_placement=placement,
        )
    results = rows(take_turns(alternatives, FLAGS.repeats), "bare loop", len(train))
    print(table(results, "bare loop"))
    write(FLAGS.output, results)


def bare(samples: Samples) -> Callable[[], object]:
    """Returns a function that trains one more epoch in a single call of a `tf.function`."""
    size = FLAGS.batch_size
    model = compiled(network_for(samples))
    x = normalized(samples, tf.constant(samples.inputs(range(len(samples)))))
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
