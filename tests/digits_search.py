"""Short searches on handwritten digits with a small dense network."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from tf_prac import TicketSearch, TrainingRecipe
from tf_prac.config import SearchConfig
from tf_prac.data.splits import make_splits
from tf_prac.training.trainer import Trainer

X, Y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
TRAIN, TEST = (X[:500], Y[:500]), (X[500:700], Y[500:700])


def make_model_fn(flavor, widths=(16,), norm=False, last="linear"):
    """Returns a function that builds a network; `norm` is after the first of the hidden layers."""
    keras = importlib.import_module(flavor)

    def model_fn():
        x = inputs = keras.Input((64,))
        for number, width in enumerate(widths):
            x = keras.layers.Dense(width, activation="relu")(x)
            if norm and number == 0:
                x = keras.layers.BatchNormalization()(x)
        return keras.Model(inputs, keras.layers.Dense(10, activation=last)(x))

    return model_fn


def make_search(flavor, directory, *, recipe: TrainingRecipe, retrain="none", **options: Any):
    config = SearchConfig(recipe=recipe).replace(**{"rewind": "3it", **options})
    return TicketSearch(
        make_model_fn(flavor), config, directory=directory, retrain=retrain, verbose=False
    )


def splits(recipe: TrainingRecipe, seed=0):
    """Returns the samples of a search with these digits."""
    return make_splits(TRAIN, None, TEST, recipe, seed)


def counted(monkeypatch):
    """Records the steps of every training from now on."""
    steps, train = [], Trainer.train

    def count(self, *args, **kwargs):
        result = train(self, *args, **kwargs)
        steps.append(result.steps)
        return result

    monkeypatch.setattr(Trainer, "train", count)
    return steps
