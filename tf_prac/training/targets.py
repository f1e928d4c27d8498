"""`Targets`: what a model is asked, and when its answer is right."""

from __future__ import annotations

import dataclasses
import inspect
import types
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tf_prac.config import check_bool, check_choice
from tf_prac.errors import ArgumentError

KINDS = ("auto", "sparse", "one_hot", "binary", "multi_label")


@dataclasses.dataclass(frozen=True)
class Targets:
    """Which output of a model counts, what its targets are, and how to read its predictions.

    By default the loss that the model was compiled with says all but the output.

    Example:

        >>> Targets("multi_label", from_logits=True, output="tags").kind
        'multi_label'

    Args:
        kind: "sparse" (the class as an integer), "one_hot" (the class with the highest number),
            "binary" (one yes or no), "multi_label" (several, all of which must be right), or
            "auto": as the loss says, or if it is none of Keras's, the shapes. A binary loss over
            several outputs is taken for "multi_label". Default "auto".
        from_logits: whether predictions are logits, probabilities otherwise. Default None: as
            the loss says.
        output: name or position of the output that counts, in a model with several.
            Default None: the only one.

    Raises:
        ArgumentError: another kind, or a value of another type.
    """

    kind: str = "auto"
    from_logits: bool | None = None
    output: str | int | None = None

    def __post_init__(self):
        check_choice("kind", self.kind, KINDS)
        if self.from_logits is not None:
            check_bool("from_logits", self.from_logits)
        if isinstance(self.output, bool) or not isinstance(self.output, (str, int, types.NoneType)):
            raise ArgumentError("output", self.output, "the name or position of an output")

    def check_output(self, names: Sequence[str]) -> None:
        """Raises `ArgumentError` unless one of a model's outputs is chosen."""
        known = {*names, *range(len(names))}
        if names and not (self.output in known or (self.output is None and len(names) == 1)):
            raise ArgumentError(
                "output", self.output, f"one of {', '.join(names)}", "Choose: Targets(output=...)."
            )

    def read(self, model: Any, y: Any, y_pred: Any) -> Answers:
        """Returns the chosen targets and predictions of a batch, and how to read them.

        Args:
            model: gives the loss and the names of the outputs; it need not be compiled.
            y: targets, nested as in `fit`.
            y_pred: predictions, nested as the model gives them.

        Raises:
            ArgumentError: several outputs, and none is chosen.
        """
        names = list(getattr(model, "output_names", None) or ())
        if isinstance(y_pred, Mapping):
            names = list(y_pred)
        elif isinstance(y_pred, (list, tuple)):
            names = names or [str(number) for number in range(len(y_pred))]
        self.check_output(names)
        place = self.output if self.output is not None else 0
        name = names[place] if isinstance(place, int) and names else place
        number = names.index(name) if name in names else 0
        y, y_pred, loss = (
            _pick(part, name, number) for part in (y, y_pred, getattr(model, "loss", None))
        )
        y, y_pred = tf.convert_to_tensor(y), tf.convert_to_tensor(y_pred)
        kind = _kind(loss, y, y_pred) if self.kind == "auto" else self.kind
        logits = _gives_logits(loss) if self.from_logits is None else self.from_logits
        return Answers(y, y_pred, kind, logits)


@dataclasses.dataclass(frozen=True)
class Answers:
    """Targets and predictions of a batch, told how to read them.

    A sample asks one question or more: one of several classes, or yes or no for each label. Where
    there is a prediction for each position of an image or text, each is a question of its own.

    Attributes:
        y: int or float [batch, ...].
        y_pred: float [batch, ...].
        kind: one of `KINDS` but "auto".
        from_logits: whether predictions are logits; None: not known.
    """

    y: Any
    y_pred: Any
    kind: str
    from_logits: bool | None

    def correct(self) -> tf.Tensor:
        """Returns which samples are answered rightly, in all of their questions; bool [batch]."""
        if self._yes_or_no:
            said = self._flat(self.y_pred) > (0.0 if self._logits_known() else 0.5)
        else:
            said = tf.argmax(self.y_pred, -1)
        return tf.reduce_all(self._flat(tf.cast(said, tf.int64)) == self.labels(), -1)

    def labels(self) -> tf.Tensor:
        """Returns the right class of each question, int64 [batch, questions]."""
        if self._yes_or_no:
            return tf.cast(self._flat(tf.cast(self.y, tf.float32)) > 0.5, tf.int64)
        y = tf.argmax(self.y, -1) if self.kind == "one_hot" else self.y
        return self._flat(tf.cast(y, tf.int64))

    def logits(self) -> tf.Tensor:
        """Returns logits over the classes of each question, float [batch, questions, classes]."""
        y_pred = self.y_pred
        if self._yes_or_no:
            y_pred = self._flat(y_pred)
            other = tf.zeros_like(y_pred) if self._logits_known() else 1 - y_pred
            y_pred = tf.stack([other, y_pred], -1)
        if not self._logits_known():
            y_pred = tf.math.log(tf.maximum(y_pred, tf.constant(1e-30, y_pred.dtype)))
        classes = y_pred.shape[-1]
        return tf.reshape(y_pred, [tf.shape(y_pred)[0], -1, classes])

    def loss(self) -> tf.Tensor:
        """Returns the cross-entropy of the batch, summed over questions and samples."""
        logits, labels = self.logits(), self.labels()
        target = tf.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
        return -tf.reduce_sum(target * tf.nn.log_softmax(logits))

    @property
    def _yes_or_no(self) -> bool:
        return self.kind in ("binary", "multi_label")

    def _logits_known(self) -> bool:
        if self.from_logits is None:
            raise ArgumentError(
                "from_logits",
                None,
                "True or False, where the loss does not say it",
                "Give it: Targets(from_logits=...).",
            )
        return self.from_logits

    def _flat(self, values: tf.Tensor) -> tf.Tensor:
        return tf.reshape(values, [tf.shape(values)[0], -1])


def _pick(value: Any, name: Any, number: int) -> Any:
    """The part of one output, of targets, predictions or losses."""
    if isinstance(value, Mapping):
        return value.get(name)
    return value[number] if isinstance(value, (list, tuple)) else value


def _kind(loss: Any, y: tf.Tensor, y_pred: tf.Tensor) -> str:
    name = _name(loss)
    one = y_pred.shape.rank == 1 or y_pred.shape[-1] == 1
    if "sparsecategorical" in name:
        return "sparse"
    if "categorical" in name:
        return "one_hot"
    if "binary" in name or name == "bce" or one:
        return "binary" if one else "multi_label"
    same = y.shape.rank == y_pred.shape.rank and y.shape[-1] == y_pred.shape[-1]
    return "one_hot" if same else "sparse"


def _name(loss: Any) -> str:
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
    return name.lower().replace("_", "")


def _gives_logits(loss: Any) -> bool | None:
    """Whether a loss says that it takes logits; None: it does not say."""
    if isinstance(loss, str):
        return False  # the default of all of Keras's
    said = getattr(loss, "from_logits", None)
    if said is None:
        said = (getattr(loss, "_fn_kwargs", None) or {}).get("from_logits")
    if said is None and inspect.isfunction(loss):
        parameter = inspect.signature(loss).parameters.get("from_logits")
        said = None if parameter is None else parameter.default
    return said if isinstance(said, bool) else None
