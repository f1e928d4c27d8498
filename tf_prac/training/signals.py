"""Signals that wait until the state of a training is written."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class DeferredSignals:
    """Holds back SIGINT and SIGTERM while it is entered, so that a checkpoint comes first.

    Outside the main thread, and for signals that are ignored, it does nothing.

    Example:

        >>> with DeferredSignals() as signals:  # doctest: +SKIP
        ...     while steps_remain:
        ...         train_some()
        ...         if signals.pending:
        ...             save()
        ...             signals.deliver()  # raises KeyboardInterrupt, as ever
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
        """Whether a signal is held back."""
        return bool(self._received)

    def deliver(self) -> None:
        """Gives the signals to the handlers that were there before; returns if those do."""
        while self._received:
            number = self._received.pop(0)
            with self._earlier_handler(number):
                signal.raise_signal(number)

    @contextlib.contextmanager
    def _earlier_handler(self, number: int) -> Iterator[None]:
        held = signal.getsignal(number)
        signal.signal(number, self._handlers[number])
        try:
            yield
        finally:
            signal.signal(number, held)
