"""`prune`, `strip` and `load_model` in both flavors and with TFMOT's wrappers."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import numpy as np
import precision
import pytest
import tensorflow_model_optimization as tfmot
from halved import halved

import tf_prac
from tf_prac import (
    ConstantSparsity,
    Masks,
    PracModel,
    PruningConfig,
    Ticket,
    prunable_weights,
    prune,
    random_mask,
    snapshot,
    strip,
    weight_report,
)
from tf_prac.errors import ArgumentError, FileError, MismatchError
from tf_prac.keras_api import FLAVORS
from tf_prac.pruning import tfmot as tfmot_module

both = pytest.mark.parametrize("flavor", FLAVORS)
KINDS = ("keras", "tf_keras", "wrapped")


def load(flavor):
    return importlib.import_module(flavor)


def functional(keras):
    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(8, activation="relu")(inputs)
    hidden = keras.layers.BatchNormalization()(hidden)
    hidden = keras.layers.Dense(5, activation="relu")(hidden)
    return keras.Model(inputs, keras.layers.Dense(3)(hidden))


def sequential(keras):
    layers = keras.layers
    return keras.Sequential(
        [layers.InputLayer((6,)), layers.Dense(8, activation="relu"), layers.Dense(5)]
        + [layers.Dense(3)]
    )


def nested(keras):
    inputs = keras.Input((6,))
    return keras.Model(inputs, keras.layers.Dense(3)(functional(keras)(inputs)))


def shared(keras):
    inputs = keras.Input((6,))
    layer = keras.layers.Dense(6)
    return keras.Model(inputs, keras.layers.Dense(3)(layer(layer(inputs))))


MODELS = [sequential, nested, shared]


def build(kind, make):
    """Returns a model of one of the three kinds: plain of either Keras, or wrapped by TFMOT."""
    model = make(load("keras" if kind == "keras" else "tf_keras"))
    return wrapped(model) if kind == "wrapped" else model


def wrapped(model):
    schedule = tfmot.sparsity.keras.ConstantSparsity(0.5, 0, frequency=1)
    return tfmot.sparsity.keras.prune_low_magnitude(model, schedule)


def blobs(count=48):
    generator = np.random.default_rng(0)
    y = generator.integers(0, 3, count)
    x = generator.normal(size=(count, 6)) + 1.5 * np.eye(3, 6)[y]
    return x.astype(np.float32), y


def fit(model, optimizer=None, epochs=2, **options):
    keras = load("tf_keras" if "tf_keras" in str(type(model).__mro__) else "keras")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = optimizer or keras.optimizers.SGD(0.1, momentum=0.9)
    model.compile(optimizer, loss, jit_compile=False, **options)
    return model.fit(*blobs(), batch_size=8, epochs=epochs, verbose=0)


def assert_masked(variables, masks):
    """Every pruned element is +0, and no other element is 0."""
    for name, mask in masks.items():
        value = variables[name].numpy()
        np.testing.assert_array_equal(value != 0, mask)
        assert not np.signbit(value[~mask]).any()


def ticket_of(kind, make, rate=0.6):
    model = build(kind, make)
    masks = random_mask(Masks.ones_like(prunable_weights(model)), rate, seed=1)
    return Ticket(masks, snapshot(model), 1, 0)


@halved("kind, make", KINDS, MODELS)
def test_masked_weights_are_zero_after_fit_and_strip(kind, make):
    model = prune(build(kind, make), sparsity=0.7)
    masks = model.masks
    assert masks.remaining == masks.size - int(masks.size * 0.7 + 0.5)
    before = {name: v.numpy() for name, v in model.prunable.items()}
    fit(model)
    assert model.masks == masks
    assert_masked(model.prunable, masks)
    assert all((before[n] != model.prunable[n].numpy())[masks[n]].any() for n in masks)
    x, _ = blobs()
    plain = strip(model)
    assert type(plain) is type(make(load("keras" if kind == "keras" else "tf_keras")))
    assert not hasattr(plain, "masks")
    np.testing.assert_array_equal(plain.predict(x, verbose=0), model.predict(x, verbose=0))
    named = {name: v for name, v in prunable_weights(plain, everything()).items() if name in masks}
    assert_masked(named, masks)
    assert snapshot(plain).keys() == snapshot(make(load("keras"))).keys()


def everything():
    groups = ("conv", "dense", "depthwise", "embedding", "recurrent")
    return PruningConfig(layers=groups, prune_last_dense=True)


FRESH = """
import json, sys
import numpy as np
import tf_prac
from test_pruned import blobs, fit
for directory in sys.argv[1:]:
    model = tf_prac.load_model(f"{directory}/model.keras")
    x, _ = blobs()
    loaded = model.masks.digest()
    predictions = model.predict(x, verbose=0).tolist()
    fit(model, epochs=1)
    zeros = {n: v.numpy() != 0 for n, v in model.prunable.items()}
    plain = tf_prac.strip(model)
    plain.save(f"{directory}/plain.keras")
    print(json.dumps({"masks": loaded, "after": model.masks.digest(), "predictions": predictions,
                      "zeros": tf_prac.Masks(zeros).digest(), "plain": type(plain).__name__}))
"""


def test_saved_models_train_on_in_a_new_process(tmp_path):
    models, x = {}, blobs()[0]
    for kind in ("keras", "wrapped"):
        models[kind] = prune(build(kind, nested), sparsity=0.7)
        fit(models[kind])
        (tmp_path / kind).mkdir()
        models[kind].save(tmp_path / kind / "model.keras")
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FRESH, *(str(tmp_path / kind) for kind in models)],
        capture_output=True, text=True, cwd=__file__.rpartition("/")[0],
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    lines = [line for line in result.stdout.splitlines() if line.startswith("{")]
    for (kind, model), line in zip(models.items(), lines, strict=True):
        loaded = json.loads(line)
        assert loaded["masks"] == loaded["after"] == loaded["zeros"] == model.masks.digest()
        assert loaded["plain"] == "Functional"
        np.testing.assert_allclose(
            loaded["predictions"], model.predict(x, verbose=0), rtol=precision.rounding(1e-6)
        )
        keras = load("keras" if kind == "keras" else "tf_keras")
        plain = keras.models.load_model(tmp_path / kind / "plain.keras")
        nonzero = {n: v.numpy() != 0 for n, v in prunable_weights(plain, everything()).items()}
        assert Masks({n: nonzero[n] for n in model.masks}) == model.masks


@both
@pytest.mark.parametrize("file", ["model.keras", "directory"])
def test_every_file_format_restores_the_masks(flavor, file, tmp_path):
    if (flavor, file) == ("keras", "directory"):
        pytest.skip("Keras 3 saves no directories")
    model = prune(sequential(load(flavor)), sparsity=0.7)
    fit(model)
    model.save(tmp_path / file)
    again = tf_prac.load_model(tmp_path / file)
    assert again.masks == model.masks
    fit(again)
    assert_masked(again.prunable, model.masks)
    model.save_weights(tmp_path / "some.weights.h5")
    other = prune(sequential(load(flavor)))
    other.load_weights(tmp_path / "some.weights.h5")
    assert other.masks == model.masks


def test_prune_returns_a_model_that_tfmot_works_with():
    """TFMOT's own functions work on it, and its callback changes nothing."""
    keras = load("tf_keras")
    model = prune(functional(keras), sparsity=0.7)
    names = [layer.name for layer in model.layers]
    assert "prune_low_magnitude_" in names[1] and names[2].startswith("batch_normalization")
    wrapper = model.layers[1]
    assert isinstance(wrapper.pruning_schedule, tfmot.sparsity.keras.PruningSchedule)
    (weight, mask, _), = wrapper.pruning_vars  # fmt: skip
    np.testing.assert_array_equal(mask.numpy() != 0, model.masks["dense/kernel"])
    masks = model.masks
    fit(model)
    model.fit(*blobs(), verbose=0, callbacks=[tfmot.sparsity.keras.UpdatePruningStep()])
    assert model.masks == masks
    assert_masked(model.prunable, masks)
    plain = tfmot.sparsity.keras.strip_pruning(model)
    assert type(plain) is type(functional(keras))
    assert_masked(prunable_weights(plain), masks)


def masked(keras, *middle):
    """A model whose layers get a Keras mask: of an embedding, which the layers `middle` follow."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((7,))
    hidden = keras.layers.Embedding(5, 8, mask_zero=True)(inputs)
    for layer in middle:
        hidden = layer(hidden)
    return keras.Model(inputs, keras.layers.Dense(2)(hidden))


def after_masking(keras):
    layers = keras.layers
    return keras.Sequential(
        [layers.InputLayer((7, 3)), layers.Masking(), layers.Dense(8), layers.LSTM(4)]
        + [layers.Dense(2)]
    )


MASKED = {
    "dense": lambda layers: [layers.Dense(8), layers.LSTM(4)],
    "each step": lambda layers: [layers.TimeDistributed(layers.Dense(8)), layers.LSTM(4)],
    "causal convolution": lambda layers: [layers.Conv1D(8, 3, padding="causal")],
}
MASKED_CONFIG = PruningConfig(layers=("conv", "dense", "embedding", "recurrent"))


@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask")  # of Keras 3
@halved("name, flavor", [*MASKED, "masking"], ["tf_keras", "keras"])
def test_layers_get_the_keras_mask_as_without_pruning(name, flavor):
    """Wrappers of Keras 2 take any argument, so that Keras passes a mask to each of them."""
    keras = load(flavor)
    model = masked(keras, *MASKED[name](keras.layers)) if name in MASKED else after_masking(keras)
    x = np.tile([[1, 2, 3, 4, 0, 0, 0], [4, 0, 2, 1, 1, 0, 0]], (2, 1))
    x = x if name in MASKED else np.repeat(x[..., None], 3, -1).astype(np.float32)
    expected = np.asarray(model(x))
    pruned = prune(model, pruning=MASKED_CONFIG)
    np.testing.assert_array_equal(np.asarray(pruned(x)), expected)


def test_wrappers_of_tfmot_keep_their_masks_and_stop_computing_them():
    model = build("wrapped", functional)
    fit_bare(model)
    masks = {n: v for n, v in bare_masks(model).items()}
    assert Masks(masks).sparsity == pytest.approx(0.5, abs=0.02)
    pruned = prune(model)
    assert pruned.masks == Masks(masks)
    assert_masked(pruned.prunable, pruned.masks)
    fit(pruned)
    assert pruned.masks == Masks(masks)


def fit_bare(model):
    keras = load("tf_keras")
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(*blobs(), verbose=0, callbacks=[tfmot.sparsity.keras.UpdatePruningStep()])


def bare_masks(model):
    wrappers = [layer for layer in model.layers if getattr(layer, "pruning_vars", None)]
    return {
        name: layer.pruning_vars[0][1].numpy()
        for name, layer in zip(prunable_weights(model), wrappers, strict=True)
    }


@halved("source, target", KINDS, KINDS)
def test_a_ticket_of_any_kind_applies_to_any_other_bit_for_bit(source, target, make=nested):
    ticket = ticket_of(source, make)
    expected = ticket.masks.apply(ticket.weights)
    for model in (ticket.apply(build(target, make)), prune(build(target, make), ticket=ticket)):
        weights = snapshot(model)
        assert weights.keys() == expected.keys()
        for name, value in expected.items():
            assert weights[name].tobytes() == value.tobytes()
    assert {n: model.masks[n].tolist() for n in ticket.masks} == {
        n: m.tolist() for n, m in ticket.masks.items()
    }
    assert all(m.all() for n, m in model.masks.items() if n not in ticket.masks)
    fit(model)
    assert_masked({n: model.prunable[n] for n in ticket.masks}, ticket.masks)


def test_the_same_ticket_predicts_the_same_in_both_flavors():
    ticket = ticket_of("tf_keras", nested)
    x, _ = blobs()
    predictions = [
        prune(build(kind, nested), ticket=ticket).predict(x, verbose=0) for kind in KINDS
    ]
    np.testing.assert_allclose(predictions[0], predictions[1], atol=1e-5)
    np.testing.assert_allclose(predictions[2], predictions[1], atol=1e-5)


@both
def test_a_pruned_model_can_be_pruned_further_but_not_back(flavor):
    model = prune(functional(load(flavor)), sparsity=0.5)
    first = model.masks
    assert prune(model, sparsity=0.8) is model
    assert model.masks.iou(first) == model.masks.remaining / first.remaining
    with pytest.raises(ArgumentError, match="sparsity: received 0.6; allowed: at least .* 0.795"):
        prune(model, sparsity=0.6)


@both
def test_a_prac_model_uses_the_masks_of_its_network(flavor):
    model = prune(functional(load(flavor)), sparsity=0.5)
    around = PracModel(model)
    assert around.masks == model.masks
    fit(around)
    assert_masked(model.prunable, model.masks)
    assert {i.name for i in weight_report(model) if i.prunable} == set(model.masks)
    assert type(strip(around)) is type(functional(load(flavor)))


@both
def test_invalid_arguments_are_errors_and_change_nothing(flavor):
    model = functional(load(flavor))
    before = snapshot(model)
    with pytest.raises(ArgumentError, match="prune: received 'masks, sparsity'; allowed: one of"):
        prune(model, masks=Masks({}), sparsity=0.5)
    wrong = Masks({"dense/kernel": np.zeros((2, 2))})
    with pytest.raises(MismatchError, match=r"dense/kernel has shape \(6, 8\), its mask \(2, 2\)"):
        prune(model, masks=wrong)
    with pytest.raises(MismatchError, match="'conv2d/kernel', which is not among"):
        prune(model, masks=Masks({"conv2d/kernel": np.zeros((2, 2))}))
    for sparsity in (1.0, -0.1, "much", float("nan")):
        with pytest.raises(ArgumentError, match="sparsity: received"):
            prune(model, sparsity=sparsity)
    amounts = {"layer_rates": ("dense=0",), "sparsities": (0.3,), "sparsity_m_by_n": (2, 4)}
    for given in ({"sparsity": 0.5}, {"schedule": ConstantSparsity(0.5, 0)}):
        for name, value in amounts.items():
            with pytest.raises(ArgumentError, match=f"'{next(iter(given))} and {name}'; allowed"):
                prune(model, pruning=PruningConfig(rounds=1, **{name: value}), **given)
    with pytest.raises(ArgumentError, match="model: received .*allowed: a model built with keras"):
        prune("model", sparsity=0.5)
    ticket = ticket_of(flavor, sequential)
    with pytest.raises(MismatchError):
        prune(model, ticket=ticket)
    for name, value in snapshot(model).items():
        np.testing.assert_array_equal(value, before[name])
    assert strip(model) is model


def test_a_file_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(FileError, match="no such file"):
        tf_prac.load_model(tmp_path / "missing.keras")
    (tmp_path / "model.h5").write_bytes(b"HDF")
    with pytest.raises(FileError, match="neither a .keras file nor a SavedModel directory"):
        tf_prac.load_model(tmp_path / "model.h5")
    with pytest.raises(FileError, match="not a SavedModel; allowed: a .keras file, such as RUN/ti"):
        tf_prac.load_model(tmp_path)
    (tmp_path / "ticket.json").touch()
    with pytest.raises(FileError, match="the ticket is not retrained yet. Run: tf-prac retrain"):
        tf_prac.load_model(tmp_path / "model.keras")


def test_tfmots_code_paths_refuse_keras_3_and_name_it():
    model = functional(load("keras"))
    for path in (lambda: tfmot_module.wrap(model, []), lambda: tfmot_module.strip(model)):
        with pytest.raises(
            ArgumentError, match=r"received 'keras\.src.*TFMOT does not support keras .Keras 3.*"
        ):
            path()


@both
def test_a_model_that_overrides_train_step_is_refused(flavor):
    keras = load(flavor)

    class Own(keras.Model):
        def train_step(self, data):
            return super().train_step(data)

    inputs = keras.Input((6,))
    model = Own(inputs, keras.layers.Dense(3)(keras.layers.Dense(4)(inputs)))
    with pytest.raises(ArgumentError, match="overrides train_step.*tf_prac.MaskedWeights"):
        prune(model, sparsity=0.5)
