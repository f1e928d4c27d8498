"""What depends on the device: XLA, TensorFloat-32 and determinism, with devices that are not there.

The devices that TensorFlow reports are replaced; all computation is on the CPU.
"""

from __future__ import annotations

import importlib
import json
import os
import pathlib
import subprocess
import sys

import determinism_battery
import numpy as np
import pytest
import tensorflow as tf

from tf_prac import PruningConfig, TicketSearch, TrainingRecipe
from tf_prac.cli.flags import Flags
from tf_prac.cli.main import main
from tf_prac.config import CheckpointConfig, SearchConfig
from tf_prac.errors import ArgumentError
from tf_prac.keras_api import FLAVORS
from tf_prac.search.callbacks import SearchCallback
from tf_prac.training import devices
from tf_prac.training.checkpoint import Checkpoints
from tf_prac.training.distribution import Distribution
from tf_prac.training.placement import DataPlacement
from tf_prac.training.precision import (
    exact_float32,
    explained_errors,
    has_tf32,
    resolved,
    resolved_config,
    tf32_execution,
)

both = pytest.mark.parametrize("flavor", FLAVORS)
HOPPER, VOLTA = (9, 0), (7, 0)
X = np.random.default_rng(0).normal(size=(40, 6)).astype("f4")
Y = np.arange(40) % 3


@pytest.fixture
def gpu(monkeypatch):
    """A function that makes TensorFlow report GPUs of some compute capabilities."""

    def report(*capabilities):
        gpus = [tf.config.PhysicalDevice(f"GPU:{n}", "GPU") for n in range(len(capabilities))]
        details = dict(zip(gpus, capabilities, strict=True))
        for name in ("list_physical_devices", "get_visible_devices"):
            real = getattr(tf.config, name)
            monkeypatch.setattr(
                tf.config,
                name,
                lambda kind=None, real=real: gpus if kind == "GPU" else real(kind),
            )
        monkeypatch.setattr(
            tf.config.experimental,
            "get_device_details",
            lambda device: {"compute_capability": details[device]},
        )
        monkeypatch.setattr(DataPlacement, "device", "CPU:0")  # where there is memory
        return gpus

    return report


def enabled():
    return tf.config.experimental.tensor_float_32_execution_enabled()


@pytest.fixture
def tf32():
    """TensorFloat-32 as TensorFlow has it by default."""
    with tf32_execution(True):
        yield


def test_the_global_value_is_restored(tf32):
    @exact_float32()
    def fails():
        assert not enabled()
        with tf32_execution(True):
            assert enabled()
        assert not enabled()
        raise KeyError

    for _ in range(2):
        with pytest.raises(KeyError):
            fails()
        assert enabled()


@pytest.mark.parametrize(
    "capabilities, allowed, expected",
    [
        ((), True, (False, False)),
        ((HOPPER,), True, (True, True)),
        ((HOPPER,), False, (True, False)),
        ((VOLTA,), True, (True, False)),
        ((HOPPER, VOLTA), True, (True, False)),
    ],
)
def test_the_device_decides(capabilities, allowed, expected, gpu):
    gpu(*capabilities)
    with tf32_execution(allowed):
        recipe = resolved(TrainingRecipe(), Distribution())
        assert has_tf32() is expected[1]
    assert (recipe.jit_compile, recipe.tf32) == expected
    assert recipe.mixed_precision is False
    given = TrainingRecipe(jit_compile=False, tf32=False, mixed_precision=True)
    assert resolved(given, Distribution()) is given


def test_replicas_are_not_compiled(gpu, tf32):
    gpu(HOPPER)
    distribution = Distribution()
    distribution.replicas = 2
    recipe = resolved(TrainingRecipe(), distribution)
    assert not recipe.jit_compile and recipe.tf32


@pytest.mark.parametrize(
    "recorded, expected",
    [
        ({"jit_compile": True, "mixed_precision": False, "tf32": True}, (True, True)),
        ({"jit_compile": False, "mixed_precision": False}, (False, False)),  # as in 0.1.0
        (None, (True, True)),
        ("damaged", (True, True)),
    ],
)
def test_a_resumed_run_keeps_its_values(recorded, expected, gpu, tf32):
    gpu(HOPPER)
    recipe = resolved(TrainingRecipe(), Distribution(), recorded)
    assert (recipe.jit_compile, recipe.tf32) == expected


def test_a_damaged_document_does_not_decide(tmp_path):
    file = tmp_path / "config.json"
    file.write_text("{")
    config = resolved_config(SearchConfig(), Distribution(), [tmp_path / "none.json", file])
    assert config.recipe.jit_compile is False


def test_checkpoints_of_0_1_0_are_those_of_the_same_recipe():
    recipe = resolved(TrainingRecipe(), Distribution(), {})
    text = repr(recipe)
    assert "tf32" not in text and text.endswith("mixed_precision=False, jit_compile=False)")
    assert "tf32" not in recipe.to_json()


def search(flavor, directory, **options):
    keras = importlib.import_module(flavor)

    def model_fn():
        layers = [keras.Input((6,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(3)]
        return keras.Sequential(layers)

    return TicketSearch(
        model_fn,
        TrainingRecipe(epochs=2, batch_size=16, learning_rate=0.05, **options),
        PruningConfig(rounds=1, rewind="1it"),
        directory=directory,
        retrain="none",
    )


@both
def test_a_run_of_a_gpu_is_resumed_on_a_cpu(flavor, gpu, tf32, tmp_path, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        gpus = gpu(HOPPER)
        patch.setattr(tf.config, "list_logical_devices", lambda kind: gpus)
        first = search(flavor, tmp_path / "run")
        first.run((X, Y))
        line = "GPU:0: float32 with TensorFloat-32 products, compiled by XLA"
        assert line in capsys.readouterr().out
    monkeypatch.undo()
    assert enabled()
    recipe = json.loads((tmp_path / "run" / "config.json").read_text())["recipe"]
    assert recipe["jit_compile"] is recipe["tf32"] is True and recipe["mixed_precision"] is False
    second = search(flavor, tmp_path / "run")
    assert second.config == first.config
    second.run((X, Y))
    with pytest.raises(Exception, match="jit_compile: False requested, but the run .* has True"):
        search(flavor, tmp_path / "run", jit_compile=False).run((X, Y))
    assert main(["info", str(tmp_path / "run")]) == 0
    assert "numbers  float32 with TensorFloat-32 products, compiled" in capsys.readouterr().out


def test_training_may_use_tf32_and_evaluation_does_not(tf32, tmp_path, monkeypatch):
    from tf_prac.training.loop import StepLoop

    seen = {"train": set(), "evaluate": set(), "trace": set()}
    for name in seen:
        real = getattr(StepLoop, name)

        def spy(self, *args, name=name, real=real):
            seen[name].add(enabled())
            return real(self, *args)

        monkeypatch.setattr(StepLoop, name, spy)
    save = Checkpoints.save

    def saves_and_ends(self, state):
        save(self, state)
        raise KeyboardInterrupt

    for tf32_of_recipe in (True, False):
        directory = tmp_path / str(tf32_of_recipe)
        interrupted = search("keras", directory, tf32=tf32_of_recipe)
        interrupted.checkpoints = CheckpointConfig(checkpoint_steps=1)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Checkpoints, "save", saves_and_ends)
            interrupted.run((X, Y))
        search("keras", directory, tf32=tf32_of_recipe).run((X, Y))  # traces before it restores
        assert seen["train"] == seen["trace"] == {tf32_of_recipe}
        assert seen["evaluate"] == {False}
        for values in seen.values():
            values.clear()
    assert enabled()


@pytest.mark.parametrize(
    "text, value",
    [
        ("--jit_compile", True),
        ("--nojit_compile", False),
        ("--jit_compile=auto", "auto"),
        ("--tf32=false", False),
    ],
)
def test_flags_of_the_device(text, value):
    flags = Flags("", "")
    flags.options("Training", TrainingRecipe)
    flags.parse([text])
    (given,) = flags.given(TrainingRecipe).values()
    assert given is value or given == value == "auto"


DRIVER, CUDA = "libcuda.so.1", ["libcudart.so.12", "libcudnn.so.9"]


@pytest.mark.parametrize(
    "build, environment, present, expected",
    [
        ({"is_cuda_build": False}, None, (), "has no CUDA"),
        ({}, "-1", (), "CUDA_VISIBLE_DEVICES='-1' hides all GPUs"),
        ({}, None, (), "NVIDIA driver is missing: libcuda.so.1"),
        ({}, None, (DRIVER, "libcudart.so.12"), r"are missing: libcudnn.so.9 \(CUDA 12.5.1\)"),
        ({}, None, (DRIVER, *CUDA), "nvidia-smi"),
    ],
)
def test_why_there_is_no_gpu(build, environment, present, expected, monkeypatch, capsys):
    info = {"is_cuda_build": True, "cuda_version": "12.5.1", "cudnn_version": "9", **build}
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [])
    monkeypatch.setattr(tf.sysconfig, "get_build_info", lambda: info)
    monkeypatch.setattr(devices, "LIBRARIES", {"libcudart.so": "cuda", "libcudnn.so": "cudnn"})
    monkeypatch.setattr(devices, "_opens", lambda name: name in present)
    monkeypatch.setattr(devices, "_packaged_libraries", set)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if environment is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", environment)
    with pytest.raises(ArgumentError, match=expected):
        devices.use_device("gpu")
    if "are missing" in expected:
        with pytest.warns(UserWarning, match="No GPU is used.*libcudnn.so.9"):
            devices.use_device("auto")
    else:
        devices.use_device("auto")
    assert main(["search", "--device=gpu", "--output_dir=none"]) == 2
    assert "--device: received 'gpu'; allowed: cpu or auto" in capsys.readouterr().err


def test_libraries_of_packages_are_found(tmp_path, monkeypatch):
    library = tmp_path / "nvidia" / "cudnn" / "lib" / "libcudnn.so.9"
    library.parent.mkdir(parents=True)
    library.touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(devices, "_opens", lambda name: False)
    missing = devices.missing_libraries()
    assert "libcudnn.so.9" not in missing and "libcudart.so.12" in missing


@pytest.mark.parametrize("count, split", [(1, None), (2, [4096, 4096])])
def test_the_only_gpu_is_split(count, split, gpu, monkeypatch):
    from tf_prac.training import strategies

    calls, names = [], []
    gpu(HOPPER)
    monkeypatch.setattr(
        tf.config,
        "set_logical_device_configuration",
        lambda device, parts: calls.append([part.memory_limit for part in parts]),
    )
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", names.append)
    strategies._mirrored(count)
    assert calls == ([split] if split else [])
    assert names == [[f"GPU:{n}" for n in range(count)]]


def test_several_gpus_are_not_split(gpu):
    gpu(HOPPER, HOPPER)
    from tf_prac.training.strategies import make_distribution

    with pytest.raises(ArgumentError, match="received 3; allowed: 1 to 2, as there are 2 GPUs"):
        make_distribution("mirrored", 3)


@pytest.mark.parametrize(
    "error, argument, expected",
    [
        (
            tf.errors.UnimplementedError(
                None, None, "x\nA deterministic GPU implementation of DepthwiseConv is missing"
            ),
            "deterministic",
            "DepthwiseConv is missing Set jit_compile to True",
        ),
        (
            tf.errors.UnimplementedError(None, None, "MaxPool has no deterministic XLA kernel"),
            "deterministic",
            "Set jit_compile to False",
        ),
        (RuntimeError("Random ops require a seed when determinism is on"), "deterministic", "seed"),
        (
            tf.errors.NotFoundError(None, None, "could not find registered compiler for CUDA"),
            "jit_compile",
            "Set it to False",
        ),
    ],
    ids=["deterministic", "XLA", "seed", "no XLA"],
)
def test_errors_of_tensorflow_are_explained(error, argument, expected):
    with pytest.raises(ArgumentError, match=expected) as raised, explained_errors():
        raise error
    assert raised.value.argument == argument


def test_other_errors_pass():
    with pytest.raises(tf.errors.InvalidArgumentError), explained_errors():
        raise tf.errors.InvalidArgumentError(None, None, "shapes differ")


def make_uncompilable(flavor):
    """A model with an operation that XLA cannot compile."""
    keras = importlib.import_module(flavor)
    keras.utils.set_random_seed(0)

    class Digits(keras.layers.Layer):
        def call(self, x):
            digits = tf.strings.length(tf.strings.as_string(x))
            return x + 0 * tf.cast(digits, x.dtype)

        def compute_output_shape(self, shape):
            return shape

    inputs = keras.Input((6,))
    return keras.Model(inputs, Digits()(keras.layers.Dense(3)(inputs)))


@both
def test_xla_is_given_up_unless_it_is_forced(flavor, gpu, monkeypatch, tmp_path):
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: gpu(VOLTA))

    def run(directory, **options):
        search = TicketSearch(
            lambda: make_uncompilable(flavor),
            TrainingRecipe(epochs=2, batch_size=16, **options),
            PruningConfig(rounds=1, prune_last_dense=True),
            directory=tmp_path / directory,
            retrain="none",
            verbose=False,
        )
        lines: list[str] = []
        callback = SearchCallback()
        callback.on_message = lines.append
        return search.run((X, Y), callbacks=[callback]).tickets[-1], "\n".join(lines)

    gpu(VOLTA)
    chosen, lines = run("auto")
    assert "Training starts again without XLA" in lines and "AsString" in lines
    plain, lines = run("plain", jit_compile=False)
    assert "again without XLA" not in lines
    for name, value in plain.weights.items():
        assert value.tobytes() == chosen.weights[name].tobytes()
    with pytest.raises(ArgumentError, match="jit_compile: received True.*AsString"):
        run("forced", jit_compile=True)


def run_battery(*cases):
    script = pathlib.Path(determinism_battery.__file__)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), *cases],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("ok ")]
    assert done.returncode == 0, done.stdout[-5000:]
    assert len(lines) == len(cases or determinism_battery.CASES) * len(FLAVORS)


def test_determinism_refuses_nothing_and_repeats_bits():
    run_battery("PracModel callbacks")


@pytest.mark.slow
def test_determinism_of_every_case():
    run_battery()


@pytest.mark.slow
def test_the_benchmark_of_a_gpu_runs_on_a_cpu(tmp_path):
    script = pathlib.Path(__file__).parents[1] / "benchmarks" / "gpu.py"
    command = [sys.executable, str(script), "--smoke", "--output=gpu.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:]
    sections = json.loads((tmp_path / "gpu.json").read_text())["sections"]
    assert len(sections) == 8 and all(section["lines"] for section in sections.values())
    started = done.stdout.count(": ")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count(": ") < started  # nothing is measured again
