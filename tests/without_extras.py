"""A process in which optional packages cannot be imported: what asks for them, and what works.

    python without_extras.py PACKAGES DIRECTORY

PACKAGES are separated by commas. Runs everything else in DIRECTORY, and prints the error of each
door of those packages as JSON.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

DOORS: dict[str, tuple[str, Callable[[], Any]]] = {}
"""The functions and commands that need a package, with its name."""


def door(package: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Adds a function to `DOORS`."""

    def add(function: Callable[[], Any]) -> Callable[[], Any]:
        DOORS[function.__name__] = (package, function)
        return function

    return add


COMMANDS = {
    "search --keras=tf_keras": "tf_keras",
    "compare --keras=tf_keras --seeds=0": "tf_keras",
    "sweep --keras=tf_keras --rewinds=0it": "tf_keras",
    "search --dataset=mnist": "tensorflow_datasets",
    "search --preset=slth_lenet_mnist": "tensorflow_datasets",
    "compare --dataset=cifar10 --seeds=0": "tensorflow_datasets",
    "sweep --dataset=mnist --rewinds=0it": "tensorflow_datasets",
    "tune --dataset=mnist --space=prune_rate=0.1..0.5": "tensorflow_datasets",
    "tune --space=prune_rate=0.1..0.5": "keras_tuner",
    "search --tensorboard": "tensorboard",
}


@door("tf_keras")
def flavor() -> None:
    """`Flavor.module`."""
    from tf_prac.keras_api import Flavor

    assert Flavor("tf_keras").module


@door("tf_keras")
def model_by_name() -> None:
    """`build_model`."""
    from tf_prac.models import build_model

    build_model("lenet300", keras="tf_keras", input_shape=(8, 8, 1), num_classes=10)


@door("tf_keras")
def saved_model_of_keras_2() -> None:
    """`load_model`, of a SavedModel, which only Keras 2 reads."""
    import tf_prac

    with contextlib.suppress(FileExistsError):
        os.mkdir("model_of_keras_2")
    pathlib.Path("model_of_keras_2/saved_model.pb").touch()
    tf_prac.load_model("model_of_keras_2")


@door("tensorflow_model_optimization")
def prune_keras_2() -> None:
    """`prune`; it needs a model of Keras 2, so Keras 2 is installed."""
    import tf_prac
    from tf_prac.models import build_model

    network = build_model("lenet300", keras="tf_keras", input_shape=(8, 8, 1), num_classes=10)
    tf_prac.prune(network, sparsity=0.5)


@door("tensorflow_datasets")
def data_set() -> None:
    """`load_dataset`."""
    from tf_prac.data import load_dataset

    load_dataset("mnist")


@door("keras_tuner")
def tuner() -> None:
    """`PracTuner`."""
    from tf_prac import tuning

    assert tuning.PracTuner


@door("tensorboard")
def tensorboard() -> None:
    """`TensorBoardCallback`."""
    from tf_prac.analysis.tensorboard import TensorBoardCallback

    TensorBoardCallback("run")


class Blocked:
    """An import finder in place of another one, that does not find some packages."""

    def __init__(self, finder: Any, packages: set[str]):
        self._finder, self._packages = finder, packages

    def find_spec(self, name: str, *others: Any) -> Any:
        """Python calls it for every import."""
        return (
            None if name.split(".")[0] in self._packages else self._finder.find_spec(name, *others)
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._finder, name)


def run(command: str) -> str:
    """Runs a command; returns the text of its error."""
    from tf_prac.cli.main import main

    with contextlib.redirect_stderr(io.StringIO()) as errors:
        status = main(command.split())
    assert (status == 0) == (not errors.getvalue()), (command, status, errors.getvalue())
    return errors.getvalue()


def messages(packages: set[str]) -> Iterator[tuple[str, str, str]]:
    """Yields each door of the packages, the package, and the error."""
    from tf_prac.errors import MissingPackageError

    for command, package in COMMANDS.items():
        if package in packages:
            yield command, package, run(command)
            assert "tensorflow" not in sys.modules, f"{command}: TensorFlow was loaded before"
    if "tf_keras" in packages:
        del DOORS["prune_keras_2"]  # there are no such models
    for name, (package, function) in DOORS.items():
        if package in packages:
            try:
                function()
            except MissingPackageError as error:
                assert error.name == package
                yield name, package, f"{error}\n"
            else:
                raise AssertionError(f"{name}: no error without {package}")


def use_the_rest(packages: set[str]) -> None:
    """Searches, prunes, exports and reports, with the flavors that are installed."""
    flavor = "keras" if "tf_keras" in packages else "tf_keras"
    options = "--rounds=1 --epochs=1 --limit_train=200 --jit_compile=false"
    run(f"search --keras={flavor} {options} --output_dir=run")
    for command in ("info", "evaluate", "report"):
        run(f"{command} run")
    for name in ("keras", "npz", "sparse_saved_model"):
        run(f"export run --format={name} --output={name} --nocheck")  # the packages are there
    if flavor == "keras":
        use_functions()


def use_functions() -> None:
    """Prunes and trains a Keras 3 model with callbacks."""
    import numpy as np

    import tf_prac
    from tf_prac import callbacks

    keras = importlib.import_module("keras")
    x, y = np.ones((32, 4), np.float32), np.arange(32) % 3
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(3)])
    model = tf_prac.prune(network, sparsity=0.5)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    observers = [callbacks.SparsityLogger(), callbacks.ForgettingLogger((x, y))]
    model.fit(x, y, verbose=0, callbacks=observers)
    model.save("pruned.keras")
    assert tf_prac.load_model("pruned.keras").masks == model.masks
    assert np.isclose(tf_prac.strip(model).predict(x, verbose=0), model.predict(x, verbose=0)).all()


if __name__ == "__main__":
    blocked = set(sys.argv[1].split(","))
    sys.meta_path[:] = [Blocked(finder, blocked) for finder in sys.meta_path]
    os.chdir(sys.argv[2])
    found = list(messages(blocked))
    assert os.listdir() in ([], ["model_of_keras_2"]), "files were written before an error"
    with contextlib.redirect_stdout(io.StringIO()):
        use_the_rest(blocked)
    print(json.dumps(found))
