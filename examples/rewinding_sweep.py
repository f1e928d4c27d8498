"""Searches for tickets with several rewind points k, and compares them with random tickets.

    python examples/rewinding_sweep.py

A small version of Figure 4 of "Stabilizing the Lottery Ticket Hypothesis", on the handwritten
digits of scikit-learn. The dense network is trained once for all k.
"""

from absl import app, flags

from tf_prac import (
    PRAC_VARIANTS,
    PruningConfig,
    RewindSweep,
    TrainingRecipe,
    build_model,
    load_dataset,
)
from tf_prac.analysis.sweep import sweep_text
from tf_prac.errors import TfPracError

_KERAS = flags.DEFINE_string("keras", "keras", "Flavor: keras or tf_keras.")
_REWINDS = flags.DEFINE_list("rewinds", ["0it", "2%", "9%", "27%"], "Rewind points k.")
_EPOCHS = flags.DEFINE_integer("epochs", 20, "Epochs of the dense network.")
_ROUNDS = flags.DEFINE_integer("rounds", 6, "Rounds of training and pruning.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "sweeps/rewinding", "Directory of the sweep.")


def main(_) -> None:
    """Runs the sweep on full data and prints its table."""
    data = load_dataset("digits")

    def make_model():
        return build_model(
            "lenet300",
            keras=_KERAS.value,
            input_shape=data.train.input_shape,
            num_classes=data.train.num_classes,
        )

    sweep = RewindSweep(
        make_model,
        _REWINDS.value,
        TrainingRecipe(epochs=_EPOCHS.value),
        PruningConfig(rounds=_ROUNDS.value, prune_rate=0.5),
        PRAC_VARIANTS["none"].prac,
        controls=("random_mask",),
        directory=_OUTPUT_DIR.value,
        retrain="last",
        verbose=False,
    )
    results = sweep.run(data.train, test=data.test)
    print(sweep_text(results))
    steps = results["steps"]
    print(f"{steps['trained']:,} steps trained, {steps['shared']:,} saved by sharing round 0")
    print(f"table and figures: {sweep.directory}")


if __name__ == "__main__":
    try:
        app.run(main)
    except TfPracError as error:
        raise SystemExit(f"error: {error}") from None
