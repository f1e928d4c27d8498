"""`DeferredSignals`: delays signals until a checkpoint is saved."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class DeferredSignals:
    """Delays SIGINT and SIGTERM inside a context, so that a checkpoint can be saved first.

    Does nothing outside the main thread, and for signals that are ignored.

    Example:

        >>> with DeferredSignals() as signals:  # doctest: +SKIP
        ...     while steps_remain:
        ...         train_some()
        ...         if signals.pending:
        ...             save()
        ...             signals.deliver()  # raises KeyboardInterrupt, as usual
    """

    def __init__(self):
        self._handlers: dict[int, Any] = {}
        self._received: list[int] = []

    def __enter__(self) -> DeferredSignals:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                handler = signal.getsignal(number)
                if handler not in (None, signal.SIG_IGN):
                    self._handlers[number] = handler
                    signal.signal(number, self._receive)
        return self

    def __exit__(self, *exception: Any) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if exception[0] is None:
            self.deliver()

    def _receive(self, number: int, frame: Any) -> None:
        self._received.append(number)

    @property
    def pending(self) -> bool:
        """Whether a signal has been received and not delivered."""
        return bool(self._received)

    def deliver(self) -> None:
        """Delivers the received signals to the previous handlers; returns only if they return."""
        while self._received:
            number = self._received.pop(0)
            with self._previous_handler(number):
                signal.raise_signal(number)

    @contextlib.contextmanager
    def _previous_handler(self, number: int) -> Iterator[None]:
        current = signal.getsignal(number)
        signal.signal(number, self._handlers[number])
        try:
            yield
        finally:
            signal.signal(number, current)
