"""Searches on tabular data: the quality of the cut of 53,940 diamonds, with a small dense network.

    pip install plotnine
    python benchmarks/tabular.py --output_dir=runs/tabular

The data is ggplot2's, which the package plotnine ships (both are under the MIT license): 53,940
rows, five classes, and nine features, of which color and clarity become one column per value. It
can also be read from another copy, with --csv. Runs arms of `tf-prac compare`, resumably; a fifth
of the rows, chosen at random with a fixed seed, is for testing.
"""

import csv
import importlib.util
import pathlib

import keras
import numpy as np
from absl import app, flags

from tf_prac import Comparison, PruningConfig, TrainingRecipe
from tf_prac.analysis.results import results_text

ARMS = "imp,prac,random_subset,imp+same_steps,fast,random_pruning"
CUTS = ("Fair", "Good", "Very Good", "Premium", "Ideal")
NUMBERS = ("carat", "depth", "table", "price", "x", "y", "z")
NAMES = ("color", "clarity")

_CSV = flags.DEFINE_string("csv", None, "File of the data. Default: that of plotnine.")
_ARMS = flags.DEFINE_list("arms", ARMS, "Arms.")
_SEEDS = flags.DEFINE_list("seeds", "0,1,2", "Seeds.")
_EPOCHS = flags.DEFINE_integer("epochs", 8, "Epochs of the dense network.")
_ROUNDS = flags.DEFINE_integer("rounds", 10, "Rounds of training and pruning.")
_RATE = flags.DEFINE_float("prune_rate", 0.3, "Fraction to prune in each round.")
_RETRAIN = flags.DEFINE_list("retrain", "5,8,10", "Numbers of the tickets to retrain.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "runs/tabular", "Directory of the comparison.")


def path_in_plotnine():
    """Returns the path of the file in the package, without importing the package."""
    spec = importlib.util.find_spec("plotnine")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("error: plotnine is not installed: pip install plotnine, or give --csv.")
    return pathlib.Path(spec.submodule_search_locations[0], "data", "diamonds.csv")


def read(path):
    """Returns the features, float32 [n, 22], and the classes, int64 [n]."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    numbers = np.array([[float(row[name]) for name in NUMBERS] for row in rows])
    columns = [(numbers - numbers.mean(0)) / numbers.std(0)]
    for name in NAMES:
        values = np.array([row[name] for row in rows])
        columns.append(values[:, None] == np.unique(values))
    labels = np.array([CUTS.index(row["cut"]) for row in rows])
    return np.concatenate(columns, 1).astype(np.float32), labels


def make_model():
    """Builds the network: 22-256-128-5, 38,400 prunable weights."""
    layers = keras.layers
    inputs = keras.Input((22,))
    x = layers.Dense(256, activation="relu")(inputs)
    x = layers.Dense(128, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(len(CUTS))(x))


def main(_) -> None:
    """Runs the comparison; prints the table of its results."""
    x, y = read(_CSV.value or path_in_plotnine())
    order = np.random.default_rng(0).permutation(len(x))
    test, train = order[: len(x) // 5], order[len(x) // 5 :]
    comparison = Comparison(
        make_model,
        _ARMS.value,
        TrainingRecipe(epochs=_EPOCHS.value),
        PruningConfig(rounds=_ROUNDS.value, prune_rate=_RATE.value),
        seeds=map(int, _SEEDS.value),
        directory=_OUTPUT_DIR.value,
        retrain=[int(number) for number in _RETRAIN.value],
    )
    print(results_text(comparison.run((x[train], y[train]), test=(x[test], y[test]))))


if __name__ == "__main__":
    app.run(main)
