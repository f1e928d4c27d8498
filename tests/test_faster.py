"""The two options that trade time for something else: bfloat16, and XLA."""

import importlib

import numpy as np
import pytest

from tf_prac import (
    PruningConfig,
    TicketSearch,
    TrainingRecipe,
    build_model,
    load_dataset,
)
from tf_prac.data.source import ArraySamples
from tf_prac.errors import ArgumentError
from tf_prac.keras_api import FLAVORS

both = pytest.mark.parametrize("flavor", FLAVORS)
ROUNDS = PruningConfig(rounds=2, rewind="1it")


def result(flavor, directory, model="lenet300", data=None, **options):
    """What a short search finds; the last batch of each epoch is partial."""
    data = data or load_dataset("digits", limit_train=400).train
    recipe = TrainingRecipe(epochs=2, batch_size=48, schedule="constant", **options)
    search = TicketSearch(
        lambda: build_model(
            model, keras=flavor, input_shape=data.input_shape, num_classes=data.num_classes
        ),
        recipe,
        ROUNDS,
        directory=directory,
        retrain="none",
        verbose=False,
    )
    return search, search.run(data)


@both
def test_a_search_in_bfloat16_keeps_weights_in_float32_and_resumes(flavor, tmp_path):
    keras = importlib.import_module(flavor)
    search, found = result(flavor, tmp_path / "run", mixed_precision=True)
    _, plain = result(flavor, tmp_path / "plain")
    assert keras.mixed_precision.global_policy().name == "float32"
    network = search.make_network()
    assert {layer.compute_dtype for layer in network.layers} == {"bfloat16", "float32"}
    assert network.layers[-1].compute_dtype == "float32"
    assert all(w.dtype == np.float32 for w in found.tickets[-1].weights.values())
    masks, others = found.tickets[-1].masks, plain.tickets[-1].masks
    agree = sum(np.sum(masks[name] == others[name]) for name in masks) / masks.size
    assert 0.75 < agree < 1  # close to the search in float32, and not the same
    assert result(flavor, tmp_path / "run", mixed_precision=True)[1].tickets[-1].masks == masks


@both
def test_a_search_compiled_by_xla_trains_as_without(flavor, tmp_path):
    small = load_dataset("digits", limit_train=100).train
    _, compiled = result(flavor, tmp_path / "xla", data=small, jit_compile=True)
    _, plain = result(flavor, tmp_path / "plain", data=small)
    for ours, theirs in zip(compiled.tickets, plain.tickets, strict=True):
        masks, others = ours.masks, theirs.masks
        same = sum(np.sum(masks[name] == others[name]) for name in masks)
        assert same > 0.99 * masks.size
    for name, value in plain.tickets[0].weights.items():
        np.testing.assert_allclose(compiled.tickets[0].weights[name], value, atol=1e-5)


@both
def test_layers_that_do_not_compute_in_bfloat16_are_refused(flavor, tmp_path):
    keras = importlib.import_module(flavor)
    samples = ArraySamples(np.zeros((20, 4), np.float32), np.arange(20) % 2)

    def search(dtype, last):
        def model_fn():
            inputs = keras.Input((4,))
            hidden = keras.layers.Dense(3, dtype=dtype)(inputs)
            return keras.Model(inputs, keras.layers.Dense(2, dtype=last)(hidden))

        recipe = TrainingRecipe(epochs=2, mixed_precision=True)
        return TicketSearch(model_fn, recipe, directory=tmp_path / "run", verbose=False)

    with pytest.raises(ArgumentError, match="compute in float32, outputs in float32"):
        search("float32", "float32").run(samples)
    with pytest.raises(ArgumentError, match="outputs in bfloat16.*last layer"):
        search(None, None).run(samples)
