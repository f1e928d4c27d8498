"""Tunes the width of a network together with prune rate, rewind point and learning rate.

    python examples/tune_prac.py

Each trial of KerasTuner is a search for a ticket of the same sparsity. The same command resumes
an interrupted tuning.
"""

import keras_tuner
from absl import app, flags

from tf_prac import PracTuner, Range, TrainingRecipe, load_dataset
from tf_prac.errors import TfPracError
from tf_prac.keras_api import Flavor

_KERAS = flags.DEFINE_string("keras", "keras", "Flavor: keras or tf_keras.")
_SPARSITY = flags.DEFINE_float("sparsity", 0.9, "Sparsity of the tickets.")
_TRIALS = flags.DEFINE_integer("trials", 8, "Number of trials.")
_EPOCHS = flags.DEFINE_integer("epochs", 20, "Epochs of the dense network.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "tuning/digits", "Directory of the trials.")


def main(_) -> None:
    """Tunes on handwritten digits and prints every trial."""
    keras = Flavor(_KERAS.value).module
    data = load_dataset("digits")

    def build(hp):
        layers = keras.layers
        return keras.Sequential(
            [
                layers.InputLayer(data.train.input_shape),
                layers.Flatten(),
                layers.Dense(hp.Int("units", 32, 256, step=32), activation="relu"),
                layers.Dense(data.train.num_classes),
            ]
        )

    objective = keras_tuner.Objective("score", "max")  # val_accuracy + 0.1 * steps_saved
    oracle = keras_tuner.oracles.BayesianOptimizationOracle(
        objective, max_trials=_TRIALS.value, seed=0
    )
    oracle.verbose = 0
    tuner = PracTuner(
        oracle,
        build,
        {
            "prune_rate": Range(0.2, 0.6),
            "learning_rate": Range(0.01, 0.3, log=True),
            "rewind": ["0it", "5%", "20%"],
            "early_stop_eps": [None, 0.07],
        },
        sparsity=_SPARSITY.value,
        recipe=TrainingRecipe(epochs=_EPOCHS.value),
        directory=_OUTPUT_DIR.value,
    )
    tuner.search(data.train, test=data.test)
    for row in tuner.rows():
        text = ", ".join(
            f"{name} {row[name]:.3g}" if isinstance(row[name], float) else f"{name} {row[name]}"
            for name in ("units", "prune_rate", "learning_rate", "rewind", "early_stop_eps")
        )
        if row["status"] == "COMPLETED":
            text += f": {row['val_accuracy']:.1%}, {row['steps_saved']:.1%} of steps saved"
        print(f"trial {row['trial']}: {text}")
    print(f"best: {tuner.run_path(tuner.best_trial())}")


if __name__ == "__main__":
    try:
        app.run(main)
    except TfPracError as error:
        raise SystemExit(f"error: {error}") from None
