"""Standard output and error of a command: no terminal, pipe or full disk ends its work.

Text that cannot be written is dropped and the command continues; its exit status tells of it at the
end. Control characters in names of runs and data sets are shown as escapes.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from tf_prac.checks import printable


class Stream:
    """A text stream whose errors are kept, not raised.

    Args:
        stream: the stream to write to; None, as for a closed standard output: nowhere.
        escape: whether control characters are written as escapes.

    Attributes:
        error: the first error of the stream, or None.
    """

    def __init__(self, stream: Any, escape: bool):
        self._stream, self._escape = stream, escape
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        """Writes a text, unless an earlier one could not be written."""
        shown = printable(text) if self._escape else text
        if self._stream is not None and self.error is None:
            try:
                self._stream.write(shown)
            except UnicodeEncodeError:
                self._stream.write(shown.encode("ascii", "backslashreplace").decode())
            except OSError as error:
                self._fail(error)
        return len(text)

    def flush(self) -> None:
        """Flushes the stream, unless a text could not be written."""
        if self._stream is not None and self.error is None:
            try:
                self._stream.flush()
            except OSError as error:
                self._fail(error)

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return self._stream is not None and self._stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _fail(self, error: OSError) -> None:
        """Keeps the error, and drops what Python's buffer still has when the process exits."""
        self.error = error
        with contextlib.suppress(OSError, ValueError, AttributeError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)


@contextlib.contextmanager
def lasting_streams() -> Iterator[Stream]:
    """Replaces standard output and error by `Stream`s for a block; yields that of the output."""
    streams = sys.stdout, sys.stderr
    output, errors = Stream(streams[0], escape=True), Stream(streams[1], escape=False)
    sys.stdout, sys.stderr = output, errors
    try:
        yield output
    finally:
        output.flush()
        errors.flush()
        sys.stdout, sys.stderr = streams


def open_closed_descriptors() -> None:
    """Opens the null device as standard input, output or error if these are closed.

    Otherwise the next file that is opened gets their number, and what is printed is written to it.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number
