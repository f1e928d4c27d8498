"""A script that runs an export on samples, in a process where tf_prac cannot be imported.

    python fresh_process.py KIND PATH SAMPLES.npz OUTPUTS.npz

KIND is saved_model, keras, tf_keras, tflite or onnx. The script itself must not import tf_prac.
"""

import importlib
import re
import sys
from collections.abc import Mapping

import numpy as np


class _NoTfPrac:
    """An import finder that refuses tf_prac."""

    def find_spec(self, name, path=None, target=None):
        """Raises an error for tf_prac; Python calls it for every import."""
        if name.split(".")[0] == "tf_prac":
            raise ImportError("an export must not need tf_prac")


def without_bfloat16(value):
    """Returns a tensor as an array that NumPy can save: of float32 in place of bfloat16."""
    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def named(outputs):
    """Returns the outputs of a model by name: of dictionaries their keys, of lists the numbers."""
    if isinstance(outputs, Mapping):
        pairs = [(str(name), value) for name, value in outputs.items()]
    elif isinstance(outputs, (list, tuple)):
        pairs = [(str(number), value) for number, value in enumerate(outputs)]
    else:
        return {"": outputs}
    return {
        "_".join(filter(None, (name, rest))): value
        for name, inner in pairs
        for rest, value in named(inner).items()
    }


def reason(error):
    """Returns the first line of an error's message, without Keras's preamble and colors."""
    plain = re.sub(r"\x1b\[\d+m", "", str(error))
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    message = [line for line in lines if not line.startswith("Exception encountered")]
    return (message or lines or [type(error).__name__])[0]


def disable_tf32():
    """Makes float32 products of GPUs those of float32."""
    import tensorflow as tf

    tf.config.experimental.enable_tensor_float_32_execution(False)


def run_saved_model(path, samples):
    """Returns the outputs of the signature serving_default."""
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    serve = loaded.signatures["serving_default"]
    specs = serve.structured_input_signature[1]
    return serve(**{name: tf.cast(value, specs[name].dtype) for name, value in samples.items()})


def run_keras(module, path, samples):
    """Returns the outputs of a .keras file."""
    keras = importlib.import_module(module)
    model = keras.models.load_model(path, compile=False)
    values = list(samples.values())
    names = ("_inputs_struct", "_nested_inputs")  # of Keras 3, of Keras 2
    structure = next((found for n in names if (found := getattr(model, n, None)) is not None), None)
    inputs = values[0] if len(values) == 1 else values
    if isinstance(structure, Mapping):  # a name that cannot be served has another one
        same = set(structure) == set(samples)
        inputs = samples if same else dict(zip(structure, values, strict=True))
    outputs = named(model(inputs, training=False))
    return {name or "0": value for name, value in outputs.items()}


def interpreter(path):
    """Returns LiteRT's interpreter of a TFLite file, or its predecessor in TensorFlow."""
    try:
        return importlib.import_module("ai_edge_litert.interpreter").Interpreter(path)
    except ImportError:
        import tensorflow as tf

        return tf.lite.Interpreter(path)


def is_accepted(path):
    """Returns whether the interpreter runs a TFLite file; some errors come with a sample."""
    try:
        runner = interpreter(path).get_signature_runner("serving_default")
        inputs = runner.get_input_details().items()
        runner(**{name: np.zeros(each["shape"], each["dtype"]) for name, each in inputs})
    except (RuntimeError, ValueError):
        return False
    return True


def run_tflite(path, samples):
    """Returns the outputs of a TFLite file, which runs on one sample at a time."""
    runner = interpreter(path).get_signature_runner("serving_default")
    count = len(next(iter(samples.values())))
    rows = [runner(**{n: v[i : i + 1] for n, v in samples.items()}) for i in range(count)]
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def run_onnx(path, samples):
    """Returns the outputs of an ONNX file, computed by ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, samples), strict=True))


def main(kind, path, samples_file, outputs_file):
    """Runs an export and writes its outputs."""
    sys.meta_path.insert(0, _NoTfPrac())
    if kind not in ("tflite", "onnx"):  # which may be run without TensorFlow
        disable_tf32()
    with np.load(samples_file, allow_pickle=False) as archive:
        samples = {name: archive[f"arr_{i}"] for i, name in enumerate(archive["names"].tolist())}
    if kind == "saved_model":
        outputs = run_saved_model(path, samples)
    elif kind == "tflite":
        outputs = run_tflite(path, samples)
    elif kind == "onnx":
        outputs = run_onnx(path, samples)
    else:
        outputs = run_keras(kind, path, samples)
    np.savez(outputs_file, *map(without_bfloat16, outputs.values()), names=list(outputs))


if __name__ == "__main__":
    sys.path.pop(0)  # the directory of this script, as `python -P` does since Python 3.11
    try:
        main(*sys.argv[1:])
    except Exception as failure:
        sys.exit(f"{type(failure).__name__}: {reason(failure)}")
