"""The errors that tf_prac raises on purpose; each says what was wrong and what to do."""

from __future__ import annotations


class TfPracError(Exception):
    """Base of every error raised on purpose by this library."""


class ArgumentError(TfPracError, ValueError):
    """An argument has a value that is not allowed.

    Example:

        >>> raise ArgumentError("prune_rate", 1.5, "a number in (0, 1)")
        Traceback (most recent call last):
        ...
        tf_prac.errors.ArgumentError: prune_rate: received 1.5; allowed: a number in (0, 1).

    Args:
        argument: name of the argument; command-line flags have the same names.
        received: the value that was given.
        allowed: what would have been accepted, as a phrase.
        remedy: optional sentence that says what to do.
    """

    def __init__(self, argument: str, received: object, allowed: str, remedy: str = ""):
        self.argument = argument
        self.received = received
        self.allowed = allowed
        self.remedy = remedy
        message = f"{argument}: received {received!r}; allowed: {allowed}."
        super().__init__(f"{message} {remedy}" if remedy else message)


class DataError(TfPracError, ValueError):
    """A data set does not hold what training on it needs (ids, labels, order, size)."""


class FileError(TfPracError, OSError):
    """A file or directory of a run is missing, damaged, foreign or cannot be written."""


class DamagedFileError(FileError):
    """A file is damaged, cut off or missing where one belongs; what it held may be made again."""


class MismatchError(TfPracError, ValueError):
    """Two things that must belong together do not (ticket and model, run and options)."""


class NonFiniteLossError(TfPracError, ArithmeticError):
    """The training loss became NaN or infinite; nothing of the round was kept."""


class WorkerLostError(TfPracError, ConnectionError):
    """Another worker of a training on several machines went away; the same command goes on."""
