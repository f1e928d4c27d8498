"""TFLite, .keras and .npz exports, the report of sizes, and the command."""

from __future__ import annotations

import json

import numpy as np
import precision
import pytest
import tensorflow as tf

from tf_prac import (
    PruningConfig,
    TicketSearch,
    TrainingRecipe,
    build_model,
    export,
    global_magnitude,
    prunable_weights,
    rewind,
    snapshot,
    strip,
)
from tf_prac.cli.main import main
from tf_prac.errors import ArgumentError, FileError
from tf_prac.export.content import RESERVED
from tf_prac.export.directory import read_metadata
from tf_prac.export.fresh_process import run_tflite
from tf_prac.export.multiplications import multiplications
from tf_prac.export.serving import serve
from tf_prac.export.size import FORMATS
from tf_prac.keras_api import Flavor, flavor_of
from tf_prac.pruning.masks import Masks
from tf_prac.storage.files import read_npz

FLAVORS = ("keras", "tf_keras")
pytestmark = pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")


def pruned(model, rate=0.9):
    masks = global_magnitude(prunable_weights(model), rate=rate)
    rewind(model, snapshot(model), masks)
    return model, masks


@pytest.fixture(scope="module", params=FLAVORS)
def lenet(request):
    return pruned(
        build_model("lenet300", keras=request.param, input_shape=(8, 8, 1), num_classes=4)
    )


IMAGES = np.random.default_rng(0).normal(size=(3, 8, 8, 1)).astype(np.float32)


def test_tflite_is_small_and_gives_the_same(lenet, tmp_path):
    model, masks = lenet
    sizes = {}
    for sparse in (True, False):
        result = export.tflite(
            model, tmp_path / str(sparse), masks=masks, sparse=sparse, samples=IMAGES, check=False
        )
        assert result.metadata["sparse_weights"] is sparse
        sizes[sparse] = (result.directory / "model.tflite").stat().st_size
        outputs = run_tflite(str(result.directory / "model.tflite"), {"image": IMAGES})
        np.testing.assert_allclose(outputs["logits"], model(IMAGES), atol=1e-5)
    assert sizes[True] < 0.5 * sizes[False]


@pytest.mark.parametrize("storage", ["float16", "int8"])
def test_tflite_of_rounded_weights_runs(lenet, storage, tmp_path):
    """Where the interpreter refuses sparse weights of a type, they are stored dense."""
    model, masks = lenet
    check = storage == "float16" and flavor_of(model).name == "tf_keras"
    options = {"masks": masks, "storage": storage, "samples": IMAGES, "check": check}
    result = export.tflite(model, tmp_path / storage, **options)
    outputs = run_tflite(str(result.directory / "model.tflite"), {"image": IMAGES})
    largest = np.abs(model(IMAGES)).max()
    np.testing.assert_allclose(outputs["logits"], model(IMAGES), atol=0.05 * largest)
    assert result.bytes < sum(np.asarray(w).nbytes for w in model.weights)


def test_tflite_needs_fixed_sizes(tmp_path):
    keras = Flavor("keras").module
    model = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            keras.layers.Conv2D(4, 3),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    with pytest.raises(ArgumentError, match="fixed dimensions except the first"):
        export.tflite(model, tmp_path / "lite", masks={})
    assert not list(tmp_path.iterdir())


def test_keras_file_and_arrays(lenet, tmp_path):
    model, masks = lenet
    result = export.keras_file(model, tmp_path / "keras", masks=masks, samples=IMAGES)
    assert result.max_error is not None and result.max_error <= precision.rounding(1e-6)
    assert {p.name for p in result.directory.iterdir()} == {"model.keras", "tf_prac.json"}
    result = export.npz(model, tmp_path / "npz", masks=masks)
    arrays = read_npz(result.directory / "weights.npz", "weights")
    for name, value in snapshot(model).items():
        np.testing.assert_array_equal(arrays[name], value)
    assert Masks.load(result.directory / "masks.npz") == masks


@pytest.mark.parametrize("flavor", FLAVORS)
def test_a_model_that_keras_cannot_save_is_refused(flavor, tmp_path):
    keras = Flavor(flavor).module

    class Unsaved(keras.layers.Dense):
        def get_config(self):
            raise NotImplementedError

    model = keras.Sequential([keras.Input((4,)), Unsaved(3)])
    with pytest.raises(ArgumentError, match=r"Keras can save\. NotImplementedError$"):
        export.keras_file(model, tmp_path / "keras", masks={}, check=False)
    assert not list(tmp_path.iterdir())


def _grouped(layers):
    return layers.Conv2D(8, 3, groups=2, padding="same")


def _shared(layers):
    dense = layers.Dense(4)
    return [dense, dense]


MULTIPLICATIONS = {
    "strided": ((16, 16, 3), lambda layers: layers.Conv2D(8, 3, strides=2, padding="same"), 13824),
    "grouped": ((16, 16, 4), _grouped, 256 * 9 * 2 * 8),
    "dilated": ((16, 16, 4), lambda layers: layers.Conv2D(8, 3, dilation_rate=2), 144 * 9 * 4 * 8),
    "rows of 15": ((15, 9, 4), lambda layers: layers.Conv2D(8, 3, dilation_rate=2), 55 * 288),
    "depthwise": (
        (16, 16, 4),
        lambda layers: layers.DepthwiseConv2D(3, padding="same", dilation_rate=2),
        9216,
    ),
    "separable": ((8, 8, 4), lambda layers: layers.SeparableConv2D(6, 3), 36 * (9 * 4 + 4 * 6)),
    "causal": (
        (16, 4),
        lambda layers: layers.Conv1D(8, 3, padding="causal", dilation_rate=2),
        1536,
    ),
    "volume": ((8, 8, 8, 2), lambda layers: layers.Conv3D(4, 3, padding="same"), 512 * 216),
    "transposed": ((4, 4, 4, 2), lambda layers: layers.Conv3DTranspose(4, 3), 64 * 216),
    "sequence": ((10, 20), lambda layers: layers.Dense(8), 1600),
    "any length": ((None, 20), lambda layers: layers.Dense(8), None),
    "shared": ((4,), _shared, 32),
    "each time": ((10, 20), lambda layers: layers.TimeDistributed(layers.Dense(8)), 1600),
    "each image": ((3, 8, 8, 2), lambda layers: layers.TimeDistributed(_grouped(layers)), 13824),
    "recurrent": ((10, 20), lambda layers: layers.LSTM(8), 8960),
    "both ways": ((10, 20), lambda layers: layers.Bidirectional(layers.GRU(8)), 2 * 10 * 28 * 24),
    "cells": (
        (5, 6),
        lambda layers: layers.RNN([layers.SimpleRNNCell(4), layers.GRUCell(3)]),
        5 * (10 * 4 + 7 * 9),
    ),
    "images": ((3, 6, 6, 2), lambda layers: layers.ConvLSTM2D(4, 3), 3 * 16 * 9 * (2 + 4) * 16),
    "einsum": (
        (5, 8),
        lambda layers: layers.EinsumDense("abc,cd->abd", output_shape=(None, 7)),
        5 * 56,
    ),
    "embedding": ((5,), lambda layers: layers.Embedding(9, 4), 0),
}


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("name", MULTIPLICATIONS)
def test_multiplications_are_those_of_the_layers(name, flavor):
    keras = Flavor(flavor).module
    shape, build, expected = MULTIPLICATIONS[name]
    made = build(keras.layers)
    model = keras.Sequential([keras.Input(shape), *(made if isinstance(made, list) else [made])])
    counts = multiplications(model, serve(model), {}).values()
    assert (None if (None, None) in counts else sum(dense for dense, _ in counts)) == expected


@pytest.mark.parametrize("flavor", FLAVORS)
def test_multiplications_of_attention_masks_and_unknown_layers(flavor):
    keras = Flavor(flavor).module

    class Mine(keras.layers.Layer):
        def build(self, shape):
            self.kernel = self.add_weight(shape=(shape[-1], 2), name="kernel")

        def call(self, x):
            return tf.matmul(x, self.kernel)

    inputs = keras.Input((5, 8))
    x = keras.layers.MultiHeadAttention(2, 4)(inputs, inputs)
    x = keras.layers.Dense(3, name="dense")(x)
    model = keras.Model(inputs, Mine(name="mine")(x))
    counts = multiplications(model, serve(model), {"dense/kernel": 10})
    assert counts.pop("dense/kernel") == (5 * 24, 5 * 10)
    assert counts.pop("mine/kernel") == (None, None)
    assert sum(dense for dense, _ in counts.values()) == 4 * 5 * 64
    report = export.size_report(model, masks={}, formats=[], repeats=0)
    assert report.totals["multiplications"] is None and report.text().count(" ?") == 4


def test_report_of_sizes(lenet, tmp_path):
    model, masks = lenet
    formats = ["Keras model.export", "npz"]
    report = export.size_report(model, masks=masks, formats=formats, batch_size=4, repeats=3)
    totals = report.totals
    assert totals["size"] == model.count_params()
    assert totals["dense"] == 4 * totals["size"]
    assert totals["bound"] <= totals["stored"] * 1.001 <= 1.1 * totals["bound"]
    assert totals["multiplications_kept"] < 0.2 * totals["multiplications"]
    assert [row["format"] for row in report.formats] == ["sparse SavedModel", *formats]
    assert all(row["bytes"] > 0 for row in report.formats)
    assert set(report.timing) == {"load", "batch of 4"}
    files = report.save(tmp_path)
    assert {"size.json", "size.txt", "size.csv"} <= {file.name for file in files}
    assert json.loads((tmp_path / "size.json").read_text())["totals"] == totals
    for row in report.weights:
        assert row["name"] in report.text()
    with pytest.raises(ArgumentError, match=f"names of {next(iter(FORMATS))}"):
        export.size_report(model, formats=["onnx"])


TAKES_SOFTMAX = (export.saved_model, export.tflite, export.onnx)
NOT_BOOLEANS = [
    *((write, name) for write in TAKES_SOFTMAX for name in ("softmax", "check", "overwrite")),
    *(
        (write, name)
        for write in (export.keras_file, export.npz)
        for name in ("check", "overwrite")
    ),
    *((write, "sparse") for write in (export.saved_model, export.tflite)),
]


def test_bad_options_are_refused_before_any_work(lenet, tmp_path):
    model, masks = lenet
    for write, name in NOT_BOOLEANS:
        with pytest.raises(ArgumentError, match=f"^{name}: received 'no'; allowed: True or False"):
            write(model, tmp_path / "export", masks=masks, **{name: "no"})
    with pytest.raises(ArgumentError, match="^check: received 'no'"):
        export.fold_batch_norm(model, check="no")
    for name, value in (("repeats", -1), ("repeats", 2.5), ("batch_size", 0), ("formats", "npz")):
        with pytest.raises(ArgumentError, match=f"^{name}: received {value!r}"):
            export.size_report(model, masks=masks, **{name: value})
    for metadata, named in (
        *(({name: "mine"}, repr(name)) for name in sorted(RESERVED)),
        ({3: "mine"}, "3"),
        ({"accuracy": np.float32(0.5)}, "accuracy: "),
        ({"loss": float("nan")}, "loss: nan"),
        ({"place": tmp_path}, "place: PosixPath"),
        ({"parts": [{1, 2}]}, "parts: "),
        (["a"], r"\['a'\]; allowed: values by name"),
    ):
        with pytest.raises(ArgumentError, match="^metadata: received .?" + named):
            export.npz(model, tmp_path / "export", masks=masks, metadata=metadata)
    assert not list(tmp_path.iterdir())


def test_metadata_names_what_exports_write(lenet, tmp_path):
    """A name that an export writes cannot be the user's."""
    model, masks = lenet
    written = set(export.npz(model, tmp_path / "npz", masks=masks).metadata)
    for write in (export.saved_model, export.tflite):
        result = write(model, tmp_path / write.__name__, masks=masks, check=False)
        written |= set(result.metadata)
    assert written <= RESERVED
    metadata = {"accuracy": 0.5, "ticket": {"round": 3}, "classes": ["a", "b"], "none": None}
    place = tmp_path / "own"
    export.saved_model(model, place, masks=masks, check=False, metadata=metadata)
    assert read_metadata(place).items() >= metadata.items()
    assert export.load_sparse(place).count_params() >= model.count_params()


def test_a_dense_export_has_no_storage_type(lenet, tmp_path):
    model, masks = lenet
    with pytest.raises(ArgumentError, match="^storage: received 'int8'; allowed: float32 with"):
        export.saved_model(model, tmp_path / "a", masks=masks, sparse=False, storage="int8")
    result = export.saved_model(model, tmp_path / "b", masks={}, storage="int8", check=False)
    assert result.metadata["storage"] == "float32"


def test_only_an_export_is_overwritten(lenet, tmp_path):
    model, masks = lenet
    place = tmp_path / "mine"
    (place / "variables").mkdir(parents=True)
    (place / "saved_model.pb").write_bytes(b"a SavedModel of another program")
    with pytest.raises(FileError, match="mine: not an export, as it has no tf_prac.json"):
        export.npz(model, place, masks=masks, overwrite=True)
    (place / "tf_prac.json").write_text("{}")
    assert export.npz(model, place, masks=masks, overwrite=True).max_error is None
    assert not (place / "saved_model.pb").exists()


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("names", [("z", "a"), (None, None)])
def test_batches_of_several_inputs_are_timed_by_name(names, flavor):
    keras = Flavor(flavor).module
    sizes = zip((4, 3), names, strict=True)
    inputs = [keras.Input((size,), name=name) for size, name in sizes]
    parts = [keras.layers.Dense(2)(each) for each in inputs]
    model = keras.Model(inputs, keras.layers.Concatenate()(parts))
    report = export.size_report(model, masks={}, formats=[], batch_size=2, repeats=1)
    assert set(report.timing) == {"load", "batch of 2"}


@pytest.fixture(scope="module", params=FLAVORS)
def run(request, tmp_path_factory):
    """A finished run of two rounds, made by the command."""
    directory = tmp_path_factory.mktemp("cli") / "run"
    arguments = ["--epochs=2", "--rounds=2", "--rewind=3it", "--limit_train=300"]
    assert (
        main(["search", *arguments, f"--output_dir={directory}", f"--keras={request.param}"]) == 0
    )
    return directory


def test_command_exports_a_retrained_ticket(run, tmp_path, capsys):
    place = tmp_path / "served"
    check = "tf_keras" not in (run / "config.json").read_text()  # the same code for both
    options = ["--softmax", "--preprocess", *([] if check else ["--nocheck"])]
    assert main(["export", str(run), f"--output={place}", *options]) == 0
    printed = capsys.readouterr().out
    assert ("checked  in a new process" in printed) == check and "sparsity 36.00%" in printed
    metadata = json.loads((place / "assets" / "tf_prac.json").read_text())
    summary = json.loads((run / "summary.json").read_text())
    assert metadata["ticket"]["test_accuracy"] == summary["tickets"][2]["test_accuracy"]
    assert metadata["dataset"] == summary["dataset"]
    loaded = tf.saved_model.load(place)
    served = loaded.signatures["serving_default"]
    images = np.zeros((2, 8, 8, 1), metadata["signature"]["inputs"]["images"]["dtype"])
    np.testing.assert_allclose(
        served(images=tf.constant(images))["probabilities"].numpy().sum(-1), 1, atol=1e-5
    )

    assert main(["export", str(run), f"--output={place}"]) == 2
    error = capsys.readouterr().err
    assert "--output: received" in error and "overwrite" in error
    arguments = [f"--output={place}", "--overwrite", "--content=ticket", "--nocheck"]
    assert main(["export", str(run / "tickets" / "round_01"), *arguments]) == 0
    assert "rewind weights of ticket" in capsys.readouterr().out
    assert json.loads((place / "assets" / "tf_prac.json").read_text())["content"] == "ticket"


@pytest.mark.parametrize("form", ["saved_model", "keras", "tflite", "npz"])
def test_command_writes_every_format(run, form, tmp_path, capsys):
    place = tmp_path / form
    check = [] if form == "npz" else ["--nocheck"]
    assert main(["export", str(run), f"--output={place}", f"--format={form}", *check]) == 0
    printed = capsys.readouterr().out
    assert f"export   {place}" in printed
    assert ("checked  the arrays were read again" if form == "npz" else "checked  no") in printed
    assert any(place.rglob("tf_prac.json"))


def test_command_shrinks_and_folds(run, tmp_path, capsys):
    place = tmp_path / "small"
    options = ["--shrink", "--fold_batch_norm", "--nocheck"]
    assert main(["export", str(run), f"--output={place}", *options]) == 0
    printed = capsys.readouterr().out
    assert "shrink   ShrinkReport(" in printed and "fold     Folded(lenet300: 0 layers)" in printed
    metadata = json.loads((place / "assets" / "tf_prac.json").read_text())
    before, after = metadata["shrink"]["parameters"]
    assert after <= before and metadata["folded"] == []
    assert strip(export.load_sparse(place)).count_params() == after


@pytest.mark.parametrize("flavor", FLAVORS)
def test_a_run_made_from_python_is_exported_from_its_saved_model(flavor, tmp_path, capsys):
    keras = Flavor(flavor).module
    rows = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)

    def model_fn():
        layers = [keras.Input((5,)), keras.layers.Dense(30), keras.layers.Dense(3)]
        return keras.Sequential(layers)

    recipe = TrainingRecipe(epochs=1, batch_size=20)
    pruning = PruningConfig(rounds=1, rewind="1it")
    search = TicketSearch(model_fn, recipe, pruning, directory=tmp_path / "run")
    search.run((rows, np.arange(60) % 3))
    place = tmp_path / "served"
    arguments = ["export", str(tmp_path / "run"), f"--output={place}"]
    assert main([*arguments, "--preprocess"]) == 2
    assert "--preprocess: received True" in capsys.readouterr().err
    assert main([*arguments, "--nocheck"]) == 0
    assert "sparsity 20.00%" in capsys.readouterr().out
    assert main([*arguments, "--overwrite", "--round=0", "--content=ticket"]) == 2
    assert "made from Python" in capsys.readouterr().err


def test_command_refuses(run, tmp_path, capsys):
    for arguments, named in (
        ([], "--output: received None"),
        (["--output=x", "--format=coreml"], "--format"),
        (["--output=x", "--storage=int4"], "--storage"),
        (["--output=x", "--content=dense"], "--content"),
        (["--output=x", "--round=9"], "--round"),
        (["--output=x", "--round=1"], "tf-prac retrain"),
        ([f"--output={tmp_path}"], "--output"),
        ([f"--output={tmp_path}", "--overwrite"], "not an export"),
        (["--output=x", "--format=npz", "--softmax"], "--softmax: received True; allowed: False"),
        (["--output=x", "--format=npz", "--preprocess"], "--preprocess"),
        (["--output=x", "--format=npz", "--storage=int8"], "as sparse_saved_model or tflite"),
        (["--output=x", "--format=keras", "--storage=float16"], "--storage"),
        (["--output=x", "--format=onnx", "--storage=int8"], "--storage"),
        (["--output=x", "--format=saved_model", "--storage=int8"], "--storage"),
        (["--report", "--softmax"], "--softmax"),
    ):
        assert main(["export", str(run), *arguments]) == 2
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1 and named in error
    assert not list(tmp_path.iterdir())
