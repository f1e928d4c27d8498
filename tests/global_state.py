"""A process that compares what is global before and after importing and using tf_prac.

    python global_state.py DIRECTORY

Prints what differs as JSON.
"""

from __future__ import annotations

import functools
import importlib
import json
import logging
import os
import pkgutil
import signal
import sys
import warnings
from typing import Any


def state(kerases: Any = ()) -> dict[str, Any]:
    """Returns what a library must leave alone, as JSON values."""
    loggers = (None, "absl", "tensorflow", "h5py", "matplotlib", "tf_prac")
    values = {
        "environment": dict(os.environ),
        "warnings": [str(entry) for entry in warnings.filters],
        "showwarning": [repr(warnings.showwarning), repr(warnings.formatwarning)],
        "logging": {
            str(name): [
                logging.getLogger(name).level,
                logging.getLogger(name).disabled,
                [repr(handler) for handler in logging.getLogger(name).handlers],
                len(logging.getLogger(name).filters),
            ]
            for name in loggers
        },
        "hooks": [repr(sys.excepthook), repr(sys.displayhook), repr(sys.meta_path)],
        "path": list(sys.path),
        "directory": os.getcwd(),
        "signals": {str(number): repr(signal.getsignal(number)) for number in (2, 15)},
    }
    for keras in kerases:
        values[keras.__name__] = {
            "policy": keras.mixed_precision.global_policy().name,
            "floatx": keras.backend.floatx(),
            "image_data_format": keras.backend.image_data_format(),
            "epsilon": keras.backend.epsilon(),
        }
    if "tensorflow" in sys.modules:
        tf = sys.modules["tensorflow"]
        values["tensorflow"] = {
            "tf32": tf.config.experimental.tensor_float_32_execution_enabled(),
            "jit": tf.config.optimizer.get_jit(),
            "options": tf.config.optimizer.get_experimental_options(),
            "eager": tf.executing_eagerly(),
            "functions_eager": tf.config.functions_run_eagerly(),
            "soft_placement": tf.config.get_soft_device_placement(),
            "strategy": tf.distribute.has_strategy(),
            "threads": tf.config.threading.get_inter_op_parallelism_threads(),
        }
    return json.loads(json.dumps(values))


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Returns a line for each value that is not the same."""
    return [
        f"{name}: {before[name]} -> {after[name]}" for name in before if before[name] != after[name]
    ]


def import_everything() -> None:
    """Imports each module of the package."""
    import tf_prac

    for module in pkgutil.walk_packages(tf_prac.__path__, "tf_prac."):
        if not module.name.endswith(("__main__", "fresh_process")):
            importlib.import_module(module.name)


def use(flavor: str) -> None:
    """Searches and prunes."""
    import version_smoke

    import tf_prac

    search = tf_prac.TicketSearch(
        functools.partial(version_smoke.network, flavor),
        version_smoke.recipe(),
        tf_prac.PruningConfig(rounds=1),
        directory=f"run_{flavor}",
        verbose=False,
    )
    search.run((version_smoke.X, version_smoke.Y))
    version_smoke.prune(flavor)


def main() -> None:
    """Compares the state after imports, and after a search and `prune` of both flavors."""
    bare = state()
    importlib.import_module("tf_prac")
    found = [f"import: {line}" for line in differences(bare, state())]
    found += [f"import loads {name}" for name in ("tensorflow", "keras") if name in sys.modules]
    kerases = [importlib.import_module(name) for name in ("keras", "tf_keras")]
    for name in ("tensorflow_model_optimization", "keras_tuner", "tensorflow_datasets"):
        importlib.import_module(name)
    others = state(kerases)
    import_everything()
    found += [f"all modules: {line}" for line in differences(others, state(kerases))]
    for keras in kerases:
        use(keras.__name__)
        found += [f"{keras.__name__}: {line}" for line in differences(others, state(kerases))]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.warn("of someone else", DeprecationWarning, stacklevel=1)
    found += [] if len(caught) == 1 else ["warnings of others are silenced"]
    print(json.dumps(found))


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    main()
