"""The time of a search outside its training and validation steps, as a fraction of its wall time.

    python benchmarks/overhead.py --dataset=cifar10 --data_dir=DATA --model=resnet20 \
        --limit_train=10000

Runs one search. Measures the compiled steps of training and validation and the predictions of CEP;
the rest is masks, mask distances, snapshots, checkpoints and files. The first call of each
includes compilation and is reported separately. Also prints how often the training step was traced:
once, for any number of rounds.
"""

from __future__ import annotations

import collections
import tempfile
import time

import common_flags
from absl import app, flags
from common_flags import FLAGS
from networks import network_for
from turns import write

from tf_prac import PruningConfig, TicketSearch, TrainingRecipe
from tf_prac.training.inference import Predictor
from tf_prac.training.loop import StepLoop
from tf_prac.training.prac_model import PracModel

common_flags.define(
    *common_flags.DATA, *common_flags.NETWORK, "epochs", "batch_size", "augment", "output"
)
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Rounds of the search.")


class Clock:
    """Sums the time inside some methods, with the first call of each kept separate."""

    def __init__(self):
        self.seconds = collections.Counter()
        self.first = {}

    def watch(self, kind, owner, name):
        """Measures a method of a class from now on."""
        method = getattr(owner, name)

        def timed(*args, **kwargs):
            started = time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                elapsed = time.perf_counter() - started
                is_first = kind not in self.first
                self.first.setdefault(kind, elapsed)
                self.seconds[kind] += 0 if is_first else elapsed

        setattr(owner, name, timed)


def main(_) -> None:
    """Runs the search and prints how its time is divided."""
    clock, models = Clock(), []
    clock.watch("training", StepLoop, "train")
    clock.watch("validation", StepLoop, "evaluate")
    clock.watch("predictions", Predictor, "classes")
    make = PracModel.__init__

    def recorded(self, *args, **kwargs):
        models.append(self)
        make(self, *args, **kwargs)

    PracModel.__init__ = recorded
    train = common_flags.load_data().train
    with tempfile.TemporaryDirectory() as directory:
        search = TicketSearch(
            lambda: network_for(train),
            TrainingRecipe(epochs=FLAGS.epochs, batch_size=FLAGS.batch_size, augment=FLAGS.augment),
            PruningConfig(rounds=_ROUNDS.value, rewind="1ep"),
            directory=f"{directory}/run",
            retrain="none",
            verbose=False,
        )
        started = time.perf_counter()
        result = search.run(train)
        wall = time.perf_counter() - started
    steps, first = sum(clock.seconds.values()), sum(clock.first.values())
    rest = wall - steps - first
    for name, seconds in {**clock.seconds, "first calls": first, "the rest": rest}.items():
        print(f"{name:<15}{seconds:>10.2f} s{seconds / (wall - first):>10.1%}")
    print(f"{'wall':<15}{wall:>10.2f} s")
    [model] = models
    print(f"{len(result.summary['rounds'])} rounds, training step traced {model.traces} times")
    content = {"wall": wall, "first_calls": first, "rest": rest, "seconds": clock.seconds}
    write(FLAGS.output, {**content, "rest_fraction": rest / (wall - first)})


if __name__ == "__main__":
    app.run(main)
