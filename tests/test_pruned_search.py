"""Searches on models that bring masks, in patterns, and to sparsities of a schedule."""

import numpy as np
import pytest
import tensorflow_model_optimization as tfmot
from test_pruned import blobs, both, functional, load, wrapped

from tf_prac import (
    PolynomialDecay,
    PracConfig,
    PruningConfig,
    TicketSearch,
    TrainingRecipe,
    prune,
    snapshot,
)
from tf_prac.errors import ArgumentError
from tf_prac.pruning.patterns import Block

RECIPE = TrainingRecipe(epochs=2, batch_size=8, learning_rate=0.05)
FULL_DATA = PracConfig(use_cet=False, use_cep=False, early_stop_eps=None)
EVERYTHING = {"prune_last_dense": True, "scope": "layerwise"}


def search(model_fn, directory, **pruning):
    config = PruningConfig(**{"rounds": 2, "prune_rate": 0.5, **pruning})
    options = {"retrain": "none", "verbose": False, "directory": directory}
    return TicketSearch(model_fn, RECIPE, config, FULL_DATA, **options).run(blobs())


def test_a_search_starts_from_the_masks_of_tfmots_wrappers(tmp_path):
    keras = load("tf_keras")

    def model_fn():
        model = wrapped(functional(keras))
        for layer in model.layers:
            for weight, mask, _ in getattr(layer, "pruning_vars", []):
                first = (np.arange(mask.numpy().size) % 4 > 0).reshape(mask.shape)
                mask.assign(first)
                weight.assign(weight * first)
        return model

    found = search(model_fn, tmp_path, scope="layerwise").tickets
    assert [t.sparsity for t in found] == pytest.approx([0.25, 0.625, 0.8125], abs=0.03)
    assert list(found[0].masks) == ["dense/kernel", "dense_1/kernel", "dense_2/kernel"]
    for before, after in zip(found, found[1:], strict=False):
        assert not any((after.masks[n] & ~before.masks[n]).any() for n in after.masks)
    for flavor in ("keras", "tf_keras"):
        model = prune(functional(load(flavor)), ticket=found[-1])
        expected = found[-1].masks.apply(found[-1].weights)
        for name, value in snapshot(model).items():
            assert value.tobytes() == expected[name].tobytes()
    plain = tfmot.sparsity.keras.strip_pruning(model)
    assert type(plain).__name__ == "Functional"


@both
def test_a_search_prunes_blocks_to_the_sparsities_of_a_schedule(flavor, tmp_path):
    targets = PolynomialDecay(0.0, 0.75, begin_step=0, end_step=2).per_round(2)
    options = {"sparsities": targets, "block_size": (2, 1), "layers": ("dense",), **EVERYTHING}
    tickets = search(lambda: functional(load(flavor)), tmp_path, **options).tickets
    assert [t.sparsity for t in tickets] == pytest.approx([0, *targets], abs=0.05)
    for mask in tickets[-1].masks.values():
        blocks = Block((2, 1)).split(mask[: len(mask) // 2 * 2], 0)
        assert (blocks.all((1, 3)) | ~blocks.any((1, 3))).all()


@both
def test_two_of_four_take_one_round(flavor, tmp_path):
    def model_fn():
        return functional(load(flavor))

    with pytest.raises(ArgumentError, match="rounds: received 2; allowed: 1 with sparsity_m_by_n"):
        search(model_fn, tmp_path, sparsity_m_by_n=(2, 4))
    assert not list(tmp_path.iterdir())
    ticket = search(model_fn, tmp_path, sparsity_m_by_n=(1, 2), rounds=1).tickets[-1]
    assert ticket.sparsity == 0.5
