"""`tf-prac`: runs a command, and reports errors as one line with exit status 2.

A new command is a module of this package with `define_flags` and `main`, and a line in `COMMANDS`.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import os
import signal
import sys
import warnings
from typing import Any

from absl import flags

from tf_prac.checks import printable
from tf_prac.cli.streams import lasting_streams, open_closed_descriptors
from tf_prac.errors import ArgumentError, TfPracError, WorkerLostError
from tf_prac.storage.atomic import temporary_files
from tf_prac.version import VERSION

OUTPUT_LOST = 74  # EX_IOERR of sysexits.h
BROKEN_PIPE = 141  # as of a process that SIGPIPE ended
RED, YELLOW = "1;31", "1;33"  # escape codes of bold colors
WORKER_LOST = 75  # EX_TEMPFAIL of sysexits.h: the same command may succeed later
COMMANDS = {
    "search": "find a winning ticket on PrAC sets",
    "retrain": "retrain a ticket of a finished run on the full data",
    "evaluate": "measure a retrained ticket on the test set",
    "compare": "compare PrAC with baselines and controls, over several seeds",
    "stability": "measure how stable tickets are to pruning and data order",
    "connectivity": "measure error barriers between networks trained from W_k",
    "report": "write a report of searches as one HTML page",
    "figures": "draw the figures of the PrAC paper's appendix for your runs",
    "reproduce": "reproduce a figure or table of a paper, with a verdict",
    "sweep": "search with several rewind points, and compare with controls",
    "tune": "tune the options of a search with KerasTuner",
    "export": "export a ticket for deployment: SavedModel, TFLite and others",
    "info": "show the rounds, tickets and cost of a run",
    "completion": "print the completion script of a shell",
}


def main(arguments: list[str]) -> int:
    """Runs a command; returns the exit status.

    0: success; 2: bad input; 74: the output could not be written; 75: another worker was lost;
    130: interrupted; 141: the reader of the output closed the pipe; 143: terminated. A command
    whose output cannot be written finishes its work first.
    """
    with lasting_streams() as output:
        status = _run_command(arguments)
    if output.error is None or status:
        return status
    if isinstance(output.error, BrokenPipeError):  # the reader closed the pipe, as `| head` does
        return BROKEN_PIPE
    reason = output.error.strerror or output.error
    _print_error("tf-prac", f"the output could not be written: {reason}. The work is finished.")
    return OUTPUT_LOST


def _run_command(arguments: list[str]) -> int:
    if len(arguments) > 1 and arguments[0] == "help":
        arguments = [arguments[1], "--help"]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if arguments[0] == "--version":
        print(f"tf-prac {VERSION}")
        return 0
    name = arguments[0]
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f" Did you mean {close[0]}?" if close else ""
        _print_error("tf-prac", f"unknown command {name!r}; allowed: {', '.join(COMMANDS)}.{hint}")
        return 2
    parser: Any = None
    try:
        command = command_module(name)
        parser = command.define_flags()
        positional = parser.parse(arguments[1:])
        if parser.values["help"].value:
            print(parser.help())
            return 0
        return command.main(parser, positional)
    except ArgumentError as error:
        prefix = "--" if error.argument in parser.values else ""
        _print_error(f"tf-prac {name}", f"{prefix}{error}")
    except WorkerLostError as error:
        _print_error(f"tf-prac {name}", str(error))
        return WORKER_LOST
    except (TfPracError, flags.Error) as error:
        _print_error(f"tf-prac {name}", str(error))
    except KeyboardInterrupt:
        _print_error(f"tf-prac {name}", "interrupted; run the same command again to resume.")
        return 130
    except _Terminated:
        _print_error(f"tf-prac {name}", "terminated; run the same command again to resume.")
        return 143
    except OSError as error:  # in a library
        _print_error(f"tf-prac {name}", f"{error.filename or 'a file'}: {error.strerror or error}.")
    return 2


def command_module(name: str) -> Any:
    """Returns the module of a command, which has `define_flags` and `main`."""
    return importlib.import_module(f"tf_prac.cli.{name}")


def run() -> None:
    """The entry point of the `tf-prac` script."""
    open_closed_descriptors()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    signal.signal(signal.SIGTERM, _terminate)
    warnings.formatwarning = _one_line
    sys.exit(execute(sys.argv[1:]))


def execute(arguments: list[str]) -> int:
    """Runs a command as the only one of its process; returns the exit status, see `main`."""
    with temporary_files():
        return main(arguments)


class _Terminated(BaseException):
    """SIGTERM was received."""


def _terminate(number: int, frame: object) -> None:
    raise _Terminated


def _one_line(message: Warning | str, *_: object, **__: object) -> str:
    return f"tf-prac: {_colored('warning', YELLOW)}: {' '.join(str(message).split())}\n"


def _colored(text: str, color: str) -> str:
    """Returns a text in a color if standard error is a terminal, unless NO_COLOR is set."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if plain or not sys.stderr.isatty() else f"\x1b[{color}m{text}\x1b[0m"


def _help() -> str:
    width = max(map(len, COMMANDS)) + 2
    lines = [
        "usage: tf-prac COMMAND [arguments] [--flags]",
        "",
        "Finds winning lottery tickets on a fraction of the data.",
        "",
        "Commands:",
        *(f"  {name:<{width}}{summary}" for name, summary in COMMANDS.items()),
        "",
        "`tf-prac help COMMAND` lists the flags of a command.",
        "`tf-prac search` without flags runs on the digits data set that it includes.",
    ]
    return "\n".join(lines)


def _print_error(command: str, message: str) -> None:
    text = printable(" ".join(message.split()))
    line = f"{printable(command)}: {_colored('error', RED)}: {text}"
    with contextlib.suppress(OSError):  # the exit status tells
        print(line, file=sys.stderr)
