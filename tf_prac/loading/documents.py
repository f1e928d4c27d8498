"""The check of a serialized Keras object, before Keras sees it.

Keras builds an object from nested JSON objects with a "class_name". Keras 2 imports any module that
such an object names, and both flavors read files and call functions that some of them name.
`check_document` walks the whole document first, and refuses what is neither Keras's own class, nor
registered by this process, nor passed by the caller.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from tf_prac.errors import UnsafeFileError
from tf_prac.keras_api import Flavor
from tf_prac.loading.classes import DENIED, OP_LAYERS, allowed, is_allowed_op, spelled
from tf_prac.loading.graphs import find_bad_call

MAX_DEPTH = 200
MAX_INTEGER = 2**31 - 1
MAX_COUNT = 2**20
MAX_NUMBER = 2**63

# Values that Keras itself encodes as objects, without a class.
_VALUES = ("__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__")
_SAVED_MODEL_VALUES = ("TensorShape", "TypeSpec", "__tuple__")
_DTYPES = frozenset(
    ["bool", "string", "bfloat16", "float8_e4m3fn", "float8_e5m2", "complex64", "complex128"]
    + [f"float{bits}" for bits in (16, 32, 64)]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (2, 4, 8, 16, 32, 64)]
)
_POLICIES = re.compile(r"_infer|mixed_(b?float16)|[a-z0-9_/-]{1,40}_from_[a-z0-9_]{1,20}|float8")
_TYPE_SPECS = ("TensorSpec", "RaggedTensorSpec", "SparseTensorSpec")
_NAMED = re.compile(r"(.*_)?(activation|initializer|regularizer|constraint)|fn")
_MODULES_OF_FUNCTIONS = re.compile(
    r"builtins|(tf_)?keras\.(src\.)?(activations|losses|metrics)(\.activations|\.losses)?"
)
_COMPILED = ("loss", "metrics", "weighted_metrics", "optimizer")
# Not sizes: their values may have 64 bits.
_IDENTIFIERS = ("seed", "shared_object_id", "salt", "mask_value", "oov_token")
# Values that Keras computes with, or looks up, which are no sizes either.
_NUMBERS = frozenset(
    ("max_value", "threshold", "theta", "negative_slope", "alpha", "scale", "mean", "variance")
    + ("minval", "maxval", "bin_boundaries", "boundaries", "decay_steps", "idf_weights")
    + ("mask_token", "vocabulary")
)
# Sizes of arrays that Keras creates without a variable.
_COUNTS = ("num_thresholds", "fft_length", "frame_length", "sequence_length", "num_mel_bins")


def check_document(
    flavor: Flavor,
    document: Any,
    custom_objects: Mapping[str, Any] | None,
    source: str,
    *,
    by_name: bool = False,
) -> dict[str, Any]:
    """Checks a serialized Keras object, and returns the custom objects to build it with.

    Args:
        flavor: which Keras builds the object.
        document: what `serialize_keras_object` returned, as read from JSON.
        custom_objects: the caller's classes and functions, by name.
        source: the file, for errors.
        by_name: whether classes that are given without a module may be unknown, as in a SavedModel,
            where Keras looks for their name and takes their graph if there is none. Default False.

    Raises:
        UnsafeFileError: If the document names a class or function that is neither Keras's own, nor
            registered with Keras, nor among `custom_objects`; a file or a size above the limits.
    """
    check = _Check(flavor, custom_objects, source, by_name)
    pending: list[tuple[tuple[Any, ...], Any, bool]] = [((), document, True)]
    while pending:
        path, value, own = pending.pop()
        if len(path) > MAX_DEPTH:
            check.refuse(path[:6], f"more than {MAX_DEPTH} levels", "a flatter document")
        if isinstance(value, dict):
            own = check.mapping(path, value, own)
            pending += [((*path, key), item, own) for key, item in reversed(value.items())]
        elif isinstance(value, list):
            items = reversed(list(enumerate(value)))
            pending += [((*path, index), item, own) for index, item in items]
        elif own:
            check.scalar(path, value)
    check.calls()
    return check.custom_objects


class _Check:
    """The rules for one document; each method raises `UnsafeFileError` or returns."""

    def __init__(
        self,
        flavor: Flavor,
        custom_objects: Mapping[str, Any] | None,
        source: str,
        by_name: bool,
    ) -> None:
        self.flavor, self.source, self.by_name = flavor, source, by_name
        self.custom_objects = dict(custom_objects or {})
        self._allowed = allowed(flavor)
        self._saving = flavor.module.saving
        self._graphs: list[tuple[tuple[Any, ...], list[Any]]] = []

    def refuse(
        self, path: tuple[Any, ...], received: str, accepted: str, remedy: str = ""
    ) -> NoReturn:
        place = ".".join(map(str, path)) or "the document"
        message = f"{self.source}: not loaded. {place}: received {received}; allowed: {accepted}."
        raise UnsafeFileError(f"{message} {remedy}".rstrip())

    def mapping(self, path: tuple[Any, ...], value: dict[str, Any], own: bool) -> bool:
        """Checks a JSON object; returns whether its values are those of a class of Keras.

        The values of a caller's class are the business of that class, not those of objects in them.
        """
        if "class_name" in value:
            own = self._object(path, value)
        if isinstance(value.get("layers"), list):
            self._graphs.append(
                (path, [each for each in value["layers"] if isinstance(each, dict)])
            )
        return own

    def calls(self) -> None:
        """Checks the calls of functional models, after their layers."""
        for path, layers in self._graphs:
            if bad := find_bad_call(layers):
                name, reason = bad
                self.refuse((*path, "layers", name), reason, "calls on outputs of other layers")

    def scalar(self, path: tuple[Any, ...], value: Any) -> None:
        key = next((key for key in reversed(path) if isinstance(key, str)), "")
        if isinstance(value, int) and not isinstance(value, bool):
            limit = MAX_COUNT if key in _COUNTS else MAX_INTEGER
            limit = MAX_NUMBER if key in _NUMBERS else limit
            if abs(value) > limit and not key.endswith(_IDENTIFIERS):
                self.refuse(path, f"{value:,}", f"integers up to {limit:,}")
        elif isinstance(value, str):
            self._string(path, key, value)

    def _object(self, path: tuple[Any, ...], node: dict[str, Any]) -> bool:
        """Checks an object with a class; returns whether the class is Keras's own."""
        name, config = node["class_name"], node.get("config")
        module, registered = node.get("module"), node.get("registered_name")
        names = (name, "" if module is None else module, registered or "")
        if not all(isinstance(text, str) for text in names):
            self.refuse(path, f"the class {name!r} of {module!r}", "names of classes as text")
        if name in _VALUES:
            self._value(path, config)
        elif name == "__typespec__":
            self._type_spec(path, node)
        elif name == "function":
            self._function(path, config, module, registered)
        elif reason := _denied(name):
            self.refuse(
                path,
                f"the class {name!r}; {reason}",
                "classes that are built from values alone",
                "Build the model in Python, and load only its weights.",
            )
        elif name in OP_LAYERS and not is_allowed_op(symbol := _get(config, "function")):
            self.refuse(
                path,
                f"the function {symbol!r} of TensorFlow",
                "TensorFlow's mathematical operations",
                "Call it in a layer of your own, and pass the layer as one of custom_objects.",
            )
        elif self._is_known(node.get("registered_name", name), name):
            return False
        elif self.by_name and not module and not self._is_own(name, module, registered):
            return name in _SAVED_MODEL_VALUES
        elif not self._is_own(name, module, registered):
            self._refuse_unknown(path, f"the class {name!r} of {module!r}", name)
        return True

    def _is_own(self, name: str, module: str | None, registered: str | None) -> bool:
        """Whether a class is Keras's own. Without a module, Keras looks in its own tables."""
        if registered not in (None, name):
            return False
        if module is None:
            return spelled(name) in self._allowed.names
        return (module, name) in self._allowed.classes

    def _is_known(self, key: str | None, name: str) -> bool:
        """Whether the caller registered or passed what Keras looks for under `key`.

        Nothing is known under None: there, Keras 2 imports the module. An object that was
        registered when it was saved may be passed under the last part of its name.
        """
        short = name.rpartition(">")[2]
        if not key:
            return False
        if self._saving.get_registered_object(key, self.custom_objects) is not None:
            return True
        if short in self.custom_objects and spelled(key) not in self._allowed.names:
            self.custom_objects[key] = self.custom_objects[short]  # otherwise Keras 2 imports it
            return True
        return False

    def _function(
        self, path: tuple[Any, ...], name: Any, module: str | None, registered: str | None
    ) -> None:
        if isinstance(name, str):
            if self._is_known(name, name):
                return
            last_parts = {key.rpartition(">")[2] for key in self._saving.get_custom_objects()}
            if self.flavor.name == "keras" and module == "builtins" and name in last_parts:
                return  # Keras up to 3.6 saves only the last part of a registered name
            is_own = name in self._allowed.functions and registered in (None, name)
            if is_own and (module is None or _MODULES_OF_FUNCTIONS.fullmatch(module)):
                return
        self._refuse_unknown(path, f"the function {name!r} of {module!r}", name)

    def _value(self, path: tuple[Any, ...], config: Any) -> None:
        dtype = _get(config, "dtype", "float32")
        if not isinstance(dtype, str) or dtype not in _DTYPES:
            self.refuse((*path, "config", "dtype"), repr(dtype), "the name of a numeric type")

    def _type_spec(self, path: tuple[Any, ...], node: dict[str, Any]) -> None:
        spec, module = node.get("spec_name"), str(node.get("module"))
        strings = [text for text in _leaves(node.get("config")) if isinstance(text, str)]
        own = module.startswith("tensorflow.python.framework.") or module.startswith(
            "tensorflow.python.ops.ragged."
        )
        known = module in _modules_of_type_specs() if own else False
        if spec not in _TYPE_SPECS or not known or not set(strings) <= _DTYPES | {None}:
            self.refuse(path, f"the type {spec!r} of {module!r}", ", ".join(_TYPE_SPECS))

    def _string(self, path: tuple[Any, ...], key: str, value: str) -> None:
        if key == "vocabulary":
            if isinstance(path[-1], str):
                self.refuse(path, repr(value), "a list of words", "Loading reads no other file.")
        elif key == "name" and (value.startswith("/") or ".." in value.split("/")):
            self.refuse(path, repr(value), "names that are no path to another directory")
        elif key == "dtype" or key.endswith("_dtype"):
            if value not in _DTYPES and not _POLICIES.fullmatch(value):
                self.refuse(path, repr(value), "the name of a numeric type or policy")
        elif value == "_COMPOSITE_TYPE":
            self.refuse(path, "a constant in an encoding of its own", "numbers as constants")
        elif (
            (_NAMED.fullmatch(key) or _is_compiled(path))
            and spelled(value) not in self._allowed.names
            and not self._is_known(value, value)
        ):
            self._refuse_unknown(path, repr(value), value)

    def _refuse_unknown(self, path: tuple[Any, ...], received: str, name: Any) -> NoReturn:
        self.refuse(
            path,
            received,
            "Keras's own classes and functions, and those registered with Keras or passed",
            f"If you trust the file and have the code of {name!r}, pass "
            f"custom_objects={{{name!r}: ...}}, or decorate it with "
            f"@{self.flavor.name}.saving.register_keras_serializable() before loading.",
        )


def _is_compiled(path: tuple[Any, ...]) -> bool:
    """Whether a path is that of a loss, metric or optimizer that is given by its name."""
    if "compile_config" not in path:
        return False
    inner = path[path.index("compile_config") + 1 :]
    of_object = {"config", "module", "class_name", "registered_name"} & set(inner)
    return bool(inner) and inner[0] in _COMPILED and not of_object


def _denied(name: str) -> str | None:
    spellings = {spelled(denied): reason for denied, reason in DENIED.items()}
    return spellings.get(spelled(name))


def _get(config: Any, key: str, default: Any = None) -> Any:
    return config.get(key, default) if isinstance(config, dict) else default


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, (dict, list)):
        items = value.values() if isinstance(value, dict) else value
        yield from itertools.chain.from_iterable(map(_leaves, items))
    else:
        yield value


def _modules_of_type_specs() -> set[str]:
    import tensorflow as tf

    return {getattr(tf, name).__module__ for name in _TYPE_SPECS}
