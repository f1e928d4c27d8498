"""The effect of `--mixed_precision` and `--jit_compile` on the time of the loop of a search.

    python benchmarks/faster.py --dataset=cifar10 --data_dir=DATA --model=resnet20

Each option alone and neither train one epoch per turn with an 80% mask. Prints the median seconds
of an epoch and the ratio to neither; `--output` writes them as JSON. The first epoch of each, which
includes compilation, is printed separately.
"""

from __future__ import annotations

import common_flags
from absl import app
from common_flags import FLAGS
from networks import network_for, search_epoch
from turns import rows, table, take_turns, write

from tf_prac.keras_api import Flavor, new_network

common_flags.define(
    *common_flags.DATA, *common_flags.NETWORK, "batch_size", "repeats", "output", dataset="mnist"
)

OPTIONS = {
    "neither": (False, False),
    "mixed_precision": (True, False),
    "jit_compile": (False, True),
}


def main(_) -> None:
    """Times the loops and prints the table."""
    train = common_flags.load_data().train
    Flavor(FLAGS.keras).module  # noqa: B018 - imports it, so that its policy can be set
    alternatives = {name: epoch(train, *options) for name, options in OPTIONS.items()}
    first = take_turns(alternatives, 1, warmups=0)
    results = rows(take_turns(alternatives, FLAGS.repeats, warmups=0), "neither", len(train))
    print(table(results, "neither"))
    for name, seconds in first.items():
        results[name]["first_seconds"] = seconds[0]
        print(f"first epoch, {name}: {seconds[0]:.1f} s")
    write(FLAGS.output, results)


def epoch(train, mixed_precision, jit_compile):
    """Returns a function that trains one more epoch."""
    network = new_network(lambda: network_for(train), mixed_precision)
    return search_epoch(network, train, FLAGS.batch_size, jit_compile=jit_compile)


if __name__ == "__main__":
    app.run(main)
