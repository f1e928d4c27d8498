"""What `--mixed_precision` and `--jit_compile` change in the time of the search's loop.

    python benchmarks/faster.py --dataset=cifar10 --data_dir=DATA --model=resnet20

Both, and neither, train an epoch in turn, over and over, an 80% mask held. Prints the median
seconds of an epoch and the ratio to neither of the same turn; `--output` writes them as JSON. The
first epoch, in which each is compiled, is printed by itself.
"""

from __future__ import annotations

from absl import app, flags
from networks import network_for, search_epoch
from turns import rows, table, take_turns, write

from tf_prac import load_dataset
from tf_prac.keras_api import Flavour, new_network

_DATASET = flags.DEFINE_string("dataset", "mnist", "Name of the data set.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where it is.")
_LIMIT_TRAIN = flags.DEFINE_integer("limit_train", None, "Use the first n samples.")
_MODEL = flags.DEFINE_string("model", "lenet300", "Name of the network.")
_KERAS = flags.DEFINE_string("keras", "keras", "Flavour: keras or tf_keras.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 128, "Samples per step.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Turns after one to warm up.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")

OPTIONS = {
    "neither": (False, False),
    "mixed_precision": (True, False),
    "jit_compile": (False, True),
}


def main(_) -> None:
    """Times the loops, and prints the table."""
    limit = _LIMIT_TRAIN.value
    train = load_dataset(_DATASET.value, data_dir=_DATA_DIR.value, limit_train=limit).train
    Flavour(_KERAS.value).module  # noqa: B018 - imported, so that the policy can be set
    ways = {name: epoch(train, *options) for name, options in OPTIONS.items()}
    first = take_turns(ways, 1, warmups=0)
    found = rows(take_turns(ways, _REPEATS.value, warmups=0), "neither", len(train))
    print(table(found, "neither"))
    for name, seconds in first.items():
        found[name]["first_seconds"] = seconds[0]
        print(f"first epoch, {name}: {seconds[0]:.1f} s")
    write(_OUTPUT.value, found)


def epoch(train, mixed_precision, jit_compile):
    """What trains one epoch more."""
    network = new_network(lambda: network_for(train, _MODEL.value, _KERAS.value), mixed_precision)
    return search_epoch(network, train, _BATCH_SIZE.value, jit_compile=jit_compile)


if __name__ == "__main__":
    app.run(main)
