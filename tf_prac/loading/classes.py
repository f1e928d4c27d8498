"""The classes and functions of Keras and TFMOT that a file may name.

The list is taken from the public namespaces of the installed Keras, so it fits its version.
`DENIED` has what is left out, with the reason.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator
from typing import Any

from tf_prac.keras_api import Flavor

_NAMESPACES = (
    "",
    "activations",
    "constraints",
    "dtype_policies",
    "initializers",
    "layers",
    "layers.experimental",
    "layers.experimental.preprocessing",
    "losses",
    "metrics",
    "mixed_precision",
    "models",
    "optimizers",
    "optimizers.experimental",
    "optimizers.legacy",
    "optimizers.schedules",
    "quantizers",
    "random",
    "regularizers",
)
_FUNCTIONS = ("activations", "losses", "metrics")
# Classes without a public name: functional models, Keras 3's operations, layers of Keras's own
# networks, the optimizer of mixed precision.
_INTERNAL = re.compile(
    r"(tf_)?keras\.src\.(applications|engine\.functional|mixed_precision|models\.functional|ops)\b"
)
# Names that only Keras's `get` functions know.
_SHORT_NAMES = {"acc", "ce", "crossentropy", "mse", "mae", "mape", "msle", "bce", "kld", "bfe"}
_SHORT_NAMES |= {"accuracy", "one", "zero", "uniform", "normal", "l1_l2"}

_TFMOT = "tensorflow_model_optimization.python.core.sparsity.keras"
_TFMOT_CLASSES = (
    (f"{_TFMOT}.pruning_wrapper", "PruneLowMagnitude"),
    (f"{_TFMOT}.pruning_schedule", "ConstantSparsity"),
    (f"{_TFMOT}.pruning_schedule", "PolynomialDecay"),
)

_CODE, _PROGRAM = "it contains Python code", "it runs a program of another framework"
DENIED = {
    "Lambda": _CODE,
    "__lambda__": _CODE,
    "TorchModuleWrapper": _PROGRAM,
    "JaxLayer": _PROGRAM,
    "FlaxLayer": _PROGRAM,
    "TFSMLayer": "it loads a SavedModel from another path",
    "DenseFeatures": "its feature columns read files",
    "SequenceFeatures": "its feature columns read files",
    "ModuleWrapper": "it wraps a Python object",
    "ClassMethod": "it calls a method of any class of TensorFlow",
    "InstanceMethod": "it calls any method of a tensor",
    "InstanceProperty": "it reads any attribute of a tensor",
    "TensorFlowOpLayer": "it contains an operation of any kind",
    "DropoutWrapper": _CODE,
    "ResidualWrapper": _CODE,
}

# What tf_keras puts into a TFOpLambda layer when an operation is called on a symbolic tensor. These
# have no effect but their result. Others, such as io.write_file, are called by their name too.
OP_LAYERS = ("TFOpLambda", "SlicingOpLambda")
_OPS = re.compile(r"(math|nn|linalg|__operators__)\.(?!.*(sampler|sampled|nce_loss))[a-z0-9_]+")
_MORE_OPS = re.compile(
    r"argsort|boolean_mask|broadcast_to|cast|clip_by_value|concat|convert_to_tensor|einsum"
    r"|ensure_shape|expand_dims|gather|gather_nd|identity|image\.(crop_to_bounding_box|resize"
    r"|per_image_standardization|rgb_to_grayscale)|norm|one_hot|ones_like|pad|rank|repeat|reshape"
    r"|reverse|roll|shape|size|slice|sort|space_to_batch|split|squeeze|stack|stop_gradient"
    r"|strided_slice|tensordot|tile|transpose|unstack|where|zeros_like"
)


@dataclasses.dataclass(frozen=True)
class Allowed:
    """What a file may name in one flavor of Keras.

    Attributes:
        classes: the pairs (module, class name) as in files.
        functions: the names of activations, losses and metrics that are functions.
        names: the names of classes and functions as `spelled` gives them.
    """

    classes: frozenset[tuple[str, str]]
    functions: frozenset[str]
    names: frozenset[str]


@functools.cache
def allowed(flavor: Flavor) -> Allowed:
    """Returns what a file may name in a flavor: Keras's own classes without `DENIED`."""
    classes: set[tuple[str, str]] = set()
    functions: set[str] = set()
    for namespace in _NAMESPACES:
        for name, value in _members(flavor, namespace):
            if isinstance(value, type):
                if hasattr(value, "from_config") and value.__name__ not in DENIED:
                    classes |= {(".".join(filter(None, ("keras", namespace))), name)}
                    classes |= {(value.__module__, value.__name__)}
            elif namespace in _FUNCTIONS and name not in ("get", "serialize", "deserialize"):
                functions.add(name)
    keras = flavor.module
    classes |= {
        (cls.__module__, cls.__name__)
        for base in (
            getattr(keras, "Operation", keras.layers.Layer),
            keras.optimizers.Optimizer,
            keras.optimizers.legacy.Optimizer,
        )
        for cls in _subclasses(base)
        if _INTERNAL.match(cls.__module__) and cls.__name__ not in DENIED
    }
    if flavor.name == "tf_keras":
        classes |= {("tf_keras.src.layers.core.tf_op_layer", name) for name in OP_LAYERS}
        # Keras 2 calls itself keras in the names of public modules, and older ones in all names.
        classes |= {(_other_name(module), name) for module, name in classes}
        classes |= set(_TFMOT_CLASSES)
    names = {name for _, name in (*classes, *_TFMOT_CLASSES)} | functions | _SHORT_NAMES
    return Allowed(frozenset(classes), frozenset(functions), frozenset(map(spelled, names)))


def spelled(name: str) -> str:
    """Returns a name without capitals and underscores, because Keras takes several spellings."""
    return name.lower().replace("_", "")


def is_allowed_op(symbol: object) -> bool:
    """Returns whether a TFOpLambda layer of tf_keras may call a function of TensorFlow."""
    if not isinstance(symbol, str):
        return False
    return bool(_OPS.fullmatch(symbol) or _MORE_OPS.fullmatch(symbol))


def _members(flavor: Flavor, namespace: str) -> Iterator[tuple[str, Any]]:
    """Yields the names and objects of a public namespace that are Keras's own."""
    module = flavor.module
    for part in filter(None, namespace.split(".")):
        module = getattr(module, part, None)
    for name, value in vars(module).items() if module is not None else ():
        if callable(value) and getattr(value, "__module__", "").startswith(f"{flavor.name}."):
            yield name, value


def _subclasses(cls: type) -> Iterator[type]:
    subclasses: list[type] = cls.__subclasses__()
    for subclass in subclasses:
        yield subclass
        yield from _subclasses(subclass)


def _other_name(module: str) -> str:
    return module.removeprefix("tf_") if module.startswith("tf_") else f"tf_{module}"
