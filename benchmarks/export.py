"""Size, equality, load time and latency of exports: networks x sparsities x flavors.

    python benchmarks/export.py --output=docs/results

`--networks`, `--sparsities` and `--flavours` select a part of the grid. `--parts` merges the
results of several runs.

Each network has non-trivial BatchNorm statistics, is pruned by global magnitude, and is exported by
tf_prac and by Keras. A new process that cannot import tf_prac then loads every export with
`tf.saved_model.load`, the session loader of TensorFlow 1 and `saved_model_cli run`, and compares
the outputs with those of the Keras model. Load and inference times are medians over turns of the
sparse and the dense export. Prints a table, and writes export.json, export.csv and a figure.
"""

import gzip
import io
import json
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile

import numpy as np
from absl import app, flags

from tf_prac import build_model, global_magnitude, prunable_weights, prune, rewind, snapshot, strip
from tf_prac.export.architecture import export_dense
from tf_prac.export.lite import FILE, tflite
from tf_prac.export.size import compare_speed
from tf_prac.export.source import source_of
from tf_prac.export.writer import saved_model
from tf_prac.keras_api import Flavor
from tf_prac.plotting import Line, line_figure, log_axis
from tf_prac.tables import markdown_table

_NETWORKS = flags.DEFINE_list(
    "networks", ["lenet300", "resnet20", "mobilenetv2", "vgg16"], "Networks."
)
_SPARSITIES = flags.DEFINE_list("sparsities", ["0.8", "0.9", "0.95", "0.99"], "Sparsities.")
_FLAVORS = flags.DEFINE_list("flavours", ["keras", "tf_keras"], "Flavors.")
_REPEATS = flags.DEFINE_integer("repeats", 15, "Measured turns.")
_BATCH = flags.DEFINE_integer("batch_size", 32, "Samples in a timed batch.")
_SIZES_ONLY = flags.DEFINE_boolean(
    "sizes_only", False, "Measure only the sparse SavedModel and `model.export`, no time."
)
_LITE = flags.DEFINE_boolean("lite", True, "Measure TFLite models and TFMOT's HDF5 file too.")
_PARTS = flags.DEFINE_list("parts", [], "export.json of earlier runs to merge instead.")
_OUTPUT = flags.DEFINE_string("output", None, "Directory of export.json, .csv, .png and .svg.")

SHAPE = {
    "lenet300": (28, 28, 1),
    "resnet18": (64, 64, 3),
    "resnet50": (64, 64, 3),
    "inception_v3": (96, 96, 3),
}
VARIABLES = "variables/variables.data-00000-of-00001"
COLUMNS = (
    ("network", "network"),
    ("flavour", "flavour"),
    ("sparsity", "sparsity"),
    ("ours", "sparse SavedModel"),
    ("variables", "its variables"),
    ("over_bound", "/ bound"),
    ("keras_export", "model.export"),
    ("keras_export_gzip", "its tar.gz"),
    ("over_gzip", "ours / tar.gz"),
    ("strip_gzip", "TFMOT strip + gzip"),
    ("lite", "TFLite"),
    ("lite_sparse", "TFLite sparse"),
    ("load", "load time ratio"),
    ("load_cpu", "of CPU time"),
    ("batch", "batch time ratio"),
    ("batch_cpu", "of CPU time"),
    ("difference", "max difference"),
)

CHECKER = """
import contextlib, io, json, os, sys
class NoTfPrac:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "tf_prac":
            raise ImportError(name)
sys.meta_path.insert(0, NoTfPrac())
import numpy as np
import tensorflow as tf
from tensorflow.python.tools import saved_model_cli
differences = {}
for path in sys.argv[1:]:
    with np.load(path + ".npz") as archive:
        x, y = archive["x"], archive["y"]
    loaded = tf.saved_model.load(path)
    serve = loaded.signatures["serving_default"]
    (key,) = serve.structured_input_signature[1]
    results = {"load": list(serve(**{key: tf.constant(x)}).values())[0]}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta = tf.compat.v1.saved_model.load(session, ["serve"], path)
        signature = meta.signature_def["serving_default"]
        (output,) = signature.outputs.values()
        results["session"] = session.run(output.name, {signature.inputs[key].name: x})
    np.save(path + ".x.npy", x)
    with contextlib.redirect_stdout(io.StringIO()):
        arguments = ["run", "--dir", path, "--tag_set", "serve"]
        arguments += ["--signature_def", "serving_default", "--inputs", f"{key}={path}.x.npy"]
        arguments += ["--outdir", path + "_cli", "--overwrite"]
        sys.argv = ["saved_model_cli", *arguments]
        with contextlib.suppress(SystemExit):
            saved_model_cli.main()
    file = next(name for name in os.listdir(path + "_cli") if name.endswith(".npy"))
    results["cli"] = np.load(os.path.join(path + "_cli", file))
    differences[path] = {n: float(np.abs(np.asarray(r) - y).max()) for n, r in results.items()}
print("RESULT" + json.dumps(differences))
"""


def network(name, flavor):
    """Returns a network with random BatchNorm statistics, and its weights."""
    keras = Flavor(flavor).module
    keras.utils.set_random_seed(0)
    if name == "mobilenetv2":
        options = {"weights": None, "input_shape": (32, 32, 3), "classes": 10}
        model = keras.applications.MobileNetV2(classifier_activation=None, **options)
    else:
        shape = SHAPE.get(name, (32, 32, 3))
        model = build_model(name, keras=flavor, input_shape=shape, num_classes=10)
    generator = np.random.default_rng(0)
    weights = {
        n: generator.uniform(0.7, 1.3, w.shape).astype(w.dtype) if w.ndim == 1 else w
        for n, w in snapshot(model).items()
    }
    rewind(model, weights)
    return model, weights


def size(path):
    """Returns the bytes of a file or directory."""
    return sum(file.stat().st_size for file in files_of(path))


def zipped(path):
    """Returns the bytes of a tar.gz of a file or directory, at gzip's highest level."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(path, arcname=".")
    return len(gzip.compress(buffer.getvalue(), 9))


def parts(directory):
    """Returns the bytes of the parts of an export: graph, variables and metadata."""
    sizes = {file.relative_to(directory).parts[0]: 0 for file in files_of(directory)}
    for file in files_of(directory):
        sizes[file.relative_to(directory).parts[0]] += file.stat().st_size
    return sizes


def files_of(path):
    """Returns the path of a file, or all files of a directory."""
    path = pathlib.Path(path)
    return [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]


def measure(name, flavor, base):
    """Exports one network at every sparsity; yields the directory and a row for each."""
    model, weights = network(name, flavor)
    lite = None
    for sparsity in map(float, _SPARSITIES.value):
        rewind(model, weights)
        masks = global_magnitude(prunable_weights(model), rate=sparsity)
        rewind(model, weights, masks)
        path = base / f"{name}_{flavor}_{sparsity:g}"
        sparse = saved_model(model, path, masks=masks, check=False)
        dense = base / f"{path.name}_dense"
        export_dense(model, dense)
        x = np.random.default_rng(1).normal(size=(8, *model.input_shape[1:])).astype(np.float32)
        np.savez(f"{path}.npz", x=x, y=np.asarray(model(x, training=False)))
        bound = sum(row["bound"] for row in sparse.metadata["weights"])
        row = {
            "network": name,
            "flavour": flavor,
            "sparsity": sparsity,
            "ours": sparse.bytes,
            "variables": size(path / VARIABLES),
            "bound": bound,
            "over_bound": size(path / VARIABLES) / bound,
            "keras_export": size(dense),
            "keras_export_gzip": zipped(dense),
            "parts": parts(path),
        }
        row["over_gzip"] = row["ours"] / row["keras_export_gzip"]
        if _SIZES_ONLY.value:
            yield path, row
            continue
        timing = compare_speed(
            path, dense, source_of(model, masks=masks), _BATCH.value, _REPEATS.value
        )
        for what, times in (
            ("load", timing["load"]),
            ("batch", timing[f"batch of {_BATCH.value}"]),
        ):
            row |= {what: times["ratio"], f"{what}_cpu": times["processor_ratio"]}
        row["timing"] = timing
        if not _LITE.value:
            yield path, row
            continue
        if flavor == "tf_keras":  # TFMOT does not support Keras 3
            stripped = base / f"{path.name}.h5"
            strip(prune(model, masks=masks)).save(stripped)
            row["strip_gzip"] = zipped(stripped)
        options = {"masks": masks, "check": False}
        if lite is None:
            tflite(model, base / f"{path.name}_dense_lite", sparse=False, **options)
            lite = size(base / f"{path.name}_dense_lite" / FILE)
        tflite(model, base / f"{path.name}_lite", **options)
        row |= {"lite": lite, "lite_sparse": size(base / f"{path.name}_lite" / FILE)}
        yield path, row


def check(paths):
    """Compares every export with its Keras model, in a process without tf_prac."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-P", "-c", CHECKER, *map(str, paths)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return json.loads(done.stdout.split("RESULT")[1])


def cell(key, row):
    """Returns the text of a cell of the printed table."""
    value = row.get(key)
    if value is None:
        return "Keras 2 only" if key == "strip_gzip" else ""
    if key in ("over_bound", "over_gzip", "load", "load_cpu", "batch", "batch_cpu"):
        return f"{value:.3f}"
    if key == "difference":
        return f"{value:.1g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def main(_):
    """Measures the grid, or merges earlier results, and prints and writes the table."""
    if _PARTS.value:
        rows = [row for part in _PARTS.value for row in json.loads(pathlib.Path(part).read_text())]
    else:
        rows = grid()
    cells = [[cell(key, row) for key, _ in COLUMNS] for row in rows]
    print(markdown_table([title for _, title in COLUMNS], cells))
    if _OUTPUT.value:
        write(pathlib.Path(_OUTPUT.value), rows)


def grid():
    """Measures every combination of the flags."""
    rows = {}
    with tempfile.TemporaryDirectory() as directory:
        base = pathlib.Path(directory)
        for name in _NETWORKS.value:
            for flavor in _FLAVORS.value:
                for path, row in measure(name, flavor, base):
                    rows[str(path)] = row
                    print(json.dumps(row), file=sys.stderr, flush=True)
        for path, differences in check(rows).items():
            rows[path]["differences"] = differences
            rows[path]["difference"] = max(differences.values())
    return list(rows.values())


def write(directory, rows):
    """Writes the rows and the figure."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "export.json").write_text(json.dumps(rows, indent=1) + "\n")
    lines = []
    for name in _NETWORKS.value:
        chosen = [r for r in rows if r["network"] == name and r["flavour"] == _FLAVORS.value[0]]
        smaller = [r["keras_export"] / r["ours"] for r in chosen]
        lines.append(Line(name, [r["sparsity"] for r in chosen], smaller))
    line_figure(
        directory / "export",
        lines,
        x_label="sparsity of the prunable weights",
        y_label="times smaller than model.export",
        prepare=lambda axes: log_axis(axes.yaxis),
    )


if __name__ == "__main__":
    app.run(main)
