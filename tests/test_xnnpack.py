"""Which networks and processors run TFLite models with XNNPACK's sparse kernels."""

from __future__ import annotations

import numpy as np
import pytest

from tf_prac import build_model
from tf_prac.export import xnnpack
from tf_prac.export.kernels import kernel_uses
from tf_prac.export.serving import serve
from tf_prac.export.xnnpack import has_sparse_kernels, sparse_inference
from tf_prac.keras_api import FLAVORS, Flavor, named_weights

both = pytest.mark.parametrize("flavor", FLAVORS)


def mobile(flavor, *, size=16, kernel=3, stride=2, padding=1, channels=3, same=False, depth=3,
           depth_stride=1, asymmetric=False, dilation=1, multiplier=1, pointwise=1,
           pointwise_stride=1, groups=1, end="mean", extra=None):  # fmt: skip
    """A network as XNNPACK's sparse inference wants it, with one thing changed."""
    keras = Flavor(flavor).module
    layers = keras.layers
    x = inputs = keras.Input((size, size, channels))
    if same:
        x = layers.Conv2D(8, kernel, strides=stride, padding="same", name="first")(x)
    else:
        x = layers.Conv2D(8, kernel, strides=stride, name="first")(layers.ZeroPadding2D(padding)(x))
    x = layers.ReLU()(layers.BatchNormalization()(x))
    if asymmetric:
        x = layers.ZeroPadding2D(((0, 1), (0, 1)))(x)
    padded = "valid" if asymmetric else "same"
    x = layers.DepthwiseConv2D(
        depth, strides=depth_stride, padding=padded, dilation_rate=dilation,
        depth_multiplier=multiplier, name="depth",
    )(x)  # fmt: skip
    y = layers.Conv2D(
        16, pointwise, strides=pointwise_stride, groups=groups, padding="same", name="one"
    )(x)
    x = layers.Add()([y, layers.Conv2D(16, 1, name="two")(y)])
    if extra is not None:
        x = extra(keras)(x)
    if end == "mean":
        x = layers.GlobalAveragePooling2D()(x)
    elif end == "max":
        x = layers.GlobalMaxPooling2D()(x)
    return keras.Model(inputs, layers.Dense(4)(layers.Flatten()(x)))


def verdict(model, zeros=(0.8, 0.8), storage="float32", stored=True):
    masks = {}
    for weight in named_weights(model):
        for name, rate in zip(("one/kernel", "two/kernel"), zeros, strict=True):
            if weight.name == name:
                shape = tuple(weight.variable.shape)
                ranks = np.arange(np.prod(shape)).reshape(shape)
                masks[name] = ranks >= round(rate * ranks.size)
    served = serve(model)
    return sparse_inference(kernel_uses(model, served), served.graph, masks, storage, stored)


NETWORKS = {
    "a 5x5 start": ({"kernel": 5, "padding": 2}, "starts with first/kernel (5x5"),
    "a start of stride 1": ({"stride": 1}, "starts with first/kernel (3x3, stride 1"),
    "one channel": ({"channels": 1}, "starts with"),
    "no padding at the start": ({"padding": 0}, "starts with first/kernel (3x3, stride 2, padding"),
    "same padding at the start": ({"same": True}, "'same'"),
    "the same of an odd size": ({"same": True, "size": 17}, "'same'"),
    "a 7x7 depthwise": ({"depth": 7}, "depthwise convolutions are not 3x3 or 5x5"),
    "same depthwise of stride 2": ({"depth_stride": 2}, "padded alike"),
    "padding of MobileNetV2": ({"asymmetric": True, "depth_stride": 2}, "padded alike"),
    "a dilated depthwise": ({"dilation": 2}, "depthwise convolutions are not"),
    "a depth multiplier": ({"multiplier": 2}, "depthwise convolutions are not"),
    "a 3x3 later": ({"pointwise": 3}, "1 of 2 convolutions are not 1x1"),
    "a 1x1 of stride 2": ({"pointwise_stride": 2}, "1 of 2 convolutions are not 1x1"),
    "groups": ({"groups": 2}, "Call) is not run in the sparse layout"),
    "no mean": ({"end": "flatten"}, "Reshape"),
    "a maximum": ({"end": "max"}, "(Max)"),
    "a softmax": ({"extra": lambda keras: keras.layers.Softmax()}, "(Softmax)"),
    "pooling": ({"extra": lambda keras: keras.layers.MaxPooling2D()}, "(MaxPool)"),
}


@both
def test_networks_that_qualify(flavor):
    for options in ({}, {"depth": 5}, {"size": 17}):
        assert verdict(mobile(flavor, **options))["reasons"] == []
    found = verdict(mobile(flavor), (0.5, 0.9))  # together more than two thirds
    assert found["qualifies"] and 2 / 3 < found["zeros"] < 0.9


@both
def test_networks_that_do_not(flavor):
    for name, (options, reason) in NETWORKS.items():
        found = verdict(mobile(flavor, **options))
        assert not found["qualifies"], name
        assert any(reason in each for each in found["reasons"]), (name, found["reasons"])
    model = mobile(flavor)
    for options, reason in (
        ({"zeros": (0.6, 0.7)}, "not more than two thirds"),
        ({"storage": "int8"}, "floating point"),
        ({"stored": False}, "stored dense"),
    ):
        found = verdict(model, **options)
        assert not found["qualifies"] and reason in found["reasons"][0]
    for model in (
        build_model("resnet20", keras=flavor, input_shape=(32, 32, 3), num_classes=10),
        build_model("lenet300", keras=flavor, input_shape=(8, 8, 1), num_classes=4),
    ):
        assert not verdict(model)["qualifies"]


def test_processors(tmp_path, monkeypatch):
    file = tmp_path / "cpuinfo"
    monkeypatch.setattr(xnnpack.platform, "machine", lambda: "x86_64")
    for flags, expected in (("fpu sse2 avx avx2", False), ("fpu sse2 ssse3", True)):
        file.write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
        assert has_sparse_kernels(str(file)) is expected
    file.write_text("")
    assert has_sparse_kernels(str(file)) is None
    assert has_sparse_kernels(str(tmp_path / "none")) is None
    monkeypatch.setattr(xnnpack.platform, "machine", lambda: "aarch64")
    assert has_sparse_kernels(str(file)) is True
    monkeypatch.setattr(xnnpack.platform, "machine", lambda: "riscv64")
    assert has_sparse_kernels(str(file)) is None
