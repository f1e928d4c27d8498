"""The flags of a command, some built from the fields of a dataclass, and their help text."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import os
import re
import textwrap
import typing
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags

from tf_prac.config import AUTO, AutoBool
from tf_prac.errors import ArgumentError
from tf_prac.tables import WIDTH

COLUMN = 26  # of the help text, where the meaning of a flag starts
MAX_FLAG_FILES, MAX_FLAG_BYTES = 100, 2**20
_DEFAULT = re.compile(r' Default (\(.*?\)|".*?"|[\w.]*\w)([.,:])')


class Flags:
    """The flags of one command, in named groups. They are separate from absl's global flags.

    Args:
        usage: the line after "usage: tf-prac".
        description: what the command does.
    """

    def __init__(self, usage: str, description: str):
        self.usage, self.description = usage, description
        self.values = flags.FlagValues()
        self._groups: dict[str, list[str]] = {}
        self._paths: list[str] = []
        flags.DEFINE_string("flagfile", None, "Read flags from a file, one per line.", self.values)
        self.group("Help")
        self.boolean("help", False, "Show this help.")
        self._groups["Help"].append("flagfile")
        self.boolean("quiet", False, "Print results only, and no progress.")
        flags.DEFINE_alias("h", "help", self.values)

    def group(self, title: str) -> None:
        """Starts a group, to which the flags defined next belong."""
        self._groups[title] = []

    def string(self, name: str, default: str | None, meaning: str) -> None:
        """Defines a flag with a string value."""
        self._add(name, flags.DEFINE_string, default, meaning)

    def path(self, name: str, default: str | None, meaning: str) -> None:
        """Defines a flag with a path, which may start with ~; shells do not expand it after =."""
        self.string(name, default, meaning)
        self._paths.append(name)

    def integer(self, name: str, default: int | None, meaning: str) -> None:
        """Defines a flag with an integer value."""
        self._add(name, flags.DEFINE_integer, default, meaning)

    def boolean(self, name: str, default: bool | None, meaning: str) -> None:
        """Defines a boolean flag, --name or --noname."""
        self._add(name, flags.DEFINE_boolean, default, meaning)

    def options(self, title: str, config: type) -> None:
        """Starts a group with a flag for each field of a dataclass, explained by its docstring."""
        self.group(title)
        meanings = _documented_args(config)
        types = typing.get_type_hints(config)
        for field in dataclasses.fields(config):
            meaning = meanings.get(field.name, "")
            self._add(field.name, _define_for(types[field.name]), None, meaning)

    def _add(self, name: str, define: Any, default: Any, meaning: str) -> None:
        define(name, default, meaning, flag_values=self.values)
        self._groups[list(self._groups)[-1]].append(name)

    def parse(self, arguments: list[str]) -> list[str]:
        """Parses arguments; returns the positional ones.

        Raises:
            absl.flags.Error: If a flag is unknown or a value cannot be parsed.
            ArgumentError: If the file of --flagfile is not a text file, is too large or includes
                itself, or an argument is not text in UTF-8.
        """
        try:
            check_flag_files(arguments)
            positional = self.values(["tf-prac", *arguments])[1:]
        except UnicodeDecodeError as error:
            raise ArgumentError("flagfile", str(error), "a text file in UTF-8") from error
        texts = {name: self.values[name].value for name in self.values}
        for name, text in [*texts.items(), *(("arguments", text) for text in positional)]:
            if isinstance(text, str) and ("\0" in text or _is_not_utf8(text)):
                raise ArgumentError(name, text, "text in UTF-8, without NUL")
        for name in self._paths:
            path = self.values[name].value
            self.values[name].value = path and os.path.expanduser(path)
        return positional

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "values":
            raise AttributeError(name)
        return getattr(self.values, name)

    def given(self, config: type) -> dict[str, Any]:
        """Returns the values of the flags of a dataclass that were given, by field."""
        types = typing.get_type_hints(config)
        values = {f.name: self.values[f.name].value for f in dataclasses.fields(config)}
        return {
            name: _convert(name, value, types[name])
            for name, value in values.items()
            if value is not None
        }

    def help(self) -> str:
        """Returns the help text: usage, description, and the flags by group."""
        lines = [*_wrap(f"usage: tf-prac {self.usage}", " " * 7), "", *_wrap(self.description)]
        groups = [*list(self._groups.items())[1:], ("Help", self._groups["Help"])]
        for title, names in groups:
            if names:
                lines += ["", f"{title}:"]
            for name in names:
                lines += self._help_of(name)
        return "\n".join(lines)

    def _help_of(self, name: str) -> list[str]:
        flag = self.values[name]
        text = flag.help or ""
        if not _is_nothing(flag.default):
            text += f" Default {flag.default}."
        head = f"  --[no]{name}" if flag.boolean and name != "help" else f"  --{name}"
        return _wrap(f"{head + ' ':<{COLUMN}}{text}", " " * COLUMN)


def check_flag_files(arguments: Sequence[str], includes: tuple[str, ...] = ()) -> int:
    """Counts the files that arguments read flags from, directly and through other files.

    Args:
        arguments: arguments, or the lines of a file.
        includes: the files that include each other up to these lines.

    Raises:
        ArgumentError: If a file is not a regular file, is too large or includes itself, or if there
            are too many.
    """
    count = 0
    for number, argument in enumerate(arguments):
        name, _, path = argument.strip().partition("=")
        if name == "--":
            break
        if name not in ("--flagfile", "-flagfile"):
            continue
        if not path and not includes and number + 1 < len(arguments):
            path = arguments[number + 1]
        path = os.path.expanduser(path)
        try:
            same = any(os.path.samefile(path, other) for other in includes)
            size = os.path.getsize(path) if os.path.isfile(path) else None
        except (OSError, ValueError) as error:
            raise ArgumentError("flagfile", path, "an existing text file") from error
        if size is None or size > MAX_FLAG_BYTES:
            allowed = f"an existing text file of at most {MAX_FLAG_BYTES} bytes"
            raise ArgumentError("flagfile", path, allowed)
        if same or len(includes) > MAX_FLAG_FILES:
            raise ArgumentError("flagfile", path, "a file that does not include itself")
        with open(path, encoding="utf-8") as file:
            count += 1 + check_flag_files(file.read().splitlines(), (*includes, path))
        if count > MAX_FLAG_FILES:
            raise ArgumentError("flagfile", path, f"at most {MAX_FLAG_FILES} files in all")
    return count


def _is_not_utf8(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _is_nothing(default: Any) -> bool:
    return default is None or default is False or default in ("", ())


def _wrap(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False)


class _AutoBooleanParser(flags.BooleanParser):
    """Parses "auto" in addition to the values of a boolean flag."""

    def parse(self, argument: Any) -> Any:
        """Returns True, False or "auto"."""
        return AUTO if argument == AUTO else super().parse(argument)


def _define_auto_boolean(name: str, default: Any, meaning: str, flag_values: Any) -> None:
    """Defines a flag with the values --name, --noname and --name=auto."""
    flag = flags.BooleanFlag(name, default, meaning)
    flag.parser = _AutoBooleanParser()
    flags.DEFINE_flag(flag, flag_values)


def _define_for(kind: Any) -> Any:
    if kind is bool:
        return flags.DEFINE_boolean
    if kind == AutoBool:
        return _define_auto_boolean
    if kind is int:
        return flags.DEFINE_integer
    if kind is float:
        return flags.DEFINE_float
    if typing.get_origin(kind) is tuple:
        return flags.DEFINE_list
    return flags.DEFINE_string


def _convert(name: str, value: Any, kind: Any) -> Any:
    """Parses what absl leaves as text: lists of numbers, and numbers that may be "off"."""
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        if item is int or item is float:
            allowed = f"{'whole ' if item is int else ''}numbers separated by commas"
            return tuple(read_number(name, text, allowed, item) for text in value)
        parse = _fraction_or_point if item == float | str else str
        return tuple(parse(text.strip()) for text in value)
    if kind == float | str:
        return _fraction_or_point(value)
    if str in typing.get_args(kind):
        return None if value == "off" else value
    if type(None) in typing.get_args(kind):
        number = int if int in typing.get_args(kind) else float
        allowed = "a whole number, or off" if number is int else "a number, or off"
        return None if value == "off" else read_number(name, value, allowed, number)
    return value


def _fraction_or_point(text: str) -> float | str:
    """Parses a number; a point of training such as "20000it" stays a string."""
    try:
        return float(text)
    except ValueError:
        return text


def read_number(
    name: str, text: str, allowed: str = "a number", number: Callable[[str], float] = float
) -> float:
    """Parses the number of a flag; raises `ArgumentError`, which says what is allowed."""
    try:
        return number(text)
    except ValueError as error:
        raise ArgumentError(name, text, allowed) from error


def _documented_args(config: type) -> dict[str, str]:
    """Returns the "Args:" section of a docstring as help texts, by name."""
    section = re.search(r"^Args:\n(.*?)(?:^\S|\Z)", inspect.getdoc(config) or "", re.M | re.S)
    texts: dict[str, str] = {}
    for match in re.finditer(
        r"^    (\w+): (.*?)(?=^    \w|\Z)", section[1] if section else "", re.M | re.S
    ):
        text = " ".join(match[2].split()).replace("`", "")
        text = text.replace('None ("off" on the command line)', '"off"')
        texts[match[1]] = _DEFAULT.sub(_default_as_flag, text[0].upper() + text[1:])
    return texts


def _default_as_flag(match: re.Match[str]) -> str:
    """Writes a default of a docstring as on the command line; one that means "none" is omitted."""
    value, punctuation = ast.literal_eval(match[1]), match[2]
    if punctuation == ":":  # "Default (): the last."
        return " Default:"
    if value is None and '"off"' in match.string:
        value = "off"
    if _is_nothing(value):
        return ""
    shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
    return f" Default {shown}{punctuation}"
