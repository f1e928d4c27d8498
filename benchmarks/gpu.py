"""Everything that is measured on a GPU, in one run of about four minutes.

    python benchmarks/gpu.py --output=gpu.json
    python benchmarks/gpu.py --jax_python=JAX/bin/python --authors="python main_PrAC_imp.py ..."

Data is synthetic, of the shapes of CIFAR-10, MNIST and ImageNet; its size is a multiple of the
batch size, so that XLA compiles one program for each loop. In each section, alternatives take
turns, and the table has the medians. A section or alternative that fails prints its error, and the
run continues.

Each section has a part of `--seconds`, with what earlier ones left. When it is over, the section
measures no further alternative, and takes no further turn. Sections are written to `--output` as
they finish; a second run measures only those that are missing, failed or incomplete.

`--jax_python` is an interpreter with JAX for `jax_loop.py`. `--authors` is a command that runs the
authors' PyTorch code, as in `pytorch.py`, which prints a line every 50 steps of 128 samples.
`--smoke` runs all sections with tiny sizes, in less than a minute on a CPU.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pathlib
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # other processes use the GPU too
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX's, for the same reason

import numpy as np
import tensorflow as tf
from absl import app, flags, logging
from peer import Peer

from tf_prac import (
    ForgettingLogger,
    Masks,
    PracModel,
    TrainingRecipe,
    build_model,
    export,
    prunable_weights,
    random_mask,
    rewind,
    snapshot,
    with_sample_ids,
)
from tf_prac.data.pipeline import training_batches
from tf_prac.data.source import ArraySamples
from tf_prac.keras_api import FLAVORS, Flavor, new_network
from tf_prac.tables import text_table
from tf_prac.training.precision import tf32_execution
from tf_prac.training.schedules import Budget
from tf_prac.training.trainer import Trainer

_OUTPUT = flags.DEFINE_string("output", "gpu.json", "JSON file to write, and to continue.")
_SECTIONS = flags.DEFINE_list("sections", None, "Sections to run. By default all.")
_AGAIN = flags.DEFINE_boolean("again", False, "Whether to run finished sections again.")
_SMOKE = flags.DEFINE_boolean("smoke", False, "Whether to use tiny sizes.")
_SECONDS = flags.DEFINE_integer("seconds", 240, "Time for all sections.")
_JAX = flags.DEFINE_string("jax_python", sys.executable, "Interpreter with JAX.")
_AUTHORS = flags.DEFINE_string("authors", None, "Command that runs the authors' code.")

SHARES = {
    "logger": 1,
    "exports": 2,
    "resnet20": 10,
    "copies": 1,
    "lenet": 3,
    "fit_resnet20": 5,
    "deterministic": 4,
    "fit_resnet50": 12,
}
"""The parts of the time that sections have."""

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
PAPER_STEPS = 72_000


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of the table.

    Attributes:
        what: what was measured.
        value: the value.
        unit: its unit.
        target: the target, as text. Default "": none.
        met: whether the value meets it. Default None: no target.
    """

    what: str
    value: float
    unit: str
    target: str = ""
    met: bool | None = None


class Clock:
    """The time that is left for a section, and what was not measured for lack of it."""

    def __init__(self):
        self._start = self._end = time.perf_counter()
        self.skipped: list[str] = []

    def begin(self, end: float) -> None:
        """Starts a section, which ends `end` seconds after the start of the run."""
        self._end, self.skipped = self._start + end, []

    def left(self) -> float:
        """Returns the seconds until the section ends."""
        return self._end - time.perf_counter()

    def skips(self, what: str) -> bool:
        """Whether the time is over, so that something is not measured."""
        if self.left() > 0:
            return False
        print(f"  {what}: not measured, the time is over. Run again to continue.", flush=True)
        self.skipped.append(what)
        return True


CLOCK = Clock()


def at_least(what: str, value: float, unit: str, target: float) -> Line:
    return Line(what, value, unit, f">= {target:,g}", value >= target)


def at_most(what: str, value: float, unit: str, target: float) -> Line:
    return Line(what, value, unit, f"<= {target:,g}", value <= target)


def full(on_gpu: int, smoke: int) -> int:
    """Returns a size."""
    return smoke if _SMOKE.value else on_gpu


@functools.cache
def synthetic(count: int, shape: tuple[int, ...], classes: int = 10) -> ArraySamples:
    """Returns random images and labels; the mean and deviation are not those of the data."""
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (count, *shape), dtype=np.uint8)
    channels = shape[-1]
    labels = generator.integers(0, classes, count)
    return ArraySamples(
        x, labels, num_classes=classes, mean=[0.5] * channels, std=[0.25] * channels
    )


def search_loop(samples: ArraySamples, steps: int, **options: Any) -> Callable[[], Any]:
    """Returns a function that trains some steps as a search does, with an 80% mask.

    Args:
        samples: the training set.
        steps: the number of steps.
        **options: of `trainer_for`; equal ones share a trainer, which compiles once.
    """
    trainer, weights, masks = trainer_for(samples, **options)
    ids = np.arange(len(samples))
    budget = Budget.full(dataclasses.replace(trainer.recipe, steps=steps), len(ids))
    return lambda: trainer.train(weights, masks, ids, budget, (0,))


@functools.cache
def trainer_for(
    samples: ArraySamples,
    *,
    model: str,
    keras: str = "keras",
    batch_size: int = 128,
    augment: str = "none",
    placement: str = "auto",
    **options: Any,
) -> tuple[Trainer, dict[str, np.ndarray], Masks]:
    """Returns a trainer, initial weights and masks."""
    recipe = TrainingRecipe(
        steps=1,
        batch_size=batch_size,
        schedule="constant",
        learning_rate=0.01,
        weight_decay=1e-4,
        augment=augment,
        **options,
    )
    network = new_network(lambda: network_of(model, samples, keras), recipe.mixed_precision is True)
    trainer = Trainer(network, recipe, samples, data_placement=placement)
    masks = random_mask(Masks.ones_like(prunable_weights(network)), 0.8, seed=0)
    return trainer, snapshot(network), masks


def network_of(model: str, samples: ArraySamples, keras: str = "keras") -> Any:
    """Returns a new network for some samples."""
    assert Flavor(keras).module is not None
    return build_model(
        model, keras=keras, input_shape=samples.input_shape, num_classes=samples.num_classes
    )


def once_built(build: Callable[[], Callable[[], Any]]) -> Callable[[], Any]:
    """Returns a function that calls what `build` returns, which its first call builds."""
    built = functools.cache(build)
    return lambda: built()()


def rates(alternatives: dict[str, tuple[Callable[[], Any], int]]) -> dict[str, list[float]]:
    """Returns the samples per second of each alternative in each turn.

    Args:
        alternatives: functions, and the number of samples of one call. One that fails in its first
            call, which is not measured, prints its error and is left out.
    """
    measured: dict[str, list[float]] = {}
    for name, (run, _) in alternatives.items():
        if CLOCK.skips(name):
            continue
        try:
            started = time.perf_counter()
            run()
            print(f"  {name}: first call {time.perf_counter() - started:.1f} s", flush=True)
            measured[name] = []
        except Exception as error:
            print(f"  {name}: failed: {type(error).__name__}: {str(error)[:500]}", flush=True)
    for turn in range(full(3, 1)):
        if turn and CLOCK.left() < 0:
            break
        for name, values in measured.items():
            run, samples = alternatives[name]
            started = time.perf_counter()
            run()
            values.append(samples / (time.perf_counter() - started))
    return measured


def rate_lines(measured: dict[str, list[float]]) -> list[Line]:
    return [Line(name, statistics.median(v), "samples/s") for name, v in measured.items()]


def median_ratio(measured: dict[str, list[float]], name: str, base: str) -> float:
    """Returns the median of the ratios within each turn."""
    pairs = zip(measured[name], measured[base], strict=True)
    return statistics.median(value / of_base for value, of_base in pairs)


def resnet20() -> list[Line]:
    """ResNet-20 on CIFAR-10's shape: the loop of a search, JAX, and the authors' PyTorch."""
    samples, steps, stream = cifar10(), full(1_500, 4), full(200, 4)
    tf32, bfloat16 = RESNET20, {**RESNET20, "mixed_precision": True}
    float32 = {**tf32, "tf32": False}
    variants: dict[str, tuple[int, dict[str, Any]]] = {
        "search, TF32": (steps, tf32),
        "search, bfloat16": (steps, bfloat16),
        "search, float32": (steps, float32),
        "search, bfloat16, tf_keras": (steps, {**bfloat16, "keras": "tf_keras"}),
        "search, TF32, streamed": (stream, {**tf32, "placement": "stream"}),
    }
    alternatives = {
        name: (
            once_built(functools.partial(search_loop, samples, n, **resnet20_options(options))),
            n * 128,
        )
        for name, (n, options) in variants.items()
    }
    peers = {**_jax_peers(len(samples), steps), **_authors_peer()}
    # The most important ones first, as the time may not be enough for all.
    names = ["search, TF32", "JAX", "search, bfloat16", "JAX, bfloat16", "PyTorch (authors)"]
    alternatives |= {name: (once_built(start), count) for name, (start, count) in peers.items()}
    names = [name for name in names if name in alternatives]
    try:
        measured = rates({name: alternatives[name] for name in [*names, *alternatives]})
    finally:
        end_peers()
    lines = rate_lines(measured)
    ours = {name: statistics.median(v) for name, v in measured.items() if name in variants}
    best = max(ours, key=ours.__getitem__)
    lines += [
        at_least(f"fastest ({best})", ours[best], "samples/s", 120_000),
        at_most("its 72,000 steps of the paper", PAPER_STEPS * 128 / ours[best], "s", 80),
    ]
    # Both sides in the same precision, in which JAX's products are too.
    pairs = [("search, TF32", "JAX"), ("search, bfloat16", "JAX, bfloat16")]
    for name, base in pairs:
        if name in measured and base in measured:
            ratio = median_ratio(measured, name, base)
            lines.append(at_least(f"{name} / {base}", ratio, "x", 0.8))
    if "PyTorch (authors)" in measured:
        ratio = median_ratio(measured, best, "PyTorch (authors)")
        lines.append(at_least(f"{best} / PyTorch (authors)", ratio, "x", 5))
    return lines


RESNET20: dict[str, Any] = {"augment": "crop_flip", "mixed_precision": False, "tf32": True}


def resnet20_options(options: dict[str, Any]) -> dict[str, Any]:
    """Returns the options of `trainer_for` for ResNet-20, compiled by XLA."""
    return {"model": _model("resnet20"), "jit_compile": not _SMOKE.value, **options}


def cifar10() -> ArraySamples:
    """Returns images of CIFAR-10's shape, in number a multiple of the batch size."""
    return synthetic(full(390 * 128, 3 * 128), (32, 32, 3))


def _model(name: str) -> str:
    return "lenet300" if _SMOKE.value else name


PEERS: list[Peer] = []


def start_peer(command: list[str], prompted: bool, marker: str) -> Callable[[], None]:
    """Starts another process, and returns a function that runs a turn of it."""
    PEERS.append(Peer(command, prompted, marker))
    return PEERS[-1].turn


def end_peers() -> None:
    """Ends the processes of `start_peer`."""
    while PEERS:
        PEERS.pop().end()


def _jax_peers(samples: int, steps: int) -> dict[str, tuple[Callable[[], Any], int]]:
    """Returns functions that start JAX, and the number of samples of a turn, by name."""
    if _SMOKE.value:
        print("  JAX: not measured with --smoke, as it compiles for minutes on a CPU")
        return {}
    python = _JAX.value
    if subprocess.run([python, "-c", "import jax"], capture_output=True).returncode:
        print(f"  JAX: not measured, {python} cannot import it")
        return {}
    script = str(pathlib.Path(__file__).with_name("jax_loop.py"))
    command = [python, script, str(samples), str(steps)]
    names = {"JAX": [], "JAX, bfloat16": ["bfloat16"]}
    return {
        name: (functools.partial(start_peer, [*command, *more], True, "turn"), steps * 128)
        for name, more in names.items()
    }


def _authors_peer() -> dict[str, tuple[Callable[[], Any], int]]:
    if _AUTHORS.value is None:
        print("  PyTorch (authors): not measured, --authors is not given")
        return {}
    start = functools.partial(start_peer, shlex.split(_AUTHORS.value), False, "Epoch: [")
    return {"PyTorch (authors)": (start, 50 * 128)}


def lenet() -> list[Line]:
    """LeNet-300-100 on MNIST's shape, batches of 60, against plain `fit`."""
    samples, batch_size = synthetic(full(60_000, 600), (28, 28, 1)), 60
    steps = full(10_000, 10)
    run = search_loop(samples, steps, model="lenet300", batch_size=batch_size)
    alternatives = {"search": (run, steps * batch_size)}
    for per_execution in (1, 32, 250):
        batches = _plain(samples, batch_size)
        model = _compiled(network_of("lenet300", samples), steps_per_execution=per_execution)
        taken = full(1_000, 10)
        alternatives[f"fit, steps_per_execution={per_execution}"] = (
            lambda model=model, batches=batches, taken=taken: model.fit(
                batches.take(taken), verbose=0, shuffle=False
            ),
            taken * batch_size,
        )
    measured = rates(alternatives)
    best = max((n for n in measured if n != "search"), key=lambda n: max(measured[n]))
    ratio = median_ratio(measured, "search", best)
    return [*rate_lines(measured), at_least(f"search / {best}", ratio, "x", 10)]


def _batches(samples: ArraySamples, batch_size: int) -> tf.data.Dataset:
    """Returns an endless dataset of batches with ids, without the last, partial ones."""
    ids = np.arange(len(samples) // batch_size * batch_size)
    return training_batches(samples, ids, batch_size=batch_size, seed=(0,))


def _plain(samples: ArraySamples, batch_size: int) -> tf.data.Dataset:
    return _batches(samples, batch_size).map(lambda x, y: (x["inputs"], y))


def _compiled(model: Any, **options: Any) -> Any:
    """Compiles a Keras 3 model with Keras's own choice of XLA."""
    keras = Flavor("keras").module
    model.compile(
        optimizer=keras.optimizers.SGD(0.01, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        **options,
    )
    return model


def fit_resnet20() -> list[Line]:
    """`fit` of a `PracModel` against plain `fit`, ResNet-20."""
    samples = synthetic(full(12_800, 300), (32, 32, 3))
    return _fit_ratio(samples, _model("resnet20"), steps=full(100, 2))


def fit_resnet50() -> list[Line]:
    """`fit` of a `PracModel` against plain `fit`, ResNet-50 with 224 x 224 pixels.

    As by default in Keras 3, XLA compiles both, each for a long time; it is the last section, and
    may need a second run.
    """
    size = full(224, 32)
    samples = synthetic(full(512, 256), (size, size, 3), full(1000, 10))
    return _fit_ratio(samples, _model("resnet50"), steps=full(12, 2))


def _fit_ratio(samples: ArraySamples, model: str, steps: int) -> list[Line]:
    network = network_of(model, samples)
    masks = random_mask(Masks.ones_like(prunable_weights(network)), 0.8, seed=0)
    ours = _compiled(PracModel(network, masks=masks, num_samples=len(samples)))
    plain = _compiled(network_of(model, samples))
    assert ours.jit_compile == plain.jit_compile
    print(f"  XLA: {plain.jit_compile}")
    # From the memory of the host, so that neither waits for augmentation.
    with_ids = _batches(samples, 128).take(steps).cache()
    without = with_ids.map(lambda x, y: (x["inputs"], y))
    measured = rates(
        {
            "plain fit": (lambda: plain.fit(without, verbose=0, shuffle=False), steps * 128),
            "fit of a PracModel": (
                lambda: ours.fit(with_ids, verbose=0, shuffle=False),
                steps * 128,
            ),
        }
    )
    lines = rate_lines(measured)
    if len(measured) == 2:
        ratio = median_ratio(measured, "plain fit", "fit of a PracModel")
        lines.append(at_most("time of PracModel / plain", ratio, "x", 1.02))
    return lines


def copies() -> list[Line]:
    """Copies between host and device for each step, from TensorFlow's profiler.

    After each step, XLA copies to the host whether a loop of a number of steps that is not a
    constant has ended, and waits for it.
    """
    counts = {}
    for steps in (full(200, 2), full(1_200, 4)):
        run = search_loop(cifar10(), steps, **resnet20_options(RESNET20))
        run()
        with tempfile.TemporaryDirectory() as directory:
            tf.profiler.experimental.start(directory)
            run()
            tf.profiler.experimental.stop()
            counts[steps] = _copies(pathlib.Path(directory))
    (few, at_few), (many, at_many) = counts.items()
    to_device, to_host = ((at_many - at_few) / (many - few)).tolist()
    return [
        Line(f"copies to the device in a call of {few} steps", float(at_few[0]), ""),
        Line(f"copies to the device in a call of {many} steps", float(at_many[0]), ""),
        at_most("copies to the device for each further step", to_device, "", 0.01),
        Line("copies to the host for each further step, 1 of them by XLA", to_host, ""),
    ]


def _copies(directory: pathlib.Path) -> np.ndarray:
    """Returns the numbers of copies to the device and to the host in a profile, int [2]."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    counts = np.zeros(2, int)
    for file in directory.rglob("*.xplane.pb"):
        space = xplane_pb2.XSpace.FromString(file.read_bytes())
        for plane in (p for p in space.planes if "GPU" in p.name):
            names = {key: data.name for key, data in plane.event_metadata.items()}
            for line in plane.lines:
                events = [names[event.metadata_id] for event in line.events]
                for index, kind in enumerate(("MemcpyH2D", "MemcpyD2H")):
                    counts[index] += sum(kind in event for event in events)
    return counts


def deterministic() -> list[Line]:
    """Searches, `prune` and callbacks with determinism, twice, in another process."""
    sys.path.insert(0, str(REPOSITORY / "tests"))
    from determinism_battery import CASES, SHORT

    cases = list(SHORT[:1] if _SMOKE.value else [*SHORT, "search jit"])
    flavors = FLAVORS[:1] if _SMOKE.value else FLAVORS
    script = str(REPOSITORY / "tests" / "determinism_battery.py")
    assert set(cases) <= set(CASES)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, script, *cases, *(flavors if _SMOKE.value else ())]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        timer = threading.Timer(max(1.0, CLOCK.left()), process.kill)
        timer.start()
        same = 0
        for line in process.stdout or ():
            print(f"  {line.rstrip()}", flush=True)
            same += line.startswith("ok ")
        timer.cancel()
    if process.wait() < 0:
        CLOCK.skips("the other trainings")
    wanted = len(cases) * len(flavors)
    return [at_least("trainings with the same bits when repeated", same, f"of {wanted}", wanted)]


def exports() -> list[Line]:
    """The check of an export, and the error of a product with and without TF32."""
    samples = synthetic(8, (32, 32, 3))
    network = network_of(_model("resnet20"), samples)
    weights = prunable_weights(network)
    rewind(network, snapshot(network), random_mask(Masks.ones_like(weights), 0.8, seed=0))
    with tempfile.TemporaryDirectory() as directory:
        result = export.saved_model(network, f"{directory}/export")
    assert result.max_error is not None
    lines = [Line("difference of the export's outputs, which it accepted", result.max_error, "")]
    a, b = np.random.default_rng(0).normal(size=(2, 512, 512)).astype(np.float32)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    for name, enabled in (("float32", False), ("TF32", True)):
        with tf32_execution(enabled):
            error = float(np.abs(tf.matmul(a, b).numpy() - exact).max())
        limit = {"float32": 1e-3}.get(name)
        what = f"error of a product of 512 x 512, {name}"
        lines.append(Line(what, error, "") if limit is None else at_most(what, error, "", limit))
    return lines


def logger() -> list[Line]:
    """`ForgettingLogger` in a `fit` that Keras 3 compiles as it chooses."""
    samples = synthetic(256, (8, 8, 3))
    dataset = with_sample_ids(
        tf.data.Dataset.from_tensor_slices((np.float32(samples.inputs(range(256))), samples.labels))
    )
    model = _compiled(PracModel(network_of("lenet300", samples), num_samples=256))
    callback = ForgettingLogger()
    model.fit(dataset.batch(32), epochs=2, verbose=0, shuffle=False, callbacks=[callback])
    presented = int(callback.stats.presentations.sum())
    return [at_least("presentations recorded in fit", presented, "of 512", 512)]


SECTIONS: dict[str, Callable[[], list[Line]]] = {
    "logger": logger,
    "exports": exports,
    "resnet20": resnet20,
    "copies": copies,
    "lenet": lenet,
    "fit_resnet20": fit_resnet20,
    "deterministic": deterministic,
    "fit_resnet50": fit_resnet50,
}


def machine() -> dict[str, str]:
    """Returns the device and the versions, which a continued file must have too."""
    gpus = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    names = [f"{d.get('device_name')} {d.get('compute_capability')}" for d in details]
    build = tf.sysconfig.get_build_info()
    return {
        "device": ", ".join(names) or "CPU",
        "driver": driver(),
        "CUDA": str(build.get("cuda_version", "none")),
        "cuDNN": str(build.get("cudnn_version", "none")),
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        **{name: Flavor(name).module.__version__ for name in FLAVORS},
        "sizes": "smoke" if _SMOKE.value else "full",
    }


def driver() -> str:
    """Returns the version of the NVIDIA driver."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20)
        return done.stdout.split()[0]
    except (OSError, IndexError, subprocess.TimeoutExpired):
        return "none"


def table(sections: dict[str, Any]) -> str:
    """Returns the lines of all sections as text."""
    rows = [("", "value", "", "target", "")]
    for name, section in sections.items():
        rows.append((name, "", "", "", section.get("error", "").strip()[-60:]))
        for line in section.get("lines", ()):
            met = {None: "", True: "met", False: "MISSED"}[line["met"]]
            value = f"{line['value']:,.4g}" if line["value"] < 1000 else f"{line['value']:,.0f}"
            rows.append((f"  {line['what']}", value, line["unit"], line["target"], met))
    return text_table(rows, left=[0, 2, 3, 4])


def main(_) -> int:
    """Runs the sections, writes their lines as they finish, and prints the table."""
    logging.set_verbosity(logging.WARNING)
    for name in FLAVORS:  # imported, so that search loops can set their policies
        assert Flavor(name).module is not None
    began, path, here = time.perf_counter(), pathlib.Path(_OUTPUT.value), machine()
    results: dict[str, Any] = {"machine": here, "sections": {}}
    if path.exists() and not _AGAIN.value:
        before = json.loads(path.read_text())
        results = before if before.get("machine") == here else results
    print(", ".join(f"{name} {value}" for name, value in here.items()), flush=True)
    sections = results["sections"]
    names = [name for name in _SECTIONS.value or SECTIONS if not is_complete(sections.get(name))]
    shares = [SHARES[name] for name in names]
    for number, name in enumerate(names):
        CLOCK.begin(_SECONDS.value * sum(shares[: number + 1]) / sum(shares))
        if number and CLOCK.skips(name):
            continue
        sections[name] = measure(name)
        path.write_text(json.dumps(results, indent=2) + "\n")
    print(f"\n{table(sections)}\n{time.perf_counter() - began:.0f} s")
    return int(any("error" in section for section in sections.values()))


def is_complete(section: dict[str, Any] | None) -> bool:
    """Whether a section was measured, without an error, and all of it."""
    return section is not None and "error" not in section and not section.get("skipped")


def measure(name: str) -> dict[str, Any]:
    """Runs a section; returns its lines or its error, and its time."""
    started = time.perf_counter()
    print(f"{name}: {(SECTIONS[name].__doc__ or '').strip().splitlines()[0]}", flush=True)
    try:
        result: dict[str, Any] = {"lines": [dataclasses.asdict(line) for line in SECTIONS[name]()]}
    except Exception:
        result = {"error": traceback.format_exc()}
        print(result["error"], flush=True)
    for line in result.get("lines", ()):
        print(f"  {line['what']}: {line['value']:,.6g} {line['unit']}", flush=True)
    seconds = round(time.perf_counter() - started, 1)
    print(f"  {seconds:.0f} s", flush=True)
    return {**result, "skipped": CLOCK.skipped, "seconds": seconds}


if __name__ == "__main__":
    app.run(main)
