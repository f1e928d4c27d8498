"""Names, prunable weights, snapshots and rewinding, over both flavors."""

import importlib

import numpy as np
import pytest
from halved import halved

from tf_prac import (
    Masks,
    PruningConfig,
    prunable_weights,
    random_mask,
    rewind,
    snapshot,
    weight_report,
)
from tf_prac.errors import ArgumentError, MismatchError
from tf_prac.keras_api import FLAVORS, flavor_of, named_weights
from tf_prac.pruning.weights import prune_rates

both = pytest.mark.parametrize("flavor", FLAVORS)


def load(flavor):
    return importlib.import_module(flavor)


def nested(keras):
    """A keras.applications network inside a Sequential."""
    base = keras.applications.MobileNetV2(
        weights=None, input_shape=(32, 32, 3), include_top=False, alpha=0.35
    )
    model = keras.Sequential([base, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10)])
    model.build((None, 32, 32, 3))
    return model


def subclassed(keras):
    class Network(keras.Model):
        def __init__(self):
            super().__init__()
            self.first = keras.layers.Dense(4, activation="relu")
            self.blocks = [keras.layers.Dense(5), keras.layers.Dense(6)]
            self.last = keras.layers.Dense(3)

        def call(self, x):
            x = self.first(x)
            for block in self.blocks:
                x = block(x)
            return self.last(x)

    model = Network()
    model(np.zeros((1, 7), np.float32))
    return model


def shared(keras):
    inputs = keras.Input((6,))
    layer = keras.layers.Dense(6)
    return keras.Model(inputs, keras.layers.Dense(2)(layer(layer(inputs))))


def many_layers(keras):
    inputs = keras.Input((8, 16))
    x = keras.layers.MultiHeadAttention(2, 8)(inputs, inputs)
    x = keras.layers.Bidirectional(keras.layers.LSTM(4))(x)
    x = keras.layers.BatchNormalization()(x)
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Dense(5)(x)))


MODELS = [nested, subclassed, shared, many_layers]


@pytest.mark.parametrize("make", MODELS)
def test_names_are_equal_over_flavors_and_over_time(make):
    first = {
        f: [(w.name, tuple(w.variable.shape)) for w in named_weights(make(load(f)))]
        for f in FLAVORS
    }
    again = {
        f: [(w.name, tuple(w.variable.shape)) for w in named_weights(make(load(f)))]
        for f in FLAVORS
    }
    assert first == again
    assert first["keras"] == first["tf_keras"]
    names = [name for name, _ in first["keras"]]
    assert len(set(names)) == len(names)


@halved("flavor, make", FLAVORS, tuple(MODELS))
def test_every_weight_is_named_once(flavor, make):
    model = make(load(flavor))
    assert {id(w.variable) for w in named_weights(model)} == {id(w) for w in model.weights}
    assert len(named_weights(model)) == len(model.weights)


@both
def test_default_prunable_weights(flavor):
    keras = load(flavor)
    assert list(prunable_weights(subclassed(keras))) == [
        "dense/kernel",
        "dense_1/kernel",
        "dense_2/kernel",
    ]
    assert list(prunable_weights(shared(keras))) == ["dense/kernel"]
    convolutions = prunable_weights(nested(keras))
    assert all(name.endswith("kernel") for name in convolutions)
    assert not any("depthwise" in name or "bn" in name.lower() for name in convolutions)
    groups = PruningConfig(layers=("depthwise",))
    assert all("depthwise" in name for name in prunable_weights(nested(keras), groups))


@both
def test_every_skipped_weight_has_a_reason(flavor):
    model = many_layers(load(flavor))
    report = {info.name: info for info in weight_report(model)}
    assert report["dense_1/kernel"].reason == "the last dense layer (prune_last_dense=False)"
    assert report["dense/bias"].reason == "a bias, not a kernel"
    assert "no pruning rule" in report["batch_normalization/gamma"].reason
    assert (
        "recurrent layers are not pruned"
        in report["bidirectional/forward_lstm/lstm_cell/kernel"].reason
    )
    assert report["multi_head_attention/query/kernel"].prunable
    ignored = PruningConfig(ignore=("multi_head*", "dense"))
    report = {info.name: info for info in weight_report(model, ignored)}
    assert report["dense/kernel"].reason == "named in ignore"
    with pytest.raises(ArgumentError, match="weights to prune"):
        prunable_weights(model, ignored)


@both
def test_a_layer_can_choose_its_prunable_weights(flavor):
    keras = load(flavor)

    class Chooses(keras.layers.Layer):
        def build(self, shape):
            self.a = self.add_weight(shape=(shape[-1], 4), name="a")
            self.b = self.add_weight(shape=(4,), name="b")

        def call(self, x):
            return x @ self.a + self.b

        def get_prunable_weights(self):
            return [self.a]

    model = keras.Sequential([keras.layers.InputLayer((3,)), Chooses(), keras.layers.Dense(2)])
    assert list(prunable_weights(model)) == ["chooses/a"]


@halved("flavor, make", FLAVORS, tuple(MODELS))
def test_snapshot_and_rewind_restore_every_bit(flavor, make):
    model = make(load(flavor))
    before = snapshot(model)
    for weight in model.weights:
        weight.assign(weight.numpy() + 1)
    rewind(model, before)
    after = snapshot(model)
    assert before.keys() == after.keys()
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])


def test_a_snapshot_moves_between_flavors():
    models = {f: nested(load(f)) for f in FLAVORS}
    masks = random_mask(Masks.ones_like(prunable_weights(models["keras"])), 0.7, seed=1)
    weights = snapshot(models["keras"])
    for model in models.values():
        rewind(model, weights, masks)
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    a, b = (np.asarray(m(x, training=False)) for m in models.values())
    np.testing.assert_allclose(a, b, atol=1e-5)
    for name in masks:
        kept = snapshot(models["tf_keras"])[name]
        np.testing.assert_array_equal(kept, weights[name] * masks[name])


@both
def test_mismatches_change_nothing(flavor):
    model = subclassed(load(flavor))
    before = snapshot(model)
    for change, message in (
        (
            {"dense/kernel": np.zeros((9, 9))},
            r"dense/kernel has shape \(7, 4\), the saved one \(9, 9\)",
        ),
        ({"other": np.zeros(3)}, "has no weight 'other'"),
    ):
        with pytest.raises(MismatchError, match=message):
            rewind(model, {**before, **change})
    missing = {k: v for k, v in before.items() if k != "dense/bias"}
    with pytest.raises(MismatchError, match="'dense/bias' is not in the saved weights"):
        rewind(model, missing)
    for name, value in snapshot(model).items():
        np.testing.assert_array_equal(value, before[name])


@both
def test_flavors_and_unbuilt_models(flavor):
    keras = load(flavor)
    model = keras.Sequential([keras.layers.Dense(3)])
    assert flavor_of(model).name == flavor
    with pytest.raises(ArgumentError, match="Call it on a batch"):
        prunable_weights(model)
    with pytest.raises(ArgumentError, match="keras .Keras 3. or tf_keras"):
        flavor_of("a string")


def two_kinds(keras):
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3, name="conv_a")(inputs)
    x = keras.layers.Conv2D(4, 3, name="conv_b")(x)
    x = keras.layers.Dense(6, name="hidden")(keras.layers.Flatten()(x))
    return keras.Model(inputs, keras.layers.Dense(3, name="logits")(x))


@both
def test_the_first_rule_that_fits_gives_the_rate_of_a_layer(flavor):
    model = two_kinds(load(flavor))
    assert set(prune_rates(model).values()) == {0.2}
    rules = ("output=0.05", "conv_b=0.3", "conv=0.1", "dense=0.4", "conv_a/*=0.9")
    config = PruningConfig(prune_last_dense=True, layer_rates=rules)
    assert prune_rates(model, config) == {
        "conv_a/kernel": 0.1,
        "conv_b/kernel": 0.3,
        "hidden/kernel": 0.4,
        "logits/kernel": 0.05,
    }
    assert (
        prune_rates(
            two_kinds(load(flavor)),
            PruningConfig(layer_rates=("logits*=0.1",), prune_last_dense=True),
        )["logits/kernel"]
        == 0.1
    )


@both
@pytest.mark.parametrize("rule", ["output=0.1", "logits=0.1", "embedding=0.1", "nothing=0.1"])
def test_a_rule_that_fits_nothing_is_refused(flavor, rule):
    with pytest.raises(ArgumentError, match="layer_rates: .*conv_a/kernel.*no weight that is pr"):
        prune_rates(two_kinds(load(flavor)), PruningConfig(layer_rates=(rule,)))


@both
def test_a_name_to_ignore_that_fits_nothing_is_refused(flavor):
    model = two_kinds(load(flavor))
    with pytest.raises(ArgumentError, match="ignore: received 'conv_z'; allowed: .*conv_a"):
        prunable_weights(model, PruningConfig(ignore=("conv_a", "conv_z")))
