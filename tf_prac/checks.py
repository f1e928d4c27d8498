"""Checks of single argument values. Every error names the argument."""

from __future__ import annotations

import dataclasses
import math
import numbers
from typing import Any

from tf_prac.errors import ArgumentError

_UNPRINTABLE = {
    code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
    for first, last in (
        (0x00, 0x1F),
        (0x7F, 0x9F),
        (0x200E, 0x200F),
        (0x2028, 0x202E),
        (0x2066, 0x2069),
        (0xD800, 0xDFFF),
    )
    for code in range(first, last + 1)
    if chr(code) not in "\n\t"
}


def printable(text: str) -> str:
    """Returns a text with escapes in place of characters that control a terminal or page.

    These are control characters other than newline and tab, those that change the direction of
    text, and lone surrogates, which stand for bytes of file names that are not UTF-8.

    Example:

        >>> printable("run\x1b[31m")
        'run\\\\x1b[31m'

    Args:
        text: any text.
    """
    return text.translate(_UNPRINTABLE)


def check_choice(argument: str, value: object, choices: tuple[str, ...]) -> None:
    """Raises `ArgumentError` unless `value` is one of `choices`."""
    if value not in choices:
        raise ArgumentError(argument, value, "one of " + ", ".join(choices))


def check_bool(argument: str, value: object) -> None:
    """Raises `ArgumentError` unless `value` is True or False."""
    if not isinstance(value, bool):
        raise ArgumentError(argument, value, "True or False")


def check_auto_bool(argument: str, value: object) -> None:
    """Raises `ArgumentError` unless `value` is True, False or "auto"."""
    if not isinstance(value, bool) and value != "auto":
        raise ArgumentError(argument, value, "True, False or auto")


def check_int(argument: str, value: object, minimum: int, below: int = 2**63) -> None:
    """Raises `ArgumentError` unless `value` is an integer with `minimum` <= value < `below`."""
    is_int = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_int or value < minimum:  # type: ignore[operator]
        raise ArgumentError(argument, value, f"an integer >= {minimum}")
    if value >= below:  # type: ignore[operator]
        raise ArgumentError(argument, value, f"an integer below {below}")


def python_numbers(options: Any) -> None:
    """Replaces NumPy numbers in the fields of a frozen dataclass by those of Python, for JSON."""
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if isinstance(value, numbers.Number) and hasattr(value, "item"):
            object.__setattr__(options, field.name, value.item())


def check_seed(argument: str, value: object) -> None:
    """Raises `ArgumentError` unless `value` is a valid seed for NumPy, Keras and TensorFlow."""
    check_int(argument, value, 0, below=2**32)


def check_number(
    argument: str,
    value: object,
    *,
    above: float | None = None,
    minimum: float | None = None,
    below: float | None = None,
    maximum: float | None = None,
) -> None:
    """Raises `ArgumentError` unless `value` is a finite number within the bounds."""
    low = f"[{minimum}" if above is None else f"({above}"
    high = f"{maximum}]" if below is None else f"{below})"
    allowed = f"a number in {low}, {high}".replace("[None", "(-inf").replace("None]", "inf)")
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value):  # type: ignore[arg-type]
        raise ArgumentError(argument, value, allowed)
    number = float(value)  # type: ignore[arg-type]
    if (
        (above is not None and number <= above)
        or (minimum is not None and number < minimum)
        or (below is not None and number >= below)
        or (maximum is not None and number > maximum)
    ):
        raise ArgumentError(argument, value, allowed)


def class_path(value: object) -> str:
    """Returns MODULE.CLASS of a value, for messages."""
    return f"{type(value).__module__}.{type(value).__qualname__}"


def first_line(error: BaseException) -> str:
    """Returns the first line of the message of an error, or its class if it has none.

    Example:

        >>> first_line(ValueError("no shape\\nat step 3")), first_line(NotImplementedError())
        ('no shape', 'NotImplementedError')

    Args:
        error: of any class, such as those of Keras and TensorFlow.
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def check_model_fn(value: object) -> None:
    """Raises `ArgumentError` unless `value` is a function; a model, also callable, is refused."""
    if not callable(value) or hasattr(value, "trainable_variables"):
        raise ArgumentError(
            "model_fn", class_path(value), "a function that returns a new, built model"
        )


def function_name(argument: str, function: Any) -> str:
    """Returns MODULE.NAME of a function, for config.json; raises `ArgumentError` for a lambda."""
    name = getattr(function, "__qualname__", "<lambda>")
    if "<lambda>" in name:
        raise ArgumentError(argument, function, "a function defined by def, which has a name")
    return f"{function.__module__}.{name}"
