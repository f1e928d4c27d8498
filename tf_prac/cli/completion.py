"""`tf-prac completion SHELL`: completion scripts of bash, zsh and fish, made from the flags."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tf_prac.cli.flags import Flags
from tf_prac.cli.reproduce import SCALES
from tf_prac.config import PRAC_VARIANTS
from tf_prac.errors import ArgumentError
from tf_prac.keras_api import FLAVORS
from tf_prac.models import MODELS
from tf_prac.presets import PRESETS
from tf_prac.registry import PAPERS, item_names

VALUES = {
    "keras": FLAVORS,
    "model": tuple(MODELS),
    "preset": tuple(PRESETS),
    "prac": tuple(PRAC_VARIANTS),
    "device": ("auto", "gpu", "cpu"),
    "data_placement": ("auto", "device", "stream"),
    "paper": PAPERS,
    "item": tuple(dict.fromkeys(name for paper in PAPERS for name in item_names(paper))),
    "scale": SCALES,
}
"""Values of flags that are completed; others are completed as paths."""


class Flag(NamedTuple):
    """A flag as a shell sees it: --name, or --name=VALUE."""

    name: str
    meaning: str
    has_value: bool


def define_flags() -> Flags:
    """Defines the flags of the command."""
    return Flags(
        "completion SHELL",
        "Prints the completion script of bash, zsh or fish. A comment in it says where to put it.",
    )


def main(flags: Flags, positional: list[str]) -> int:
    """Prints the script."""
    if len(positional) != 1 or positional[0] not in SHELLS:
        raise ArgumentError("SHELL", " ".join(positional), f"one of {', '.join(SHELLS)}")
    print(SHELLS[positional[0]](), end="")
    return 0


def _commands() -> dict[str, str]:
    from tf_prac.cli.main import COMMANDS  # which imports this module to run it

    return COMMANDS


def _flags(command: str) -> list[Flag]:
    """Returns the flags of a command; a boolean one is two flags, --name and --noname."""
    from tf_prac.cli.main import command_module

    values = command_module(command).define_flags().values
    return [flag for name in values if name != "h" for flag in _forms(name, values[name])]


def _forms(name: str, flag: Any) -> Iterator[Flag]:
    meaning = re.split(r"(?<=[\w)])[.:;,](?:\s|$)", " ".join(flag.help.split()))[0]
    yield Flag(name, meaning, not flag.boolean)
    if flag.boolean and name != "help":
        yield Flag(f"no{name}", f"Switch --{name} off", False)


def _bash() -> str:
    cases = "\n".join(
        f"    {command}) words='{' '.join(_bash_word(flag) for flag in _flags(command))}' ;;"
        for command in _commands()
    )
    values = "\n".join(
        f"      --{name}) words='{' '.join(words)}' ;;" for name, words in VALUES.items()
    )
    return f"""# In ~/.bashrc: eval "$(tf-prac completion bash)"
_tf_prac() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} flag= words=
  COMPREPLY=()
  if [ "$word" = = ]; then
    flag=$before word=
  elif [ "$before" = = ]; then
    flag=${{COMP_WORDS[COMP_CWORD-2]}}
  fi
  if [ -n "$flag" ]; then
    case $flag in
{values}
      *) COMPREPLY=($(compgen -f -- "$word")); return ;;
    esac
  elif [ "$COMP_CWORD" -eq 1 ]; then
    words='{" ".join(_commands())} help --help --version'
  else
    case ${{COMP_WORDS[1]}} in
    help) words='{" ".join(_commands())}' ;;
{cases}
    esac
    case $word in -*) ;; *) [ "${{COMP_WORDS[1]}}" = help ] || words= ;; esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$word"))
  case ${{COMPREPLY[0]}} in *=) compopt -o nospace 2>/dev/null ;; esac
}}
complete -o default -F _tf_prac tf-prac
"""


def _bash_word(flag: Flag) -> str:
    return f"--{flag.name}=" if flag.has_value else f"--{flag.name}"


def _zsh() -> str:
    commands = "\n".join(f"    {_quoted(f'{n}:{about}')}" for n, about in _commands().items())
    cases = "\n".join(
        f"    {command})\n      _arguments \\\n"
        + "".join(f"        {_zsh_argument(flag)} \\\n" for flag in _flags(command))
        + "        '*:run:_files -/'\n      ;;"
        for command in _commands()
    )
    return f"""#compdef tf-prac
# tf-prac completion zsh > DIR/_tf-prac, where DIR is in $fpath
_tf_prac() {{
  local -a commands=(
{commands}
  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  local command=$words[2]
  shift words
  (( CURRENT-- ))
  case $command in
{cases}
  esac
}}
if [ "$funcstack[1]" = _tf-prac ]; then
  _tf_prac "$@"
else
  compdef _tf_prac tf-prac
fi
"""


def _zsh_argument(flag: Flag) -> str:
    meaning = re.sub(r"([\[\]:\\])", r"\\\1", flag.meaning)
    words = f"({' '.join(VALUES[flag.name])})" if flag.name in VALUES else "_files"
    value = f"=[{meaning}]:value:{words}" if flag.has_value else f"[{meaning}]"
    return _quoted(f"--{flag.name}{value}")


def _fish() -> str:
    lines = [
        "# tf-prac completion fish > ~/.config/fish/completions/tf-prac.fish",
        "complete -c tf-prac -n __fish_use_subcommand -f",
    ]
    for command, about in _commands().items():
        lines.append(
            f"complete -c tf-prac -n __fish_use_subcommand -a {command} -d {_quoted(about)}"
        )
    for command in _commands():
        start = f"complete -c tf-prac -n '__fish_seen_subcommand_from {command}'"
        lines += [f"{start} -l {_fish_option(flag)}" for flag in _flags(command)]
    return "\n".join([*lines, ""])


def _fish_option(flag: Flag) -> str:
    words = f"-x -a '{' '.join(VALUES[flag.name])}' " if flag.name in VALUES else "-r "
    return f"{flag.name} {words if flag.has_value else ''}-d {_quoted(flag.meaning)}"


def _quoted(text: str) -> str:
    """Returns a text in single quotes; its own become typographic ones."""
    return "'" + text.replace("'", "\u2019").replace("\\", "\\\\") + "'"


SHELLS: dict[str, Callable[[], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
