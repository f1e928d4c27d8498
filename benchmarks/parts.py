"""Where the time of a training step goes: the search's loop, with one part after another left out.

    python benchmarks/parts.py --dataset=mnist --data_dir=DATA

All train an epoch in turn, over and over: the search's loop; without forgetting; without masks
either, which is Keras's own step; that without the accuracy; and that on one batch again and again,
which leaves no input pipeline. Prints the median seconds of an epoch and the ratio to the search's
loop of the same turn; `--output` writes them as JSON.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from absl import app, flags
from networks import compiled, network_for, tracked
from turns import rows, table, take_turns, write

from tf_prac import Masks, PracModel, load_dataset, prunable_weights, random_mask
from tf_prac.data.pipeline import training_batches
from tf_prac.keras_api import Flavour
from tf_prac.training.loop import StepLoop

_DATASET = flags.DEFINE_string("dataset", "mnist", "Name of the data set.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where it is.")
_LIMIT_TRAIN = flags.DEFINE_integer("limit_train", None, "Use the first n samples.")
_MODEL = flags.DEFINE_string("model", "lenet300", "Name of the network.")
_KERAS = flags.DEFINE_string("keras", "keras", "Flavour: keras or tf_keras.")
_AUGMENT = flags.DEFINE_string("augment", "none", "Augmentation.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 128, "Samples per step.")
_REPEATS = flags.DEFINE_integer("repeats", 7, "Turns after one to warm up.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")


def main(_) -> None:
    """Times the loops, and prints the table."""
    data = load_dataset(_DATASET.value, data_dir=_DATA_DIR.value, limit_train=_LIMIT_TRAIN.value)
    train, size = data.train, _BATCH_SIZE.value
    keras = Flavour(_KERAS.value).module
    ids = np.arange(len(train))
    batches = training_batches(train, ids, batch_size=size, seed=(0,), augment=_AUGMENT.value)
    plain = batches.map(lambda x, y: (x["inputs"], y))

    def network():
        return network_for(train, _MODEL.value, _KERAS.value)

    def masked():
        inner = network()
        masks = random_mask(Masks.ones_like(prunable_weights(inner)), 0.8, seed=0)
        return compiled(PracModel(inner, masks=masks), keras)

    def silent():
        model = compiled(network(), keras)
        model.compile(model.optimizer, model.loss, jit_compile=False)
        return model

    again = tf.data.Dataset.from_tensors(next(iter(plain))).repeat()
    loops = {
        "search loop": (tracked(network(), len(train)), batches),
        "- forgetting": (masked(), plain),
        "- masks": (compiled(network(), keras), plain),
        "- accuracy": (silent(), plain),
        "- input": (silent(), again),
    }
    steps = -(-len(train) // size)
    ways = {name: epoch(model, iter(data), steps) for name, (model, data) in loops.items()}
    found = rows(take_turns(ways, _REPEATS.value), "search loop", len(train))
    print(table(found, "search loop"))
    write(_OUTPUT.value, found)


def epoch(model, batches, steps):
    """What trains one epoch more."""
    loop = StepLoop(model)
    return lambda: loop.train(batches, steps)


if __name__ == "__main__":
    app.run(main)
