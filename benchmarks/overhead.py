"""What a search does beside training and validation steps, as a fraction of its wall time.

    python benchmarks/overhead.py --dataset=cifar10 --data_dir=DATA --model=resnet20 \
        --limit_train=10000

One search. Time inside the compiled steps of training and validation, and inside the predictions of
CEP, is taken apart; the rest is masks, mask distances, snapshots, checkpoints and files. The first
call of each, which compiles it, is shown by itself. Also prints how often the training step was
built in Python: once, whatever the number of rounds.
"""

from __future__ import annotations

import collections
import tempfile
import time

from absl import app, flags
from turns import write

from tf_prac import PruningConfig, TicketSearch, TrainingRecipe, build_model, load_dataset
from tf_prac.training.inference import Predictor
from tf_prac.training.loop import StepLoop
from tf_prac.training.prac_model import PracModel

_DATASET = flags.DEFINE_string("dataset", "digits", "Name of the data set.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where it is.")
_LIMIT_TRAIN = flags.DEFINE_integer("limit_train", None, "Use the first n samples.")
_MODEL = flags.DEFINE_string("model", "lenet300", "Name of the network.")
_KERAS = flags.DEFINE_string("keras", "keras", "Flavour: keras or tf_keras.")
_EPOCHS = flags.DEFINE_integer("epochs", 4, "Epochs of the dense network.")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Rounds.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 128, "Samples per step.")
_AUGMENT = flags.DEFINE_string("augment", "none", "Augmentation.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")


class Clock:
    """Adds up the time inside some methods; the first call of each is kept apart."""

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
                passed = time.perf_counter() - started
                new = kind not in self.first
                self.first.setdefault(kind, passed)
                self.seconds[kind] += 0 if new else passed

        setattr(owner, name, timed)


def main(_) -> None:
    """Runs the search and prints where its time went."""
    clock, models = Clock(), []
    clock.watch("training", StepLoop, "train")
    clock.watch("validation", StepLoop, "evaluate")
    clock.watch("predictions", Predictor, "classes")
    make = PracModel.__init__

    def noted(self, *args, **kwargs):
        models.append(self)
        make(self, *args, **kwargs)

    PracModel.__init__ = noted
    limit = _LIMIT_TRAIN.value
    data = load_dataset(_DATASET.value, data_dir=_DATA_DIR.value, limit_train=limit)
    shape, classes = data.train.input_shape, data.train.num_classes
    recipe = TrainingRecipe(
        epochs=_EPOCHS.value, batch_size=_BATCH_SIZE.value, augment=_AUGMENT.value
    )
    with tempfile.TemporaryDirectory() as directory:
        search = TicketSearch(
            lambda: build_model(
                _MODEL.value, keras=_KERAS.value, input_shape=shape, num_classes=classes
            ),
            recipe,
            PruningConfig(rounds=_ROUNDS.value, rewind="1ep"),
            directory=f"{directory}/run",
            retrain="none",
            verbose=False,
        )
        started = time.perf_counter()
        result = search.run(data.train)
        whole = time.perf_counter() - started
    steps, first = sum(clock.seconds.values()), sum(clock.first.values())
    rest = whole - steps - first
    for name, passed in {**clock.seconds, "first calls": first, "the rest": rest}.items():
        print(f"{name:<15}{passed:>10.2f} s{passed / (whole - first):>10.1%}")
    print(f"{'wall':<15}{whole:>10.2f} s")
    [model] = models
    print(f"{len(result.summary['rounds'])} rounds, training step built {model.traces} times")
    content = {"wall": whole, "first_calls": first, "rest": rest, "seconds": clock.seconds}
    write(_OUTPUT.value, {**content, "rest_fraction": rest / (whole - first)})


if __name__ == "__main__":
    app.run(main)
