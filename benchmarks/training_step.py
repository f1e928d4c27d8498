"""What masks held and forgetting recorded cost on top of plain Keras training.

    python benchmarks/training_step.py --keras=keras --model=lenet300 --batch_size=60

Three ways to train the same epochs, in turn, over and over: plain `fit`, `fit` of a `PracModel`
with an 80% mask, and the loop of the search (the same, with exact steps). Prints the median seconds
of an epoch and the ratio to plain `fit` of the same turn; `--output` writes them as JSON.
"""

import numpy as np
from absl import app, flags
from networks import compiled, network_for, tracked
from turns import rows, table, take_turns, write

from tf_prac import load_dataset
from tf_prac.data.pipeline import training_batches
from tf_prac.keras_api import Flavour
from tf_prac.training.loop import StepLoop

_DATASET = flags.DEFINE_string("dataset", "digits", "Name of the data set.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where it is.")
_LIMIT_TRAIN = flags.DEFINE_integer("limit_train", None, "Use the first n samples.")
_MODEL = flags.DEFINE_string("model", "lenet300", "Name of the network.")
_KERAS = flags.DEFINE_string("keras", "keras", "Flavour: keras or tf_keras.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 60, "Samples per step.")
_STEPS_PER_EXECUTION = flags.DEFINE_integer("steps_per_execution", 32, "For both `fit`s.")
_AUGMENT = flags.DEFINE_string("augment", "none", "Augmentation of all three.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Turns after one to warm up.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")


def main(_) -> None:
    """Times the three ways, and prints the table."""
    train = load_dataset(
        _DATASET.value, data_dir=_DATA_DIR.value, limit_train=_LIMIT_TRAIN.value
    ).train
    steps = -(-len(train) // _BATCH_SIZE.value)

    def batches(count):
        ids = np.arange(len(train))
        return training_batches(
            train,
            ids,
            batch_size=_BATCH_SIZE.value,
            seed=(0,),
            steps=count,
            augment=_AUGMENT.value,
        )

    at_once = {"steps_per_execution": _STEPS_PER_EXECUTION.value}
    first, second = (network_for(train, _MODEL.value, _KERAS.value) for _ in range(2))
    plain = compiled(first, Flavour(_KERAS.value).module, **at_once)
    ours = tracked(second, len(train), **at_once)
    loop = StepLoop(ours)
    with_ids = batches(steps)
    without = with_ids.map(lambda x, y: (x["inputs"], y))
    endless = iter(batches(None))
    ways = {
        "plain fit": lambda: plain.fit(without, shuffle=False, verbose=0),
        "PracModel fit": lambda: ours.fit(with_ids, shuffle=False, verbose=0),
        "search loop": lambda: loop.train(endless, steps),
    }
    found = rows(take_turns(ways, _REPEATS.value), "plain fit", len(train))
    print(table(found, "plain fit"))
    write(_OUTPUT.value, found)


if __name__ == "__main__":
    app.run(main)
