"""The cost of masks and forgetting statistics on top of plain Keras training.

    python benchmarks/training_step.py --keras=keras --model=lenet300 --batch_size=60

Compares plain `fit`, `fit` of a `PracModel` with an 80% mask, and the loop of a search (the
same, with exact steps). Each trains one epoch per turn. Prints the median seconds of an epoch and
the ratio to plain `fit`; `--output` writes them as JSON.
"""

import common_flags
import numpy as np
from absl import app
from common_flags import FLAGS
from networks import compiled, network_for, tracked
from turns import rows, table, take_turns, write

from tf_prac.data.pipeline import training_batches
from tf_prac.training.loop import StepLoop

common_flags.define(
    *common_flags.DATA,
    *common_flags.NETWORK,
    "augment",
    "repeats",
    "output",
    batch_size=60,
    steps_per_execution=32,
)


def main(_) -> None:
    """Times the three and prints the table."""
    train = common_flags.load_data().train
    steps = -(-len(train) // FLAGS.batch_size)

    def batches(count):
        return training_batches(
            train,
            np.arange(len(train)),
            batch_size=FLAGS.batch_size,
            seed=(0,),
            steps=count,
            augment=FLAGS.augment,
        )

    options = {"steps_per_execution": FLAGS.steps_per_execution}
    plain = compiled(network_for(train), **options)
    ours = tracked(network_for(train), len(train), **options)
    loop = StepLoop(ours)
    with_ids = batches(steps)
    without_ids = with_ids.map(lambda x, y: (x["inputs"], y))
    endless = iter(batches(None))
    alternatives = {
        "plain fit": lambda: plain.fit(without_ids, shuffle=False, verbose=0),
        "PracModel fit": lambda: ours.fit(with_ids, shuffle=False, verbose=0),
        "search loop": lambda: loop.train(endless, steps),
    }
    results = rows(take_turns(alternatives, FLAGS.repeats), "plain fit", len(train))
    print(table(results, "plain fit"))
    write(FLAGS.output, results)


if __name__ == "__main__":
    app.run(main)
