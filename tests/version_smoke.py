"""The main functions in the installed versions, for one flavor of Keras: which of them work.

    python version_smoke.py FLAVOR [CELL ...]

Prints the result of each cell as JSON: "yes", "-" if the flavor does not have it, or the error.
Needs no test tools, so that it runs where only `tf-prac[all]` is installed.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import json
import os
import pathlib
import sys
import tempfile
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

X = np.random.default_rng(0).normal(size=(120, 6)).astype(np.float32)
Y = np.argmax(X[:, :3] + 0.3 * X[:, 3:], axis=1)


class Stop(Exception):
    """Ends a search after its first round."""


def network(flavor: str) -> Any:
    """Returns a new model of a flavor."""
    keras = importlib.import_module(flavor)
    return keras.Sequential(
        [
            keras.layers.InputLayer((6,)),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.Dropout(0.1),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(3),
        ]
    )


def compiled(model: Any, flavor: str) -> Any:
    """Returns the model, compiled."""
    keras = importlib.import_module(flavor)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def recipe() -> Any:
    """Returns short training."""
    import tf_prac

    return tf_prac.TrainingRecipe(epochs=2, batch_size=20, jit_compile=False)


def run_search(flavor: str, directory: str, callbacks: Any = ()) -> Any:
    """Runs or resumes a search of two rounds."""
    import tf_prac

    search = tf_prac.TicketSearch(
        functools.partial(network, flavor),
        recipe(),
        tf_prac.PruningConfig(rounds=2, prune_rate=0.4),
        directory=directory,
    )
    return search.run((X, Y), test=(X, Y), callbacks=callbacks)


def search(flavor: str) -> None:
    """A search, its ticket and the trained model."""
    result = run_search(flavor, "run")
    assert [round(ticket.sparsity, 1) for ticket in result.tickets] == [0, 0.4, 0.6]
    assert result.model.predict(X, verbose=0).shape == (120, 3)


def prune(flavor: str) -> None:
    """`prune`, `fit`, `save`, `load_model` and `strip`."""
    import tf_prac

    model = compiled(tf_prac.prune(network(flavor), sparsity=0.5), flavor)
    model.fit(X, Y, epochs=1, verbose=0)
    assert 0.45 < tf_prac.prune(model).masks.sparsity < 0.55
    model.save("pruned.keras")
    loaded = tf_prac.load_model("pruned.keras")
    assert loaded.masks == model.masks
    plain = tf_prac.strip(loaded)
    np.testing.assert_allclose(
        plain.predict(X, verbose=0), model.predict(X, verbose=0), rtol=1e-5, atol=1e-5
    )
    dense = tf_prac.snapshot(plain)
    for name, mask in model.masks.items():
        assert not dense[name][~mask].any()


def callbacks(flavor: str) -> None:
    """Keras callbacks in a `fit`."""
    from tf_prac.callbacks import ForgettingLogger, MaskDistance, SampleScores, SparsityLogger

    model = compiled(network(flavor), flavor)
    observers = [
        MaskDistance(0.3),
        SparsityLogger(),
        ForgettingLogger((X, Y)),
        SampleScores((X, Y)),
    ]
    history = model.fit(X, Y, epochs=3, verbose=0, callbacks=observers).history
    for name in ("mask_distance", "sparsity", "forgetting_events", "el2n"):
        assert len(history[name]) == 3 and np.isfinite(history[name][1:]).all(), name


def export(flavor: str) -> None:
    """A sparse SavedModel, npz and TFLite; each is loaded in a process without tf_prac."""
    import tf_prac

    model = tf_prac.prune(network(flavor), sparsity=0.6)
    for name in ("saved_model", "npz", "tflite", "keras_file"):
        getattr(tf_prac.export, name)(model, f"export_{name}")
    loaded = tf_prac.export.load_sparse("export_saved_model")
    np.testing.assert_allclose(
        loaded.predict(X, verbose=0), model.predict(X, verbose=0), rtol=1e-5, atol=1e-5
    )


def resume(flavor: str) -> None:
    """A search that stops after a round and resumes has the masks of one that does not stop."""
    from tf_prac.search import SearchCallback

    class StopAfterRound(SearchCallback):
        """Ends the search."""

        def on_round_end(self, metrics: Any) -> None:
            """Called after each round."""
            raise Stop

    whole = run_search(flavor, "run")
    with contextlib.suppress(Stop):
        run_search(flavor, "resumed", [StopAfterRound()])
    assert not pathlib.Path("resumed/summary.json").exists()
    resumed = run_search(flavor, "resumed")
    for one, other in zip(whole.tickets, resumed.tickets, strict=True):
        assert one.masks == other.masks


def tfmot(flavor: str) -> None:
    """A model that TFMOT wrapped keeps its masks, and TFMOT strips the model of `prune`."""
    import tf_prac

    sparsity = importlib.import_module("tensorflow_model_optimization").sparsity.keras
    wrapped = sparsity.prune_low_magnitude(network(flavor))
    model = compiled(tf_prac.prune(wrapped, sparsity=0.5), flavor)
    model.fit(X, Y, epochs=1, verbose=0)
    plain = sparsity.strip_pruning(model)
    assert plain.predict(X, verbose=0).shape == (120, 3)
    assert model.masks.sparsity > 0.4


def tuner(flavor: str) -> None:
    """One trial of KerasTuner."""
    import keras_tuner

    from tf_prac.tuning import PracTuner, Range

    oracle = keras_tuner.oracles.RandomSearchOracle(
        keras_tuner.Objective("score", "max"), max_trials=1, seed=1
    )
    tuned = PracTuner(
        oracle,
        lambda hp: network(flavor),
        {"prune_rate": Range(0.4, 0.6)},
        recipe=recipe(),
        directory="tuning",
        project_name="trials",
        sparsity=0.5,
    )
    tuned.search((X, Y))
    assert len(tuned.rows()) == 1


CELLS: dict[str, Callable[[str], None]] = {
    "search": search,
    "prune": prune,
    "callbacks": callbacks,
    "export": export,
    "resume": resume,
    "TFMOT": tfmot,
    "tuner": tuner,
}


def result(cell: str, flavor: str) -> str:
    """Runs a cell in the current directory; returns "yes", "-" or the error."""
    if cell == "TFMOT" and flavor == "keras":  # TFMOT does not support Keras 3
        return "-"
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            CELLS[cell](flavor)
    except Exception as error:
        traceback.print_exc()
        text = str(error).strip()
        return f"{type(error).__name__}: {text.splitlines()[0] if text else ''}"
    return "yes"


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    keras_name, chosen = sys.argv[1], sys.argv[2:] or list(CELLS)
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        results = {cell: result(cell, keras_name) for cell in chosen}
        os.chdir("/")
    print(json.dumps(results))
    sys.exit(any(value not in ("yes", "-") for value in results.values()))
