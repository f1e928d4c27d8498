"""`tf-prac`: finds the command, runs it, and turns errors into one line and status 2."""

from __future__ import annotations

import importlib
import os
import signal
import sys

from absl import flags

from tf_prac.errors import ArgumentError, TfPracError, WorkerLostError
from tf_prac.version import VERSION

WORKER_LOST = 75  # EX_TEMPFAIL of sysexits.h: the same command again may succeed
COMMANDS = {
    "search": "find a winning ticket on PrAC sets",
    "retrain": "retrain a ticket of a finished run on the full data",
    "evaluate": "measure a retrained ticket on the test set",
    "compare": "compare PrAC with its controls, over several seeds",
    "stability": "measure how stable tickets are to pruning and data order",
    "connectivity": "measure error barriers between networks trained from one W_k",
    "report": "write the story of a search as one HTML page",
    "figures": "draw what the appendix of the PrAC paper shows, of your runs",
    "sweep": "search with several rewind points, and controls of the tickets",
    "tune": "tune the options of a search with KerasTuner",
    "export": "write a ticket for deployment: small SavedModels, TFLite and others",
    "info": "show what a run found and what it cost",
}


def main(arguments: list[str]) -> int:
    """Runs one command; returns the exit status.

    0 when all went well, 2 for bad input, 75 when another worker went away, 130 when interrupted,
    141 when nobody reads the output, 143 when terminated.
    """
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if arguments[0] == "--version":
        print(f"tf-prac {VERSION}")
        return 0
    name = arguments[0]
    if name not in COMMANDS:
        _complain("tf-prac", f"unknown command {name!r}; allowed: {', '.join(COMMANDS)}.")
        return 2
    command = importlib.import_module(f"tf_prac.cli.{name}")
    try:
        parser = command.define_flags()
        positional = parser.parse(arguments[1:])
        if parser.values["help"].value:
            print(parser.help())
            return 0
        return command.main(parser, positional)
    except ArgumentError as error:
        prefix = "--" if error.argument in parser.values else ""
        _complain(f"tf-prac {name}", f"{prefix}{error}")
    except WorkerLostError as error:
        _complain(f"tf-prac {name}", str(error))
        return WORKER_LOST
    except (TfPracError, flags.Error) as error:
        _complain(f"tf-prac {name}", str(error))
    except KeyboardInterrupt:
        _complain(f"tf-prac {name}", "interrupted; the same command goes on where this one was.")
        return 130
    except _Terminated:
        _complain(f"tf-prac {name}", "terminated; the same command goes on where this one was.")
        return 143
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 2


def run() -> None:
    """The entry point of the `tf-prac` script."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(main(sys.argv[1:]))


class _Terminated(BaseException):
    """SIGTERM was received."""


def _terminate(number: int, frame: object) -> None:
    raise _Terminated


def _help() -> str:
    lines = [
        "usage: tf-prac COMMAND [arguments] [--flags]",
        "",
        "Finds winning lottery tickets on a fraction of the data.",
        "",
        "Commands:",
        *(f"  {name:<12}{about}" for name, about in COMMANDS.items()),
        "",
        "tf-prac COMMAND --help tells more; bare `tf-prac search` runs on data that is built in.",
    ]
    return "\n".join(lines)


def _complain(who: str, what: str) -> None:
    print(f"{who}: error: {' '.join(what.split())}", file=sys.stderr)
