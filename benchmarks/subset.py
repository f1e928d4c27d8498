"""An epoch over a PrAC set of 30% of the samples, against an epoch over everything.

    python benchmarks/subset.py --dataset=mnist --data_dir=DATA --model=lenet300 --batch_size=128

With samples in memory, and streamed from TensorFlow Datasets' files, where memory does not hold the
decoded images. The first epoch over a set finds its samples; from the second on nothing else should
be read. The ratio to aim at is 0.30.
"""

from __future__ import annotations

import numpy as np
from absl import app, flags
from networks import network_for, search_epoch
from turns import rows, table, take_turns, write

from tf_prac import load_dataset
from tf_prac.data.stream import StreamSamples

_DATASET = flags.DEFINE_string("dataset", "mnist", "Name of the data set.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where it is.")
_LIMIT_TRAIN = flags.DEFINE_integer("limit_train", None, "Use the first n samples.")
_MODEL = flags.DEFINE_string("model", "lenet300", "Name of the network.")
_KERAS = flags.DEFINE_string("keras", "keras", "Flavour: keras or tf_keras.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 128, "Samples per step.")
_AUGMENT = flags.DEFINE_string("augment", "none", "Augmentation.")
_FRACTION = flags.DEFINE_float("fraction", 0.3, "Of the samples in the set.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Turns after one to warm up.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")


def main(_) -> None:
    """Times both epochs, stored both ways, and prints the table."""
    options = {"data_dir": _DATA_DIR.value, "limit_train": _LIMIT_TRAIN.value}
    memory = load_dataset(_DATASET.value, **options).train
    stored = {"in memory": memory}
    if _DATASET.value != "digits":
        size = len(memory) * int(np.prod(memory.input_shape))  # bytes of the decoded images
        options["memory_limit_bytes"] = size - 1
        stored["streamed"] = load_dataset(_DATASET.value, **options).train
        assert isinstance(stored["streamed"], StreamSamples)
    everything = np.arange(len(memory))
    count = round(_FRACTION.value * len(memory))
    chosen = np.sort(np.random.default_rng(0).choice(everything, count, replace=False))
    ways = {}
    for place, samples in stored.items():
        for name, ids in (("everything", everything), ("set", chosen)):
            ways[f"{name} {place}"] = _epoch(samples, ids)
    seconds = take_turns(ways, _REPEATS.value)
    found = {
        place: rows(_of(seconds, place), f"everything {place}", len(memory)) for place in stored
    }
    for place, each in found.items():
        print(table(each, f"everything {place}"), "\n")
    write(_OUTPUT.value, {"fraction": _FRACTION.value, "rows": found})


def _epoch(samples, ids):
    """What trains one epoch more, of an endless iterator over some samples."""
    network = network_for(samples, _MODEL.value, _KERAS.value)
    return search_epoch(network, samples, _BATCH_SIZE.value, ids=ids, augment=_AUGMENT.value)


def _of(seconds, place):
    return {name: times for name, times in seconds.items() if name.endswith(place)}


if __name__ == "__main__":
    app.run(main)
