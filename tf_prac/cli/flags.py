"""Flags made from the fields of the option dataclasses, and help text that reads well."""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
import typing
from collections.abc import Callable
from typing import Any

from absl import flags

from tf_prac.errors import ArgumentError

WIDTH = 96


class Flags:
    """The flags of one command, in named groups; not absl's global ones.

    Args:
        usage: the line after "usage: tf-prac".
        about: what the command does.
    """

    def __init__(self, usage: str, about: str):
        self.usage, self.about = usage, about
        self.values = flags.FlagValues()
        self._groups: dict[str, list[str]] = {}
        flags.DEFINE_string("flagfile", None, "Read flags from a file, one a line.", self.values)
        self.group("Help")
        self.boolean("help", False, "Show this help.")
        self._groups["Help"].append("flagfile")
        flags.DEFINE_alias("h", "help", self.values)

    def group(self, title: str) -> None:
        """Starts a group; flags defined next belong to it."""
        self._groups[title] = []

    def string(self, name: str, default: str | None, about: str) -> None:
        """Defines a flag that takes text."""
        self._add(name, flags.DEFINE_string, default, about)

    def integer(self, name: str, default: int | None, about: str) -> None:
        """Defines a flag that takes an integer."""
        self._add(name, flags.DEFINE_integer, default, about)

    def boolean(self, name: str, default: bool | None, about: str) -> None:
        """Defines a flag that is given as --name or --noname."""
        self._add(name, flags.DEFINE_boolean, default, about)

    def options(self, title: str, config: type) -> None:
        """Defines one flag for each field of a dataclass, described by its docstring."""
        self.group(title)
        about = _described_args(config)
        types = typing.get_type_hints(config)
        for field in dataclasses.fields(config):
            text = about.get(field.name, "")
            self._add(field.name, _define_for(types[field.name]), None, text)

    def _add(self, name: str, define: Any, default: Any, about: str) -> None:
        define(name, default, about, flag_values=self.values)
        self._groups[list(self._groups)[-1]].append(name)

    def parse(self, arguments: list[str]) -> list[str]:
        """Parses arguments and returns those that are not flags.

        Raises:
            absl.flags.Error: an unknown flag or a value that cannot be read.
            ArgumentError: the file of --flagfile is not text.
        """
        try:
            return self.values(["tf-prac", *arguments])[1:]
        except UnicodeDecodeError as error:
            raise ArgumentError("flagfile", str(error), "a text file in UTF-8") from error

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "values":
            raise AttributeError(name)
        return getattr(self.values, name)

    def given(self, config: type) -> dict[str, Any]:
        """Returns the fields of a dataclass whose flags were given."""
        types = typing.get_type_hints(config)
        found = {f.name: self.values[f.name].value for f in dataclasses.fields(config)}
        return {
            name: _convert(name, value, types[name])
            for name, value in found.items()
            if value is not None
        }

    def help(self) -> str:
        """Returns the help text: usage, then flags by group with what they mean."""
        lines = [f"usage: tf-prac {self.usage}", "", *textwrap.wrap(self.about, WIDTH)]
        groups = [*list(self._groups.items())[1:], ("Help", self._groups["Help"])]
        for title, names in groups:
            if names:
                lines += ["", f"{title}:"]
            for name in names:
                flag = self.values[name]
                text = flag.help or ""
                if flag.default is not None and flag.default is not False:
                    text += f" Default {flag.default}."
                shown = f"--[no]{name}" if flag.boolean and name != "help" else f"--{name}"
                lines += textwrap.wrap(
                    f"{shown:<26}{text}", WIDTH, initial_indent="  ", subsequent_indent=" " * 28
                )
        return "\n".join(lines)


def _define_for(kind: Any) -> Any:
    if kind is bool:
        return flags.DEFINE_boolean
    if kind is int:
        return flags.DEFINE_integer
    if kind is float:
        return flags.DEFINE_float
    if typing.get_origin(kind) is tuple:
        return flags.DEFINE_list
    return flags.DEFINE_string


def _convert(name: str, value: Any, kind: Any) -> Any:
    """Reads what absl leaves as text: lists of numbers, and numbers that may be "off"."""
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        if item is int or item is float:
            allowed = f"{'whole ' if item is int else ''}numbers separated by commas"
            return tuple(_number(name, text, allowed, item) for text in value)
        read = _fraction_or_point if item == float | str else str
        return tuple(read(text.strip()) for text in value)
    if kind == float | str:
        return _fraction_or_point(value)
    if str in typing.get_args(kind):
        return None if value == "off" else value
    if type(None) in typing.get_args(kind):
        number = int if int in typing.get_args(kind) else float
        allowed = "a whole number, or off" if number is int else "a number, or off"
        return None if value == "off" else _number(name, value, allowed, number)
    return value


def _fraction_or_point(text: str) -> float | str:
    """Reads a number; a point of training such as "20000it" stays text."""
    try:
        return float(text)
    except ValueError:
        return text


def _number(
    name: str,
    text: str,
    allowed: str = "numbers separated by commas",
    number: Callable[[str], float] = float,
) -> float:
    try:
        return number(text)
    except ValueError as error:
        raise ArgumentError(name, text, allowed) from error


def _described_args(config: type) -> dict[str, str]:
    """Reads the "Args:" section of a docstring: name to text."""
    section = re.search(r"^Args:\n(.*?)(?:^\S|\Z)", inspect.getdoc(config) or "", re.M | re.S)
    found: dict[str, str] = {}
    for match in re.finditer(
        r"^    (\w+): (.*?)(?=^    \w|\Z)", section[1] if section else "", re.M | re.S
    ):
        text = " ".join(match[2].split()).replace("`", "")
        found[match[1]] = text[0].upper() + text[1:]
    return found
