"""Hostile changes to serialized models: each is loaded, or refused with an error of tf_prac.

    python tests/fuzz_architectures.py [COUNT [SEED]]

changes the architectures of a dozen models of each flavor COUNT times, loads each result, and
prints the outcomes. It fails if loading imports a module, resolves a class or function that is not
Keras's own, opens a file, starts a process, allocates what no file contains, or raises an error of
another library.
"""

from __future__ import annotations

import collections
import contextlib
import copy
import importlib
import json
import os
import pathlib
import random
import resource
import sys
import sysconfig
import tempfile
import traceback
import zipfile
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np

import tf_prac
from tf_prac.errors import TfPracError
from tf_prac.keras_api import FLAVORS, Flavor
from tf_prac.loading.classes import DENIED, allowed
from tf_prac.loading.models import model_from_config

MEMORY = 2 * 2**30  # more than loading any of the models needs, less than a hostile size
CANARY = pathlib.Path(tempfile.gettempdir()) / f"canary_{os.getpid()}"

# Seeds


def models(keras: Any) -> Iterator[Any]:
    """Small models of one flavor that use each kind of serialized object."""
    layers = keras.layers
    x = keras.Input((4,))
    y = layers.Dense(3, activation="relu", kernel_regularizer="l2", name="d")(x)
    yield keras.Model(x, layers.Add()([layers.Dense(3)(y), y]))
    yield keras.Model(x, (layers.Dense(2)(x) * 2 + 1)[:, :1])
    yield keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, kernel_constraint="max_norm", kernel_initializer="he_normal"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.SeparableConv2D(2, 3),
            layers.GlobalAveragePooling2D(),
        ]
    )
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Dropout(0.5)])
    yield keras.Model(x, layers.Dense(2, dtype="float16")(inner(x)))
    s = keras.Input((5, 4))
    yield keras.Model(s, layers.Bidirectional(layers.LSTM(2))(s))
    yield keras.Model(
        s, layers.TimeDistributed(layers.Dense(2))(layers.MultiHeadAttention(1, 2)(s, s))
    )
    yield keras.Model(s, layers.RNN([layers.GRUCell(2), layers.LSTMCell(2)])(s))
    words = keras.Input((1,), dtype="string")
    yield keras.Model(words, layers.StringLookup(vocabulary=["a", "b"])(words))
    compiled = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    rate = keras.optimizers.schedules.CosineDecay(0.1, 10)
    compiled.compile(keras.optimizers.Adam(rate), "mse", metrics=["mae", keras.metrics.AUC()])
    yield compiled
    compiled = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    compiled.compile("sgd", keras.losses.Huber(), metrics={"dense": ["accuracy"]})
    yield compiled
    yield tf_prac.prune(
        keras.Sequential([keras.Input((4,)), layers.Dense(9), layers.Dense(2)]), sparsity=0.5
    )


class Seed:
    """A model as it is stored: its serialized form and its `.keras` file."""

    def __init__(self, flavor: Flavor, model: Any, path: pathlib.Path):
        self.flavor, self.path = flavor, path
        model.save(path)
        with zipfile.ZipFile(path) as archive:
            self.members = {name: archive.read(name) for name in archive.namelist()}
        self.document = json.loads(self.members["config.json"])
        self.elements = sum(int(np.prod(weight.shape)) for weight in model.weights)

    def load(self, document: Any, as_file: bool) -> Any:
        """Loads a changed document, as the architecture in an export or as a `.keras` file."""
        if not as_file:
            return model_from_config(
                self.flavor, document, None, source="export", elements=self.elements
            )
        with zipfile.ZipFile(self.path, "w") as archive:
            for name, content in (self.members | {"config.json": json.dumps(document)}).items():
                archive.writestr(name, content)
        return tf_prac.load_model(self.path)


def seeds(directory: pathlib.Path, flavors: tuple[str, ...] = FLAVORS) -> list[Seed]:
    """The models of both flavors, saved in a directory, each loaded once."""
    result = []
    for name in flavors:
        flavor = Flavor(name)
        for number, model in enumerate(models(flavor.module)):
            result.append(Seed(flavor, model, directory / f"{name}_{number}.keras"))
    for seed in result:
        for as_file in (False, True):
            seed.load(copy.deepcopy(seed.document), as_file)
    return result


# Changes

_COMMAND = f"touch {CANARY}"
STRINGS = [
    "os.system", "os", "system", "builtins", "eval", "exec", "posix", "subprocess", "", "a.b.c",
    "keras.src.utils.python_utils", "func_load", "io.write_file", "raw_ops.WriteFile", "Lambda",
    "lambda", "layers.Lambda", "keras.layers.Lambda", "TFSMLayer", "load_library", "__lambda__",
    "function", "__class__", "object", "mixed_object", "Functional", "PruneLowMagnitude", "Custom>",
    "tf_prac>PrunedFunctional", "../../etc", "/etc/passwd", "_CONSTANT_VALUE", "_COMPOSITE_TYPE",
    "this", "tf_keras.src.layers.rnn.cell_wrappers", "ResidualWrapper", "keras.utils", "get_file",
    "keras.config", "enable_unsafe_deserialization", "keras.models", "load_model", "\ud800", "\0",
]  # fmt: skip
NUMBERS = [0, -1, 2**31, 2**36, 6_000_000_000, 2**63, 10**30, 1e30, 6e9, float("inf"), True, None]


def running(keras: str, command: str) -> dict[str, Any]:
    """A layer of a functional model with which Keras 2 runs a shell command."""
    function = {
        "module": f"{keras}.src.utils.data_utils", "class_name": "function",
        "config": "os.system", "registered_name": "os.system",
    }  # fmt: skip
    config = {
        "name": "evil", "trainable": True, "dtype": "float32", "arguments": {},
        "function": function, "function_type": "function", "module": "x",
        "output_shape": None, "output_shape_type": "raw", "output_shape_module": None,
    }  # fmt: skip
    return {
        "module": f"{keras}.layers", "class_name": "Lambda", "registered_name": None,
        "name": "evil", "config": config,
        "inbound_nodes": [[["_CONSTANT_VALUE", -1, command, {}]]],
    }  # fmt: skip


def hostile(keras: str) -> list[Any]:
    """Objects that run code, read files or allocate memory, if a loader builds them."""
    code = "4wAAAAAAAAAAAAAAAAAAAAAAAAAA"
    function = {"module": "os", "class_name": "function", "config": "system"}
    internal = f"{keras}.src.layers.core"
    return [
        *({**function, "module": m, "config": c, "registered_name": r}
          for m, c, r in [
              ("os", "system", "system"), ("builtins", "eval", "eval"), ("builtins", "exec", None),
              (f"{keras}.src.utils.data_utils", "os.system", "os.system"),
              ("keras.utils", "get_file", "get_file"), ("keras.models", "load_model", None),
              ("keras.config", "enable_unsafe_deserialization", None),
              (f"{keras}.src.utils.python_utils", "func_load", "func_load"),
              ("tensorflow", "io.write_file", None),
              ("tensorflow.python.ops.io_ops", "write_file", None),
          ]),
        *({"module": m, "class_name": c, "config": {"args": _COMMAND}, "registered_name": None}
          for m, c in [
              ("os", "system"), ("subprocess", "Popen"), ("os", "path.join"), ("this", "Zen"),
              ("test.test_os", "A"), ("http.server", "HTTPServer"), ("keras", "layers.Lambda"),
              ("tf_keras.src.layers.rnn.cell_wrappers", "ResidualWrapper"), (None, "Lambda"),
              ("keras.src.utils.jax_layer", "JaxLayer"), ("keras.layers", "TorchModuleWrapper"),
              ("tf_keras.src.layers.core.tf_op_layer", "ClassMethod"),
              ("keras.utils", "FeatureSpace"),
              ("keras.callbacks", "BackupAndRestore"), ("keras.utils", "Sequence"),
          ]),
        *({"module": m, "class_name": "Lambda", "registered_name": r,
           "config": {"name": "evil", "function": f, "function_type": t, "module": "os",
                      "arguments": {}, "output_shape": None, "output_shape_type": "raw"}}
          for m, r, f, t in [
              ("keras.layers", None, function, "function"),
              ("tf_keras.layers", None, "system", "function"),
              (f"{internal}.lambda_layer", "Lambda", [code, None, None], "lambda"),
              ("keras.layers", "Dense",
               {"class_name": "__lambda__", "config": {"value": code}}, None),
          ]),
        {"class_name": "__lambda__", "config": {"value": code}},
        *({"module": f"{internal}.tf_op_layer", "class_name": c, "registered_name": c,
           "config": {"name": "op", "trainable": True, "dtype": "float32", "function": f}}
          for c, f in [
              ("TFOpLambda", "io.write_file"), ("TFOpLambda", "raw_ops.WriteFile"),
              ("SlicingOpLambda", "load_library"), ("TFOpLambda", "py_function"),
              ("TFOpLambda", "nn.fixed_unigram_candidate_sampler"), ("TFOpLambda", "zeros"),
          ]),
        {"module": "keras.layers", "class_name": "TFSMLayer", "registered_name": None,
         "config": {"filepath": "/tmp", "call_endpoint": "serve", "name": "t"}},
        *({"module": "keras.layers", "class_name": c, "registered_name": None,
           "config": {"name": "../../../../etc", "vocabulary": v, "standardize": function}}
          for c, v in [("StringLookup", "/etc/passwd"), ("TextVectorization", str(CANARY)),
                       ("IntegerLookup", "/proc/self/environ")]),
        {"class_name": "__typespec__", "spec_name": "system", "module": "os", "config": [],
         "registered_name": None},
        {"class_name": "__numpy__", "config": {"value": [1], "dtype": "object"}},
        {"class_name": "__numpy__", "config": {"value": "a", "dtype": "U2000000000"}},
        {"class_name": "__tensor__", "config": {"value": [1.0], "dtype": "resource"}},
        {"class_name": ["os", "system"], "config": {}},
        {"class_name": {"class_name": "Lambda"}, "module": 3, "config": {}},
    ]  # fmt: skip


class Mutator:
    """Draws changes of a document."""

    def __init__(self, generator: random.Random, keras: str):
        self._random, self._evil = generator, hostile(keras)
        self._changes = [
            self.names, self.replaced, self.value, self.value, self.value, self.key, self.wrapped,
            self.call, self.compiled, self.built, self.added, self.deep,
        ]  # fmt: skip

    def __call__(self, document: Any) -> tuple[str, Any]:
        """Returns the name of the change, and a changed copy."""
        document = copy.deepcopy(document)
        change = self._random.choice(self._changes)
        times = 1 if change == self.deep else self._random.choice((1, 1, 2, 3))
        for _ in range(times):
            change(document)
        return change.__name__, document

    def evil(self) -> Any:
        """A hostile object, number or string."""
        kinds: list[list[Any]] = [self._evil, self._evil, STRINGS, NUMBERS]
        return copy.deepcopy(self._random.choice(self._random.choice(kinds)))

    def names(self, document: Any) -> None:
        """Another class, module or registered name."""
        node = self._node(document)
        for key in self._random.sample(["class_name", "module", "registered_name"], 2):
            node[key] = self._random.choice([*STRINGS, *DENIED, None, 3])

    def replaced(self, document: Any) -> None:
        """A hostile object in place of one that has a class."""
        node, evil = self._node(document), copy.deepcopy(self._random.choice(self._evil))
        kept = {k: node[k] for k in ("name", "inbound_nodes", "build_config") if k in node}
        node.clear()
        node.update(kept | evil)

    def value(self, document: Any) -> None:
        """Something hostile in place of any value."""
        place, key = self._random.choice(list(_places(document)))
        place[key] = self.evil()

    def key(self, document: Any) -> None:
        """A key that is removed, or has the value of another."""
        place, key = self._random.choice(list(_places(document)))
        other, name = self._random.choice(list(_places(document)))
        if self._random.random() < 0.5:
            del place[key]
        else:
            place[key] = copy.deepcopy(other[name])

    def wrapped(self, document: Any) -> None:
        """A wrapper around a hostile layer or a whole one."""
        node = self._node(document)
        inner = copy.deepcopy(self._random.choice([node, *self._evil]))
        config = {"name": "w", "layer": inner, "cell": inner, "merge_mode": "concat"}
        config["pruning_schedule"] = copy.deepcopy(self._random.choice(self._evil))
        node["class_name"] = self._random.choice(
            [
                "TimeDistributed",
                "Bidirectional",
                "PruneLowMagnitude",
                "RNN",
                "Wrapper",
                "Sequential",
            ]
        )
        node["config"] = config | {"layers": [inner]}

    def call(self, document: Any) -> None:
        """A call with hostile arguments, or on constants alone."""
        nodes = [n for n in _nodes(document) if n.get("inbound_nodes")] or [document]
        node = self._random.choice(nodes)
        evil = self.evil()
        node["inbound_nodes"] = self._random.choice(
            [
                [[["_CONSTANT_VALUE", -1, _COMMAND, {}]]],
                [[["_CONSTANT_VALUE", -1, [1.0] * 4, {"x": evil}]]],
                [["_CONSTANT_VALUE", -1, str(CANARY), {"contents": "x"}]],
                [{"args": [evil], "kwargs": {"k": evil}}],
                [{"args": [[[1.0] * 4]], "kwargs": {}}],
                [[["input_1", 0, 0, {"training": evil}]]],
            ]
        )

    def compiled(self, document: Any) -> None:
        """A hostile optimizer, loss or metric."""
        config = document.setdefault("compile_config", {"optimizer": "sgd", "loss": "mse"})
        if isinstance(config, dict):
            key = self._random.choice(["optimizer", "loss", "metrics", "weighted_metrics", "other"])
            evil = self.evil()
            config[key] = self._random.choice([evil, [evil], {"dense": evil}])

    def built(self, document: Any) -> None:
        """Huge shapes and sizes."""
        node = self._node(document)
        huge = self._random.choice([2**24, 2**31 - 1, 2**36, 6e9])
        if self._random.random() < 0.5:
            node["build_config"] = {"input_shape": [None, huge], "shapes_dict": {"x": [huge, huge]}}
            return
        config = node.get("config")
        if isinstance(config, dict):
            for key in (
                "units",
                "filters",
                "key_dim",
                "target_shape",
                "num_thresholds",
                "batch_shape",
            ):
                if key in config or self._random.random() < 0.2:
                    config[key] = huge

    def added(self, document: Any) -> None:
        """A hostile object under a key of its own."""
        node = self._node(document)
        config = node.get("config")
        if isinstance(config, dict):
            key = self._random.choice(
                ["kernel_initializer", "dtype", "activation", "fn", "function", "vocabulary",
                 "quantization_config", "activity_regularizer", "kernel_constraint", "name"]
            )  # fmt: skip
            config[key] = self.evil()

    def deep(self, document: Any) -> None:
        """Many levels of nesting."""
        node: Any = self.evil()
        for _ in range(self._random.choice([3, 30, 110])):
            node = {"class_name": "Sequential", "module": "keras", "config": {"layers": [node]}}
        self._node(document)["config"] = {"layers": [node], "name": "deep"}

    def _node(self, document: Any) -> Any:
        return self._random.choice(list(_nodes(document)) or [document])


def _nodes(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        if "class_name" in value:
            yield value
        for item in list(value.values()):
            yield from _nodes(item)
    elif isinstance(value, list):
        for item in value:
            yield from _nodes(item)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    for key, item in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(item, dict | list):
            yield from _places(item)


# What loading must not do

_EFFECTS = (
    "os.", "subprocess.", "socket.", "shutil.", "marshal.", "pickle.", "ctypes.", "code.__new__",
    "compile", "exec", "import", "open", "urllib.", "ftplib.", "webbrowser.", "tempfile.",
)  # fmt: skip
_LIBRARIES = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib"))


class Watch:
    """Records what the process does inside `during`, by an audit hook and at Keras's lookups."""

    def __init__(self) -> None:
        self.effects: list[str] = []
        self._active = False
        self._own: pathlib.Path | None = None
        sys.addaudithook(self._audit)

    @contextlib.contextmanager
    def during(self, seed: Seed) -> Iterator[list[str]]:
        """Yields the effects of the block, which may read the file of `seed`."""
        self.effects, self._own = [], seed.path
        with self._lookups(seed.flavor):
            self._active = True
            try:
                yield self.effects
            finally:
                self._active = False

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._active or not event.startswith(_EFFECTS):
            return
        if event == "open" and self._is_harmless(arguments[0], arguments[1]):
            return
        if event in ("os.listdir", "os.scandir", "os.putenv", "os.unsetenv"):
            return
        self.effects.append(f"{event} {str(arguments)[:200]}")

    def _is_harmless(self, path: Any, mode: Any) -> bool:
        """Keras reads the file and free memory, TensorFlow the sources of what it traces."""
        text = os.fspath(path) if isinstance(path, str | os.PathLike) else str(path)
        reading = mode is None or not set(str(mode)) & set("wax+")
        return text in (str(self._own), "/proc/meminfo") or (
            reading and text.startswith(_LIBRARIES) and text.endswith((".py", ".pyc"))
        )

    @contextlib.contextmanager
    def _lookups(self, flavor: Flavor) -> Iterator[None]:
        library = importlib.import_module(f"{flavor.name}.src.saving.serialization_lib")
        listed = allowed(flavor)
        modules = {module for module, _ in listed.classes}

        def import_module(name: str, *arguments: Any) -> Any:
            if name not in modules:
                self.effects.append(f"imports {name}")
            return original_import(name, *arguments)

        def retrieve(*arguments: Any, **options: Any) -> Any:
            result = original_retrieve(*arguments, **options)
            place, name = getattr(result, "__module__", ""), getattr(result, "__name__", "")
            own = place.split(".")[0] == flavor.name and (
                (place, name) in listed.classes or name in listed.functions
            )
            if name in DENIED or not (
                own or place.startswith(("tf_prac.", "tensorflow_model_opt"))
            ):
                self.effects.append(f"resolves {place}.{name}")
            return result

        original_import, original_retrieve = importlib.import_module, library._retrieve_class_or_fn
        with (
            mock.patch.object(library.importlib, "import_module", import_module),
            mock.patch.object(library, "_retrieve_class_or_fn", retrieve),
        ):
            yield


def peak() -> int:
    """The most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def fuzz(
    count: int,
    seed: int,
    directory: pathlib.Path,
    report: Callable[[str], None] = lambda line: None,
) -> tuple[collections.Counter, list[str]]:
    """Loads `count` changed documents; returns the outcomes, and what must not have happened."""
    generator = random.Random(seed)
    stored, watch = seeds(directory), Watch()
    mutators = {name: Mutator(generator, name) for name in FLAVORS}
    outcomes: collections.Counter = collections.Counter()
    failures: list[str] = []
    before = peak()
    for number in range(count):
        chosen = stored[number % len(stored)]
        change, document = mutators[chosen.flavor.name](chosen.document)
        as_file = generator.random() < 0.25
        example = f"{number} {chosen.path.name} {change}: "
        outcome = "loaded"
        try:
            with watch.during(chosen) as effects:
                chosen.load(document, as_file)
        except TfPracError as error:
            outcome = type(error).__name__
        except BaseException:
            outcome = "another error"
            failures.append(example + traceback.format_exc()[-1500:])
        failures += [example + effect for effect in effects]
        if CANARY.exists():
            failures.append(example + "the command ran")
            CANARY.unlink()
        if peak() > before + MEMORY:
            failures.append(f"{example}{peak() - before:,} bytes allocated")
            before = peak()
        outcomes[outcome] += 1
        if number % 500 == 499:
            report(f"{number + 1} changes: {dict(outcomes)}, {len(failures)} failures")
    return outcomes, failures


def main(count: str = "2000", seed: str = "0") -> int:
    """Prints the outcomes; the status is 1 if there was a failure."""
    with tempfile.TemporaryDirectory() as directory:
        outcomes, failures = fuzz(int(count), int(seed), pathlib.Path(directory), print)
    print("\n".join(failures[:20]))
    print(f"{count} changes of serialized models: {dict(outcomes)}")
    print(f"imports, lookups, files, processes, memory, other errors: {len(failures)}")
    return min(1, len(failures))


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(main(*sys.argv[1:]))
