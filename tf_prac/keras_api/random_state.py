"""Seeds, and the random generators of layers such as Dropout."""

from __future__ import annotations

import random
import sys
from typing import Any

import numpy as np

from tf_prac.keras_api.flavor import FLAVORS, flavor_of


def seed_everything(seed: int) -> None:
    """Seeds Python, NumPy, TensorFlow and each imported Keras, so initial weights are fixed."""
    import tensorflow as tf

    random.seed(seed)
    np.random.seed(seed)
    tf.random.set_seed(seed)
    for name in FLAVORS:
        if name in sys.modules:
            sys.modules[name].utils.set_random_seed(seed)


def random_states(model: Any) -> list[Any]:
    """Returns the state variables of the random generators of a model's layers."""
    if flavor_of(model).name == "keras":
        weights = {id(variable) for variable in model.weights}
        others = [variable for variable in model.variables if id(variable) not in weights]
        return [v for v in others if v.name == "seed_generator_state"]
    generators = [getattr(layer, "_random_generator", None) for layer in model._flatten_layers()]
    return [_stateful_generator(g).state for g in dict.fromkeys(generators) if g is not None]


def reset_random_layers(model: Any, seed: tuple[int, ...]) -> None:
    """Seeds the random generators of a model's layers, such as Dropout.

    By default, Keras 2 keeps the state of random layers inside graph operations, where it can be
    neither read nor written. Such layers are switched to generators whose state is a variable.

    Args:
        model: a built model of either flavor; with Keras 2, not yet traced for training.
        seed: non-negative integers.
    """
    key_index = 0 if flavor_of(model).name == "keras" else -1  # the other elements are counters
    for number, state in enumerate(random_states(model)):
        value = np.zeros(state.shape, np.int64)
        value[key_index] = np.random.SeedSequence([*seed, number]).generate_state(1)[0] >> 1
        state.assign(value)


def _stateful_generator(generator: Any) -> Any:
    """The `tf.random.Generator` of a Keras 2 layer, created if there is none."""
    if generator._rng_type == "legacy_stateful":
        generator._rng_type = "stateful"
        generator._built = False
    generator._maybe_init()
    return generator._generator
