"""Networks with layers in bfloat16: masks, snapshots, tickets, searches and exports, to the bit.

Layers "in bfloat16" have weights of that type; those of the policy mixed_bfloat16 compute in it.
"""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import tensorflow as tf

from tf_prac import (
    ForgettingLogger,
    MaskDistance,
    Masks,
    PracModel,
    PruningConfig,
    RewindCheckpoint,
    SampleScores,
    Ticket,
    TicketSearch,
    TrainingRecipe,
    export,
    global_magnitude,
    load_model,
    load_sparse,
    prunable_weights,
    prune,
    rewind,
    snapshot,
    with_sample_ids,
)
from tf_prac.config import CheckpointConfig
from tf_prac.errors import ArgumentError, DamagedFileError, FileError
from tf_prac.keras_api import FLAVORS
from tf_prac.storage.files import read_npz, write_npz
from tf_prac.training.state import identity_of

DTYPES = {"layers": "bfloat16", "mixed": "mixed_bfloat16"}
both = pytest.mark.parametrize("flavor", FLAVORS)
all_kinds = pytest.mark.parametrize("kind", DTYPES)
X = np.random.default_rng(0).normal(size=(40, 8)).astype("f4")
Y = np.arange(40) % 3
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*(np.object|tf.bool|distutils|imp module).*:DeprecationWarning"
)


def make_network(flavor, kind):
    keras = importlib.import_module(flavor)
    keras.utils.set_random_seed(0)
    dtype, layers = DTYPES[kind], keras.layers
    inputs = keras.Input((8,))
    x = layers.Dense(16, activation="relu", dtype=dtype)(inputs)
    x = layers.BatchNormalization(dtype=dtype)(x)
    return keras.Model(inputs, layers.Dense(3, dtype="float32")(x))


def compiled(model, flavor):
    keras = importlib.import_module(flavor)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), loss, jit_compile=False)
    return model


def assert_same(actual, expected):
    assert list(actual) == list(expected)
    for name, value in expected.items():
        assert actual[name].dtype == value.dtype, name
        assert actual[name].tobytes() == value.tobytes(), name


@both
@all_kinds
def test_a_pruned_model_is_saved_with_its_masks(flavor, kind, tmp_path):
    model = compiled(prune(make_network(flavor, kind), sparsity=0.5), flavor)
    model.fit(X, Y, batch_size=8, verbose=0)
    weights = snapshot(model)
    for name, mask in model.masks.items():
        assert not weights[name].astype("f4")[~mask].any()
    model.save(tmp_path / "model.keras")
    if (flavor, kind) == ("tf_keras", "layers"):
        with pytest.raises(FileError, match="tf_keras cannot read the weights in bfloat16"):
            load_model(tmp_path / "model.keras")
        with pytest.raises(ArgumentError, match="as tf_keras cannot read them from a .keras"):
            export.keras_file(make_network(flavor, kind), tmp_path / "export")
    else:
        loaded = load_model(tmp_path / "model.keras")
        assert_same(snapshot(loaded), weights)
        assert loaded.masks == model.masks


@both
@all_kinds
def test_callbacks_and_tickets(flavor, kind, tmp_path):
    network = make_network(flavor, kind)
    model = compiled(PracModel(network, num_samples=40), flavor)
    data = with_sample_ids(tf.data.Dataset.from_tensor_slices((X, Y))).batch(8)
    logger, early = ForgettingLogger(), RewindCheckpoint("1it", path=tmp_path / "w_k")
    scores = [SampleScores(data, name) for name in ("el2n", "grand")]
    callbacks = [logger, early, MaskDistance(0.2), *scores]
    model.fit(data, epochs=2, shuffle=False, verbose=0, callbacks=callbacks)
    assert (logger.stats.presentations == 2).all()
    assert all(np.isfinite(score.values).all() for score in scores)
    masks = global_magnitude(prunable_weights(network), rate=0.5)
    ticket = Ticket(masks, snapshot(network), 1, 1)
    ticket.save(tmp_path / "ticket")
    loaded = Ticket.load(tmp_path / "ticket")
    assert_same(loaded.weights, ticket.weights)
    rewind(network, loaded.weights, loaded.masks)
    assert_same(snapshot(network), loaded.masks.apply(loaded.weights))


@both
def test_a_search_resumes_from_its_checkpoints(flavor, tmp_path):
    class Killed(BaseException):
        pass

    def search(directory):
        return TicketSearch(
            lambda: make_network(flavor, "layers"),
            TrainingRecipe(epochs=2, batch_size=8, learning_rate=0.02),
            PruningConfig(rounds=1, rewind="2it"),
            directory=tmp_path / directory,
            checkpoints=CheckpointConfig(checkpoint_seconds=0),
            retrain="none",
            verbose=False,
        )

    from tf_prac.training.checkpoint import Checkpoints

    expected = search("whole").run((X, Y)).tickets[-1]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        write = Checkpoints._write

        def kill(self, state):
            write(self, state)
            raise Killed

        patch.setattr(Checkpoints, "_write", kill)
        search("killed").run((X, Y))
    assert list((tmp_path / "killed").rglob("checkpoint.json"))
    found = search("killed").run((X, Y)).tickets[-1]
    assert found.masks == expected.masks
    assert_same(found.weights, expected.weights)


@both
@all_kinds
def test_exports(flavor, kind, tmp_path):
    network = make_network(flavor, kind)
    rewind(network, snapshot(network), global_magnitude(prunable_weights(network), rate=0.5))
    export.npz(network, tmp_path / "npz")
    check = (flavor, kind) == ("tf_keras", "layers")  # in a new process
    result = export.saved_model(network, tmp_path / "served", check=check)
    assert (result.max_error is not None) == check
    assert_same(snapshot(load_sparse(tmp_path / "served")), snapshot(network))
    with pytest.raises(ArgumentError, match="TFLite has no bfloat16"):
        export.tflite(network, tmp_path / "lite")


def test_arrays_keep_their_dtype(tmp_path):
    bfloat16 = tf.bfloat16.as_numpy_dtype
    arrays = {
        "a/b": X[:5].astype(bfloat16),
        "scalar": np.asarray(1.5, bfloat16),
        "empty": np.zeros((0, 3), bfloat16),
        "bits": np.arange(4, dtype=np.uint16),
        "float": X,
    }
    write_npz(tmp_path / "a.npz", "weights", arrays)
    assert_same(read_npz(tmp_path / "a.npz", "weights"), arrays)
    write_npz(tmp_path / "b.npz", "weights", {"float": X})
    with np.load(tmp_path / "b.npz") as plain:
        assert "__dtypes__" not in plain
    with pytest.raises(ArgumentError, match="__dtypes__"):
        write_npz(tmp_path / "c.npz", "weights", {"__dtypes__": X})
    assert identity_of({"x": arrays["a/b"]}) != identity_of({"x": X[:5].astype("f2")})


def test_an_unknown_dtype_in_a_file_is_refused(tmp_path, monkeypatch):
    from tf_prac.storage import files

    monkeypatch.setattr(files.json, "dumps", lambda value: '{"a": "object"}')
    monkeypatch.setattr(files, "_AS_INTEGERS", {"bfloat16": np.uint16})
    write_npz(tmp_path / "a.npz", "weights", {"a": np.zeros(3, tf.bfloat16.as_numpy_dtype)})
    with pytest.raises(DamagedFileError, match="damaged"):
        read_npz(tmp_path / "a.npz", "weights")


def test_masks_of_bfloat16_rank_like_float32():
    network = make_network("keras", "layers")
    weights = {n: np.asarray(v).astype("f4") for n, v in prunable_weights(network).items()}
    assert isinstance(global_magnitude(weights, rate=0.3), Masks)
    found = global_magnitude(prunable_weights(network), rate=0.3)
    assert found == global_magnitude(weights, rate=0.3)
