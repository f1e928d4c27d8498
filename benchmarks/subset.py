"""An epoch over a PrAC set of 30% of the samples against an epoch over all samples.

    python benchmarks/subset.py --dataset=mnist --data_dir=DATA --model=lenet300 --batch_size=128

Measured with samples in memory, and streamed from the files of TensorFlow Datasets because the
decoded images do not fit in the memory limit. The first epoch over a set locates its samples; later
epochs should read nothing else. The ideal ratio is 0.30.
"""

from __future__ import annotations

import common_flags
import numpy as np
from absl import app, flags
from common_flags import FLAGS
from networks import network_for, search_epoch
from turns import rows, table, take_turns, write

from tf_prac.data.stream import StreamSamples

common_flags.define(
    *common_flags.DATA,
    *common_flags.NETWORK,
    "batch_size",
    "augment",
    "repeats",
    "output",
    dataset="mnist",
)
_FRACTION = flags.DEFINE_float("fraction", 0.3, "Fraction of the samples in the set.")


def main(_) -> None:
    """Times both epochs with both kinds of storage, and prints the tables."""
    memory = common_flags.load_data().train
    stored = {"in memory": memory}
    if FLAGS.dataset != "digits":
        size = len(memory) * int(np.prod(memory.input_shape))  # bytes of the decoded images
        stored["streamed"] = common_flags.load_data(memory_limit_bytes=size - 1).train
        assert isinstance(stored["streamed"], StreamSamples)
    everything = np.arange(len(memory))
    count = round(_FRACTION.value * len(memory))
    chosen = np.sort(np.random.default_rng(0).choice(everything, count, replace=False))
    alternatives = {}
    for storage, samples in stored.items():
        for name, ids in (("everything", everything), ("set", chosen)):
            alternatives[f"{name} {storage}"] = _epoch(samples, ids)
    seconds = take_turns(alternatives, FLAGS.repeats)
    results = {
        storage: rows(_of(seconds, storage), f"everything {storage}", len(memory))
        for storage in stored
    }
    for storage, each in results.items():
        print(table(each, f"everything {storage}"), "\n")
    write(FLAGS.output, {"fraction": _FRACTION.value, "rows": results})


def _epoch(samples, ids):
    """Returns a function that trains one more epoch over some samples."""
    network = network_for(samples)
    return search_epoch(network, samples, FLAGS.batch_size, ids=ids, augment=FLAGS.augment)


def _of(seconds, storage):
    return {name: times for name, times in seconds.items() if name.endswith(storage)}


if __name__ == "__main__":
    app.run(main)
