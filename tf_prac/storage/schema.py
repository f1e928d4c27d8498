"""A small language for what a document or an archive of arrays may contain.

A schema is a value with one method, `check(value, field)`, which raises `Invalid` and names the
first field that does not fit. `storage/documents.py` has the schemas of the files of tf_prac.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

LARGEST = 2**63


class Invalid(ValueError):
    """A field that does not fit its schema.

    Args:
        field: dotted path of the field, such as "rounds[0].steps"; "" for the whole.
        received: its value.
        allowed: the allowed values, as a phrase.
    """

    def __init__(self, field: str, received: object, allowed: str):
        shown = repr(received)
        shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
        where = f"{field}: " if field else ""
        super().__init__(f"{where}received {shown}; allowed: {allowed}")


class Schema(Protocol):
    """What a value has to be."""

    def check(self, value: Any, field: str) -> None:
        """Raises `Invalid` unless the value fits; `field` is its path."""


@dataclasses.dataclass(frozen=True)
class Anything:
    """Any value of JSON."""

    def check(self, value: Any, field: str) -> None:
        """Accepts every value."""


@dataclasses.dataclass(frozen=True)
class Integer:
    """An integer, not a boolean, in [minimum, maximum]."""

    minimum: int = 0
    maximum: int = LARGEST - 1

    def check(self, value: Any, field: str) -> None:
        """Raises `Invalid` unless the value fits."""
        if type(value) is not int or not self.minimum <= value <= self.maximum:
            limit = f" and <= {self.maximum}" if self.maximum < LARGEST - 1 else ""
            raise Invalid(field, value, f"an integer >= {self.minimum}{limit}")


@dataclasses.dataclass(frozen=True)
class Number:
    """A finite integer or floating-point number, not a boolean, in [minimum, maximum]."""

    minimum: float = -math.inf
    maximum: float = math.inf

    def check(self, value: Any, field: str) -> None:
        """Raises `Invalid` unless the value fits."""
        is_number = type(value) is float or (type(value) is int and abs(value) < LARGEST)
        if not (is_number and math.isfinite(value) and self.minimum <= value <= self.maximum):
            low, high = (f"{end:g}" for end in (self.minimum, self.maximum))
            raise Invalid(field, value, f"a finite number in [{low}, {high}]")


@dataclasses.dataclass(frozen=True)
class Flag:
    """True or false."""

    def check(self, value: Any, field: str) -> None:
        """Raises `Invalid` unless the value fits."""
        if type(value) is not bool:
            raise Invalid(field, value, "true or false")


@dataclasses.dataclass(frozen=True)
class Text:
    """A text that UTF-8 can encode: one of `choices`, or one that matches `pattern`."""

    choices: tuple[str, ...] = ()
    pattern: str = ""

    def check(self, value: Any, field: str) -> None:
        """Raises `Invalid` unless the value fits."""
        if not isinstance(value, str) or (self.choices and value not in self.choices):
            choices = ", ".join(map(repr, self.choices))
            raise Invalid(field, value, f"one of {choices}" if choices else "a text")
        if self.pattern and not re.fullmatch(self.pattern, value):
            raise Invalid(field, value, f"a text of the form {self.pattern}")
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise Invalid(field, value, "a text without lone surrogates")


@dataclasses.dataclass(frozen=True)
class Nullable:
    """Null, or a value that fits another schema."""

    schema: Schema

    def check(self, value: Any, field: str) -> None:
        """Raises `Invalid` unless the value fits."""
        if value is not None:
            self.schema.check(value, field)


@dataclasses.dataclass(frozen=True)
class Either:
    """A value that fits one of two schemas."""

    first: Schema
    second: Schema

    def check(self, value: Any, field: str) -> None:
        """Raises `Invalid` unless the value fits."""
        try:
            self.first.check(value, field)
        except Invalid:
            self.second.check(value, field)


@dataclasses.dataclass(frozen=True)
class ListOf:
    """A list of values that fit a schema."""

    schema: Schema

    def check(self, value: Any, field: str) -> None:
        """Raises `Invalid` unless the value fits."""
        if not isinstance(value, list):
            raise Invalid(field, value, "a list")
        for index, item in enumerate(value):
            self.schema.check(item, f"{field}[{index}]")


@dataclasses.dataclass(frozen=True)
class MapOf:
    """An object whose values fit a schema; names are any text."""

    schema: Schema

    def check(self, value: Any, field: str) -> None:
        """Raises `Invalid` unless the value fits."""
        if not isinstance(value, dict):
            raise Invalid(field, value, "an object")
        for name, item in value.items():
            Text().check(name, f"{field}: a name")
            self.schema.check(item, f"{field}.{name}".lstrip("."))


@dataclasses.dataclass(frozen=True)
class Record:
    """An object with named fields. Further fields are allowed and not checked.

    Args:
        required: the fields that it must have.
        optional: fields that it may have.
        rule: checks several fields together; takes the object and its path, raises `Invalid`.
    """

    required: Mapping[str, Schema]
    optional: Mapping[str, Schema] = dataclasses.field(default_factory=dict)
    rule: Callable[[Mapping[str, Any], str], None] | None = None

    def check(self, value: Any, field: str) -> None:
        """Raises `Invalid` unless the value fits."""
        if not isinstance(value, dict):
            raise Invalid(field, value, "an object")
        prefix = f"{field}." if field else ""
        for name, schema in self.required.items():
            if name not in value:
                raise Invalid(f"{prefix}{name}", None, "a value; the field is missing")
            schema.check(value[name], f"{prefix}{name}")
        for name, schema in self.optional.items():
            if name in value:
                schema.check(value[name], f"{prefix}{name}")
        if self.rule is not None:
            self.rule(value, prefix)


@dataclasses.dataclass(frozen=True)
class Array:
    """An array of certain types and dimensions.

    Args:
        kinds: `dtype.kind` of the allowed types, such as "iu".
        ndim: number of dimensions; None: any.
        minimum, maximum: bounds of the elements of an array of integers. Default: none.
    """

    kinds: str
    ndim: int | None = None
    minimum: int | None = None
    maximum: int | None = None

    def check(self, value: Any, field: str) -> None:
        """Raises `Invalid` unless the value fits."""
        received = f"{value.dtype} {list(value.shape)}"
        if value.dtype.kind not in self.kinds or self.ndim not in (None, value.ndim):
            kinds = " or ".join(_KINDS.get(kind, kind) for kind in self.kinds)
            dimensions = "any number of" if self.ndim is None else self.ndim
            raise Invalid(field, received, f"{kinds}, with {dimensions} dimensions")
        if value.size and self.minimum is not None and value.min() < self.minimum:
            raise Invalid(field, value.min().item(), f"elements >= {self.minimum}")
        if value.size and self.maximum is not None and value.max() > self.maximum:
            raise Invalid(field, value.max().item(), f"elements <= {self.maximum}")


@dataclasses.dataclass(frozen=True)
class Arrays:
    """Named arrays.

    Args:
        required: the arrays that there must be.
        optional: arrays that there may be.
        others: what all other arrays have to be; None: there are no others.
        rule: checks several arrays together; takes them by name, raises `Invalid`.
    """

    required: Mapping[str, Array] = dataclasses.field(default_factory=dict)
    optional: Mapping[str, Array] = dataclasses.field(default_factory=dict)
    others: Array | None = None
    rule: Callable[[Mapping[str, np.ndarray]], None] | None = None

    def check(self, value: Mapping[str, np.ndarray], field: str) -> None:
        """Raises `Invalid` unless the value fits."""
        for name in self.required:
            if name not in value:
                raise Invalid(name, None, "an array; it is missing")
        known = {**self.required, **self.optional}
        for name, array in value.items():
            schema = known.get(name, self.others)
            if schema is None:
                raise Invalid(name, f"{array.dtype} array", f"the arrays {', '.join(known)}")
            Text().check(name, "name of an array")
            schema.check(array, name)
        if self.rule is not None:
            self.rule(value)


_KINDS = {"b": "boolean", "i": "integer", "u": "unsigned", "f": "floating-point", "U": "text"}
