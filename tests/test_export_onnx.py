"""ONNX files, 2:4 sparsity, and int8 weights after pruning."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
import tensorflow as tf

from tf_prac import export, extras, global_magnitude, prunable_weights, rewind, snapshot
from tf_prac.errors import MissingPackageError
from tf_prac.export.n_m import is_two_of_four, two_of_four
from tf_prac.keras_api import FLAVORS, Flavor, named_weights
from tf_prac.pruning.patterns import MByN

both = pytest.mark.parametrize("flavor", FLAVORS)
pytestmark = pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
has_onnx = all(importlib.util.find_spec(n) for n in ("tf2onnx", "onnx", "onnxruntime"))
X = np.random.default_rng(0).normal(size=(3, 8, 8, 4)).astype(np.float32)


def network(flavor):
    keras = Flavor(flavor).module
    layers = keras.layers
    model = keras.Sequential([
        keras.Input((8, 8, 4), name="image"), layers.Conv2D(16, 3, name="conv"),
        layers.BatchNormalization(), layers.ReLU(), layers.DepthwiseConv2D(3, name="depthwise"),
        layers.Conv2D(32, 1, name="pointwise"), layers.GlobalAveragePooling2D(),
        layers.Dense(16, name="hidden"), layers.Dense(5, name="logits"),
    ])  # fmt: skip
    masks = global_magnitude(prunable_weights(model), rate=0.8)
    rewind(model, snapshot(model), masks)
    return model, masks


@pytest.mark.skipif(not has_onnx, reason="needs tf-prac[onnx]")
@both
def test_an_onnx_file_gives_the_same_in_a_new_process(flavor, tmp_path):
    model, masks = network(flavor)
    result = export.onnx(model, tmp_path / "onnx", masks=masks, samples=X, softmax=True)
    assert result.max_error is not None and result.max_error < 1e-5
    assert {p.name for p in result.directory.iterdir()} == {"model.onnx", "tf_prac.json"}
    import onnx
    import onnxruntime

    file = onnx.load(str(result.directory / "model.onnx"))
    assert [opset.version for opset in file.opset_import if not opset.domain] == [17]
    session = onnxruntime.InferenceSession(str(result.directory / "model.onnx"))
    for count in (1, 3):
        (found,) = session.run(["probabilities"], {"image": X[:count]})
        np.testing.assert_allclose(found, tf.nn.softmax(model(X[:count])), atol=1e-5)
    values = [onnx.numpy_helper.to_array(each) for each in file.graph.initializer]
    pointwise = next(v for v in values if v.shape == (32, 16, 1, 1))
    keep = masks["pointwise/kernel"].transpose(3, 2, 0, 1)
    np.testing.assert_array_equal(pointwise != 0, keep)


def test_missing_packages_are_named_before_anything_is_written(tmp_path, monkeypatch):
    model, masks = network("keras")
    for missing in ("tf2onnx", "onnx", "onnxruntime"):
        monkeypatch.setattr(extras, "is_installed", lambda name, missing=missing: name != missing)
        with pytest.raises(MissingPackageError, match=r"exports to ONNX.*'tf-prac\[onnx\]'"):
            export.onnx(model, tmp_path / "onnx", masks=masks)
    assert not list(tmp_path.iterdir())


@both
def test_two_of_four_as_tensor_cores_need_it(flavor):
    keras = Flavor(flavor).module
    layers = keras.layers
    model = keras.Sequential([
        keras.Input((8, 8, 3)), layers.Conv2D(16, 3, name="first"),
        layers.Conv2D(16, 3, name="conv"), layers.DepthwiseConv2D(3, name="depthwise"),
        layers.Conv2D(32, 1, name="pointwise"), layers.Conv2D(32, 1, groups=2, name="grouped"),
        layers.Flatten(), layers.Dense(32, name="dense"), layers.Dense(6, name="logits"),
    ])  # fmt: skip
    weights = {w.name: np.asarray(w.variable) for w in named_weights(model)}
    names = [n for n in weights if n.endswith("kernel")]
    pattern = MByN(2, 4)
    masks = {n: pattern.mask(np.abs(weights[n])) for n in names if "depthwise" not in n}
    masks |= {n: np.ones(v.shape, bool) for n, v in weights.items() if "depthwise_kernel" in n}
    rows = {row["name"].split("/")[0]: row for row in two_of_four(model, masks)}
    for name, tensorrt, cusparselt, reason in (
        ("first", False, False, "3 input channels"),
        ("conv", True, False, "a convolution"),
        ("pointwise", True, True, ""),
        ("grouped", False, False, "2 groups"),
        ("dense", True, True, ""),
        ("logits", True, False, "32 x 6 is not a multiple of 16"),
    ):
        row = rows[name]
        assert (row["tensorrt"], row["cusparselt"]) == (tensorrt, cusparselt), row
        assert reason in row["reason"] and bool(row["reason"]) == (not cusparselt)
    assert "neither" in rows["depthwise"]["reason"]
    other = {"dense/kernel": np.moveaxis(masks["dense/kernel"][:32], 0, 1)}
    assert not is_two_of_four(other["dense/kernel"])  # along the outputs
    one = masks["pointwise/kernel"].copy()
    one[..., np.flatnonzero(~one[0, 0, :, 0])[0], 0] = True  # three of a group of four
    (row,) = two_of_four(model, {"pointwise/kernel": one})
    assert not row["tensorrt"] and "more than two" in row["reason"]


@both
def test_int8_weights_keep_every_zero(flavor, tmp_path):
    """Symmetric quantization maps 0 to the integer 0, whose value is exactly 0."""
    keras = Flavor(flavor).module
    layers = [keras.Input((64,)), keras.layers.Dense(48), keras.layers.Dense(40)]
    model = keras.Sequential(layers)
    weights = {w.name: w.variable for w in named_weights(model) if w.role == "kernel"}
    masks = global_magnitude(weights, rate=0.8)
    rewind(model, snapshot(model), masks)
    options = {"masks": masks, "storage": "int8", "sparse": False, "check": False}
    result = export.tflite(model, tmp_path / "lite", **options)
    interpreter = tf.lite.Interpreter(str(result.directory / "model.tflite"))
    interpreter.allocate_tensors()
    tensors = [t for t in interpreter.get_tensor_details() if t["dtype"] == np.int8]
    for mask in masks.values():
        (tensor,) = [t for t in tensors if tuple(t["shape"]) == mask.T.shape]
        stored = interpreter.get_tensor(tensor["index"])
        assert not tensor["quantization_parameters"]["zero_points"].any()
        assert not stored[~mask.T].any() and (stored[mask.T] != 0).mean() > 0.9


def test_the_report_has_patterns_and_parts():
    model, masks = network("keras")
    report = export.size_report(model, masks=masks, formats=["Keras model.export"], repeats=0)
    assert {row["name"] for row in report.two_of_four} == set(masks)
    assert json.dumps(report.two_of_four) and "2:4 sparsity" in report.text()
    sparse, dense = report.parts.values()
    assert sum(sparse.values()) == report.formats[0]["bytes"]
    assert sum(dense.values()) == report.formats[1]["bytes"]
    assert sparse["graph: network"] < 0.3 * dense["graph: network"]
    assert "graph: decoder" in sparse and "graph: decoder" in report.text()
