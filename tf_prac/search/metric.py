"""`Metric`: the metric that `val_accuracy` and `test_accuracy` of a run stand for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Metric(NamedTuple):
    """The metric of a run.

    A run's files have the value of its task's metric under "val_accuracy", "test_accuracy" and
    "test_accuracy_last". If the metric is another one than accuracy, the rounds, tickets and the
    summary also have its name and whether higher values are better under "metric".

    Example:

        >>> Metric("mean_absolute_error", False).format(0.5)
        '0.5000'

    Attributes:
        name: "accuracy" or another name, such as "mean_absolute_error".
        higher_is_better: whether higher values are better.
    """

    name: str = "accuracy"
    higher_is_better: bool = True

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Metric:
        """Returns the metric of a summary, or of the metrics of a round or ticket."""
        return cls(**document.get("metric", {}))

    def to_json(self) -> dict[str, Any]:
        """Returns the entry "metric" of a document; nothing for accuracy."""
        return {} if self == Metric() else {"metric": self._asdict()}

    @property
    def is_fraction(self) -> bool:
        """Whether values are fractions, which are shown in percent."""
        return self.name.endswith("accuracy")

    @property
    def title(self) -> str:
        """The name with spaces."""
        return self.name.replace("_", " ")

    def format(self, value: float | None, digits: int = 2) -> str:
        """Returns a value as text; "-" for None."""
        if value is None:
            return "-"
        return f"{value:.{digits}%}" if self.is_fraction else f"{value:.4f}"

    def difference(self, value: float) -> str:
        """Returns a difference of two values as text; that of fractions is in points."""
        return f"{100 * value:.2f} points" if self.is_fraction else f"{value:.4f}"

    def at_least(self, value: float, other: float) -> bool:
        """Returns whether a value is as good as another one."""
        return value >= other if self.higher_is_better else value <= other

    def best(self, values: Mapping[Any, float]) -> Any:
        """Returns the key of the best value, the first of equal ones."""
        return (max if self.higher_is_better else min)(values, key=values.__getitem__)
