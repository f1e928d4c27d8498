"""`SearchCallback`: observes a search; `ProgressBar` shows it on the terminal."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from tf_prac.checks import class_path
from tf_prac.config import RewindPoint, TrainingRecipe
from tf_prac.errors import ArgumentError
from tf_prac.search.cost import round_steps
from tf_prac.search.progress import round_line, ticket_line
from tf_prac.tables import WIDTH
from tf_prac.training.schedules import Budget


class SearchCallback:
    """Base class of callbacks of a search; the hooks of the base class do nothing.

    A search calls `on_search_begin`, `on_round_end` for each round, `on_ticket_end` for each
    retrained ticket and control, and `on_search_end`, each once and in this order. The hooks of a
    training are called before the `on_round_end` or `on_ticket_end` of its round or ticket. A
    search that resumes calls `on_round_end` and `on_ticket_end` for finished rounds and tickets
    too, without hooks of a training.

    With several workers, the callbacks of the chief are called. An exception in a hook ends the
    search, which can be resumed.

    Example:

        >>> class Sizes(SearchCallback):
        ...     def on_round_end(self, metrics):
        ...         print(metrics["round"], metrics["prac_size"])
        >>> search.run((x_train, y_train), callbacks=[Sizes()])  # doctest: +SKIP
    """

    def on_search_begin(self, config: Mapping[str, Any]) -> None:
        """Called when the directory of the run is open.

        Args:
            config: the run configuration, the content of config.json.
        """

    def on_message(self, text: str) -> None:
        """Called with a message for the user, such as which damaged file is replaced."""

    def on_training_begin(self, title: str, steps: int) -> None:
        """Called before a training.

        Args:
            title: what is trained, such as "round 2".
            steps: its budget; it takes fewer with an early stop.
        """

    def on_training_steps(self, count: int) -> None:
        """Called during a training, after every few steps.

        Args:
            count: number of steps since the last call; in the first call of a resumed training,
                the steps of its checkpoint.
        """

    def on_training_end(self) -> None:
        """Called after a training, also if an exception ends it."""

    def on_round_end(self, metrics: Mapping[str, Any]) -> None:
        """Called when the files of a round are written.

        Args:
            metrics: of the round, as in summary.json.
        """

    def on_ticket_end(self, metrics: Mapping[str, Any]) -> None:
        """Called when a ticket or control is retrained.

        Args:
            metrics: of the ticket, as in summary.json.
        """

    def on_search_end(self, summary: Mapping[str, Any]) -> None:
        """Called when the summary is written.

        Args:
            summary: the content of summary.json.
        """


class SearchCallbackList(SearchCallback):
    """Calls the hooks of several callbacks, in order.

    Args:
        callbacks: the callbacks to call.

    Raises:
        ArgumentError: If one is not a `SearchCallback`.
    """

    def __init__(self, callbacks: Iterable[SearchCallback] = ()):
        self._callbacks = tuple(callbacks)
        for callback in self._callbacks:
            if not isinstance(callback, SearchCallback):
                allowed = "a tf_prac.callbacks.SearchCallback"
                raise ArgumentError("callbacks", class_path(callback), allowed)

    def __iter__(self) -> Iterator[SearchCallback]:
        return iter(self._callbacks)

    def _call(self, hook: str, *arguments: Any) -> None:
        for callback in self._callbacks:
            getattr(callback, hook)(*arguments)

    def on_search_begin(self, config: Mapping[str, Any]) -> None:
        """Calls `on_search_begin` of each callback."""
        self._call("on_search_begin", config)

    def on_message(self, text: str) -> None:
        """Calls `on_message` of each callback."""
        self._call("on_message", text)

    def on_training_begin(self, title: str, steps: int) -> None:
        """Calls `on_training_begin` of each callback."""
        self._call("on_training_begin", title, steps)

    def on_training_steps(self, count: int) -> None:
        """Calls `on_training_steps` of each callback."""
        self._call("on_training_steps", count)

    def on_training_end(self) -> None:
        """Calls `on_training_end` of each callback."""
        self._call("on_training_end")

    def on_round_end(self, metrics: Mapping[str, Any]) -> None:
        """Calls `on_round_end` of each callback."""
        self._call("on_round_end", metrics)

    def on_ticket_end(self, metrics: Mapping[str, Any]) -> None:
        """Calls `on_ticket_end` of each callback."""
        self._call("on_ticket_end", metrics)

    def on_search_end(self, summary: Mapping[str, Any]) -> None:
        """Calls `on_search_end` of each callback."""
        self._call("on_search_end", summary)

    @contextlib.contextmanager
    def training(self, title: str, steps: int) -> Iterator[Callable[[int], None]]:
        """Calls the hooks of a training around a block; yields `on_training_steps`."""
        self.on_training_begin(title, steps)
        try:
            yield self.on_training_steps
        finally:
            self.on_training_end()


def _columns() -> int:
    """Returns the width of a bar: that of the terminal, up to 80 columns."""
    try:
        return min(WIDTH, os.get_terminal_size(2).columns or WIDTH)
    except OSError:
        return WIDTH


class ProgressBar(SearchCallback):
    """Prints messages, rounds and tickets, and shows a bar of each training on a terminal.

    The bar has the round, the time that its training still takes, and the fraction of steps that
    the finished rounds saved, compared with the same rounds on the full data.
    """

    def __init__(self) -> None:
        self._train_samples = self._rounds = 0
        self._full_steps = (0, 0)  # of round 0, and of each later round
        self._steps: list[int] = []
        self._bar: Any = None

    def on_search_begin(self, config: Mapping[str, Any]) -> None:
        """Stores the number of rounds, and the size of the training set and of its budget."""
        self._train_samples, self._steps = config["train_samples"], []
        self._rounds = config["pruning"]["rounds"]
        recipe = TrainingRecipe(**{"tf32": False, **config["recipe"]})
        full = Budget.full(recipe, self._train_samples)
        k = RewindPoint.parse(config["pruning"]["rewind"])
        steps = k.steps(full.steps_per_epoch, full.total_steps)
        first_step = steps if config["pruning"]["lr_rewind"] else 0
        self._full_steps = full.total_steps, full.total_steps - first_step

    def on_message(self, text: str) -> None:
        """Prints the text, above the bar."""
        if self._bar is not None:
            self._bar.clear()
        print(text, flush=True)

    def on_training_begin(self, title: str, steps: int) -> None:
        """Shows a bar, if standard error is a terminal."""
        from tqdm import tqdm

        self._bar = tqdm(
            total=steps,
            desc=self._title(title),
            ncols=_columns(),
            bar_format="{desc} |{bar}| {n_fmt}/{total_fmt} steps, {remaining} left",
            leave=False,
            disable=None,
        )

    def _title(self, title: str) -> str:
        """Returns the title of a training, with the number of rounds and the steps saved so far."""
        if title.startswith("round "):
            title = f"{title} of {self._rounds}"
        first, later = self._full_steps
        full = first + later * (len(self._steps) - 1)
        return f"{title}, {1 - sum(self._steps) / full:.0%} saved" if self._steps else title

    def on_training_steps(self, count: int) -> None:
        """Advances the bar."""
        self._bar.update(count)

    def on_training_end(self) -> None:
        """Removes the bar."""
        self._bar.close()

    def on_round_end(self, metrics: Mapping[str, Any]) -> None:
        """Prints a line of the round."""
        self._steps.append(round_steps(metrics))
        print(round_line(metrics, self._train_samples), flush=True)

    def on_ticket_end(self, metrics: Mapping[str, Any]) -> None:
        """Prints a line of the ticket."""
        print(ticket_line(metrics), flush=True)
