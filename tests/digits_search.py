"""Short searches on handwritten digits with a small dense network."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from tf_prac import TicketSearch, TrainingRecipe
from tf_prac.config import SearchConfig

X, Y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
TRAIN, TEST = (X[:500], Y[:500]), (X[500:700], Y[500:700])


def make_model_fn(flavour):
    keras = importlib.import_module(flavour)

    def model_fn():
        inputs = keras.Input((64,))
        x = keras.layers.Dense(16, activation="relu")(inputs)
        return keras.Model(inputs, keras.layers.Dense(10)(x))

    return model_fn


def make_search(flavour, directory, *, recipe: TrainingRecipe, retrain="none", **options: Any):
    config = SearchConfig(recipe=recipe).replace(**{"rewind": "3it", **options})
    return TicketSearch(
        make_model_fn(flavour), config, directory=directory, retrain=retrain, verbose=False
    )
