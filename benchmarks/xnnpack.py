"""TFLite latency of a network that XNNPACK can run sparse, and of the same file with dense weights.

    python benchmarks/xnnpack.py

The network is MobileNetV1 with symmetric padding, at 80, 90 and 95% zeros in its 1x1 convolutions.
Both files run in turns on one thread. Prints a table and whether XNNPACK has sparse kernels for
this processor.
"""

import pathlib
import platform
import statistics
import tempfile
import time

import numpy as np
import tensorflow as tf
from absl import app, flags

from tf_prac import global_magnitude, rewind, snapshot
from tf_prac.export.lite import FILE, tflite
from tf_prac.export.xnnpack import has_sparse_kernels
from tf_prac.keras_api import Flavor, named_weights
from tf_prac.tables import markdown_table

_SIZE = flags.DEFINE_integer("size", 96, "Height and width of the images.")
_REPEATS = flags.DEFINE_integer("repeats", 31, "Measured turns.")
_SPARSITIES = flags.DEFINE_list("sparsities", ["0.8", "0.9", "0.95"], "Sparsities.")
WIDTHS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (512, 1), (1024, 2))


def mobilenet(size):
    """Returns MobileNetV1 with explicit padding."""
    keras = Flavor("keras").module
    layers = keras.layers

    def normalized(x):
        return layers.ReLU(6)(layers.BatchNormalization()(x))

    x = inputs = keras.Input((size, size, 3))
    x = normalized(layers.Conv2D(32, 3, strides=2, use_bias=False)(layers.ZeroPadding2D(1)(x)))
    for width, stride in WIDTHS:
        x = layers.ZeroPadding2D(1)(x)
        x = normalized(layers.DepthwiseConv2D(3, strides=stride, use_bias=False)(x))
        x = normalized(layers.Conv2D(width, 1, use_bias=False)(x))
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def runner(path, x):
    """Returns a function that runs a file once."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        Interpreter = tf.lite.Interpreter
    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    return interpreter.invoke


def main(_):
    """Measures every sparsity, and prints a table."""
    model = mobilenet(_SIZE.value)
    weights = snapshot(model)
    kernels = {
        w.name: w.variable
        for w in named_weights(model)
        if len(w.variable.shape) == 4 and tuple(w.variable.shape[:2]) == (1, 1)
    }
    x = np.random.default_rng(0).normal(size=(1, _SIZE.value, _SIZE.value, 3)).astype(np.float32)
    rows = []
    with tempfile.TemporaryDirectory() as base:
        for sparsity in map(float, _SPARSITIES.value):
            rewind(model, weights)
            masks = global_magnitude(kernels, rate=sparsity)
            rewind(model, weights, masks)
            calls, times = {}, {"sparse": [], "dense": []}
            for kind in times:
                path = pathlib.Path(base, f"{kind}{sparsity}")
                options = {"masks": masks, "sparse": kind == "sparse", "check": False}
                verdict = tflite(model, path, **options).metadata["sparse_inference"]
                calls[kind] = runner(path / FILE, x)
                calls[kind]()
                if kind == "sparse":
                    qualifies = verdict["qualifies"]
            for _ in range(_REPEATS.value):
                for kind, call in calls.items():
                    start = time.perf_counter()
                    call()
                    times[kind].append(time.perf_counter() - start)
            medians = {kind: 1e3 * statistics.median(values) for kind, values in times.items()}
            ratios = [s / d for s, d in zip(times["sparse"], times["dense"], strict=True)]
            rows.append(
                [
                    f"{sparsity:.0%}",
                    "yes" if qualifies else "no",
                    *(f"{medians[kind]:.2f}" for kind in ("dense", "sparse")),
                    f"{statistics.median(ratios):.2f}",
                ]
            )
    print(f"{platform.machine()}, sparse kernels of XNNPACK: {has_sparse_kernels()}")
    titles = ["zeros in 1x1", "network qualifies", "dense, ms", "sparse, ms", "ratio"]
    print(markdown_table(titles, rows))


if __name__ == "__main__":
    app.run(main)
