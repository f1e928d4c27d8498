"""Which layers `prune` and a search prune: frozen ones, heads, dead ones; models they refuse."""

from __future__ import annotations

import importlib
import warnings

import numpy as np
import pytest
import tensorflow as tf

from tf_prac import (
    Masks,
    PolynomialDecay,
    PracModel,
    PruningConfig,
    RewindCheckpoint,
    TicketSearch,
    TrainingRecipe,
    load_model,
    prunable_weights,
    prune,
    weight_report,
    with_sample_ids,
)
from tf_prac.errors import ArgumentError
from tf_prac.keras_api import FLAVORS
from tf_prac.pruning.criteria import prune as by_scores
from tf_prac.pruning.report import PruningReport
from tf_prac.storage.files import read_json

both = pytest.mark.parametrize("flavor", FLAVORS)
X = np.random.default_rng(0).normal(size=(32, 6)).astype(np.float32)
Y = np.arange(32) % 3


def load(flavor):
    return importlib.import_module(flavor)


def loss(keras):
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def mlp(keras, *widths):
    layers = [keras.layers.Dense(width) for width in widths]
    return keras.Sequential([keras.layers.InputLayer((6,)), *layers])


def transfer(keras):
    """Returns a frozen base of two layers below two trainable layers."""
    layers = keras.layers
    base = keras.Sequential([layers.InputLayer((6,)), layers.Dense(5), layers.Dense(4)])
    base.trainable = False
    return keras.Sequential([layers.InputLayer((6,)), base, layers.Dense(4), layers.Dense(3)])


@both
def test_frozen_layers_stay_dense_and_that_is_said(flavor):
    model = transfer(load(flavor))
    reasons = {i.name: i.reason for i in weight_report(model) if i.name.endswith("kernel")}
    assert list(reasons.values()).count("frozen (trainable=False)") == 2
    with pytest.warns(UserWarning, match="2 kernels of frozen layers stay dense"):
        pruned = prune(model, sparsity=0.5)
    assert list(pruned.masks) == ["dense/kernel"]
    assert pruned.masks.sparsity == 0.5
    frozen = prune(transfer(load(flavor)), masks=Masks({"sequential/dense/kernel": np.eye(6, 5)}))
    assert frozen.masks.sparsity > 0.5  # named by the user
    model.trainable = False
    with pytest.raises(ArgumentError, match="dense/kernel: frozen"):
        prunable_weights(model)


def test_a_search_prunes_only_trainable_layers(tmp_path):
    search = TicketSearch(
        lambda: transfer(load("keras")),
        TrainingRecipe(epochs=1, batch_size=16),
        PruningConfig(rounds=1, rewind="1it"),
        directory=tmp_path,
        retrain="none",
        verbose=False,
    )
    assert list(search.run((X, Y)).tickets[-1].masks) == ["dense/kernel"]


def two_heads(keras, names=("digit", "even")):
    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(8, activation="relu", name="body")(inputs)
    first = keras.layers.Dense(3, name=names[0])(hidden)
    second = keras.layers.Dense(3, name=f"{names[1]}_logits")(hidden)
    return keras.Model(inputs, [first, keras.layers.Activation("softmax", name=names[1])(second)])


@both
def test_no_output_layer_is_pruned(flavor):
    keras = load(flavor)
    assert list(prunable_weights(two_heads(keras))) == ["body/kernel"]
    outer = keras.Input((6,))
    nested = keras.Model(outer, two_heads(keras)(outer))
    assert [name.split("/")[-2] for name in prunable_weights(nested)] == ["body"]
    everything = prunable_weights(two_heads(keras), PruningConfig(prune_last_dense=True))
    assert set(everything) == {"body/kernel", "digit/kernel", "even_logits/kernel"}


@both
def test_outputs_keep_their_names(flavor, tmp_path):
    keras = load(flavor)
    config = PruningConfig(prune_last_dense=True)
    model = prune(two_heads(keras), sparsity=0.5, pruning=config)
    again = type(model).from_config(model.get_config())
    losses = {"digit": loss(keras), "even": keras.losses.SparseCategoricalCrossentropy()}
    for pruned in (model, again):
        assert list(pruned.output_names) == ["digit", "even"]
        pruned.compile("sgd", losses, run_eagerly=True)
        pruned.fit(X, {"digit": Y, "even": Y}, verbose=0)


@both
def test_layers_are_chosen_by_their_groups(flavor):
    keras = load(flavor)
    inputs = keras.Input((4, 3))
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.LSTM(4)(inputs)))
    pruned = prune(model, layers=("dense", "recurrent"), sparsity=0.5)
    config = PruningConfig(layers=("dense", "recurrent"))
    assert list(pruned.masks) == list(prunable_weights(model, config)) != []
    with pytest.raises(ArgumentError, match="layers: received 'attention'"):
        prune(model, layers=("attention",), sparsity=0.5)


@both
def test_forgetting_is_recorded_without_prunable_weights(flavor):
    keras = load(flavor)
    inputs = keras.Input((6, 1))
    network = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.LSTM(4)(inputs)))
    with pytest.raises(ArgumentError, match="a model with weights to prune"):
        PracModel(network)
    model = PracModel(network, num_samples=32)
    model.compile("sgd", loss(keras), run_eagerly=True)
    data = tf.data.Dataset.from_tensor_slices((X[..., None], Y))
    model.fit(with_sample_ids(data).batch(16), shuffle=False, verbose=0)
    assert model.forgetting.stats.seen.all()
    assert len(model.masks) == 0


def test_a_layer_that_dies_is_named_with_a_remedy():
    masks = {"a/kernel": np.ones((30, 10)), "b/kernel": np.zeros((20, 10))}
    report = PruningReport.of(masks)
    assert report.empty == ("b/kernel",)
    assert (report.sparsity, report.layers["a/kernel"]) == (0.4, 0)
    with pytest.warns(UserWarning, match=r"b/kernel \(keeps 0.0%\).*scope=\"layerwise\""):
        report.warn_of_dead_layers()
    keras = load("keras")
    model = mlp(keras, 8, 9, 3)
    model.layers[1].kernel.assign(np.full((8, 9), 1e-6))
    with pytest.warns(UserWarning, match="dense_.*keeps 0.0%"):
        prune(model, sparsity=0.7)
    uniform = {"a": np.arange(1000) < 5, "b": np.arange(2000) < 10}  # sparse, not dead
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PruningReport.of(uniform).warn_of_dead_layers()


@both
def test_a_pruned_model_shows_its_sparsity(flavor):
    model = prune(two_heads(load(flavor)), sparsity=0.5)
    assert repr(model).endswith(": 50.0% of 48 weights pruned: body/kernel 50.0%>")
    many = {f"layer_{n}/kernel": np.arange(10) < n for n in range(10)}
    assert len(repr(PruningReport.of(many))) < 300


OVERRIDES = {
    "train_step": lambda self, data: {},
    "test_step": lambda self, data: {},
    "predict_step": lambda self, data: data,
    "compute_loss": lambda self, *args, **options: 0.0,
    "compute_metrics": lambda self, *args, **options: {},
    "metrics": property(lambda self: []),
}


@both
@pytest.mark.parametrize("wrap", [lambda m: prune(m, sparsity=0.5), PracModel])
@pytest.mark.parametrize("name", OVERRIDES)
def test_a_model_whose_overrides_would_be_bypassed_is_refused(flavor, wrap, name):
    keras = load(flavor)
    own = type("Own", (keras.Model,), {name: OVERRIDES[name]})
    inputs = keras.Input((6,))
    model = own(inputs, keras.layers.Dense(3)(keras.layers.Dense(4)(inputs)))
    with pytest.raises(ArgumentError, match=f"overrides {name}.*bypass.*MaskedWeights"):
        wrap(model)


@both
def test_a_schedule_that_never_prunes_warns(flavor):
    keras = load(flavor)
    network = mlp(keras, 4, 3)
    model = prune(network, schedule=PolynomialDecay(0.0, 0.8, 0, 1000, frequency=100))
    model.compile("sgd", loss(keras), run_eagerly=True)
    with pytest.warns(UserWarning, match="ended after step 2, .* first at step 100"):
        model.fit(X, Y, batch_size=16, verbose=0)


def rewind_fit(point, first, path=None, epochs=10):
    keras = load("keras")
    model = mlp(keras, 3)
    model.compile("sgd", loss(keras), run_eagerly=True)
    early = RewindCheckpoint(point, path=path)
    model.fit(X, Y, batch_size=8, initial_epoch=first, epochs=epochs, verbose=0, callbacks=[early])
    return early


def test_a_rewind_point_counts_from_the_start_of_the_training(tmp_path):
    for point, step in (("50%", 20), ("60%", 24), ("30it", 30), ("7ep", 28)):
        assert rewind_fit(point, first=5).step == step
    with pytest.raises(ArgumentError, match="starts with epoch 5.*pass path"):
        rewind_fit("10%", first=5)
    kept = rewind_fit("10%", 0, tmp_path / "w_k.npz", epochs=5)
    again = rewind_fit("2it", 5, tmp_path / "w_k.npz")
    assert all(np.array_equal(again.weights[n], kept.weights[n]) for n in kept.weights)


def test_a_rewind_point_of_less_than_a_step_is_said():
    with pytest.warns(UserWarning, match="2% of this training is less than one step"):
        assert rewind_fit("2%", 0, epochs=5).step == 0


@both
def test_a_failed_save_keeps_the_file_before_it(flavor, tmp_path, monkeypatch):
    keras = load(flavor)
    network = mlp(keras, 4, 3)
    for model in (prune(network), PracModel(network)):
        path = tmp_path / "model.keras"
        model.save(path)
        before = path.read_bytes()

        def fail(self, store):
            raise OSError("disk full")

        with monkeypatch.context() as patch:
            patch.setattr(keras.layers.Dense, "save_own_variables", fail)
            with pytest.raises(OSError, match="disk full"):
                model.save(path)
        assert path.read_bytes() == before
        assert [p.name for p in tmp_path.iterdir()] == ["model.keras"]


LARGE, SMALL = np.arange(1, 101.0) + 1000, np.arange(1, 21.0)


def test_a_floor_keeps_the_best_weights_of_each_layer():
    scores = {"large": LARGE, "small": SMALL}
    dense = Masks.ones_like(scores)
    assert not by_scores(scores, dense, 0.5)["small"].any()
    kept = by_scores(scores, dense, 0.5, min_layer_density=0.15)
    assert kept["small"].tolist() == [False] * 17 + [True] * 3
    assert kept.remaining == 60 and kept["large"][-57:].all()
    again = by_scores(scores, kept, 0.5, min_layer_density=0.15)
    assert again["small"].sum() == 3 and again.remaining == 30
    with pytest.raises(ArgumentError, match="min_layer_density.*at most the density after .*0.5"):
        by_scores(scores, dense, 0.5, min_layer_density=0.6)


@both
def test_a_floor_of_prune_and_of_a_schedule(flavor, tmp_path):
    def network():
        keras = load(flavor)
        keras.utils.set_random_seed(0)
        model = mlp(keras, 8, 8, 3)
        model.layers[-2].kernel.assign(model.layers[-2].kernel / 100)
        return model

    with pytest.warns(UserWarning, match="PruningConfig.min_layer_density=0.01."):
        assert prune(network(), sparsity=0.6).pruning_report.empty
    floor = PruningConfig(min_layer_density=0.1)
    pruned = prune(network(), sparsity=0.6, pruning=floor)
    assert [int(mask.sum()) for mask in pruned.masks.values()] == [38, 7]
    model = prune(network(), schedule=PolynomialDecay(0.1, 0.6, 0, 4, frequency=1), pruning=floor)
    model.compile("sgd", loss(load(flavor)))
    model.fit(X, Y, batch_size=8, epochs=2, verbose=0)
    assert model.masks.sparsity == pytest.approx(0.6, abs=0.01) and not model.pruning_report.empty
    model.save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    assert loaded._gradual.rule.min_layer_density == 0.1


def test_a_search_keeps_the_floor(tmp_path):
    def network():
        model = mlp(load("keras"), 8, 8, 3)
        model.layers[-2].kernel.assign(model.layers[-2].kernel / 1000)
        return model

    recipe = TrainingRecipe(epochs=1, batch_size=16, learning_rate=1e-4)
    options = {"directory": tmp_path / "run", "retrain": "none", "verbose": False}
    pruning = PruningConfig(rounds=1, prune_rate=0.6, rewind="1it", min_layer_density=0.1)
    masks = TicketSearch(network, recipe, pruning, **options).run((X, Y)).tickets[-1].masks
    assert [int(mask.sum()) for mask in masks.values()] == [38, 7]
    assert read_json(tmp_path / "run" / "config.json", "config")["pruning"]["min_layer_density"]
