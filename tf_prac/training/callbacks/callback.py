"""`Callback`: what a callback for the `fit` of either flavour begins with."""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any, Self, TypeVar

T = TypeVar("T")


def built(kind: type[T], value: T | Mapping[str, Any] | None) -> T:
    """Returns options from what describes them: themselves, their fields, or nothing."""
    return value if isinstance(value, kind) else kind(**(value or {}))  # type: ignore[arg-type]


class Callback:
    """A callback for the `fit` of either flavour: what their own base classes have in common.

    Neither Keras asks a callback's class, and each refuses the other's base class or lacks
    something of it, so one plain class serves both. Only epoch and training hooks are here:
    what must happen at each step belongs into the step.

    In a training loop of one's own, call `set_model`, `on_train_begin`, after each epoch
    `on_epoch_end`, and `on_train_end`. Each training starts anew, so an instance can be used
    again. A deep copy has the same options and results, but no model; data is shared with it.

    Attributes:
        model: the model being trained, set by `fit`.
        params: the dictionary that `fit` gives, or None.
    """

    model: Any = None
    params: Any = None
    async_safe = True
    _supports_tf_logs = False
    _chief_worker_only = None
    _given_again: tuple[str, ...] = ()  # arguments that JSON cannot hold, and copies share

    def set_model(self, model: Any) -> None:
        """Called by `fit` with the model."""
        self.model = model

    def set_params(self, params: Any) -> None:
        """Called by `fit` with its parameters."""
        self.params = params

    def get_config(self) -> dict[str, Any]:
        """Returns the options as JSON can hold them; data and functions are left out."""
        names = [n for n in inspect.signature(type(self)).parameters if n not in self._given_again]
        return {name: _plain(getattr(self, name)) for name in names}

    @classmethod
    def from_config(cls, config: dict[str, Any], **others: Any) -> Self:
        """Returns a callback with the options of `get_config`.

        Args:
            config: what `get_config` returned.
            **others: the data and functions that it left out.
        """
        return cls(**config, **others)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        again = type(self).__new__(type(self))
        memo[id(self)] = again
        for name, value in vars(self).items():
            if name not in ("model", "params", "_pass", "_norms", "_watched"):
                shared = name in self._given_again
                setattr(again, name, value if shared else copy.deepcopy(value, memo))
        return again

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Called before the first epoch of a `fit`."""

    def on_train_end(self, logs: dict | None = None) -> None:
        """Called after the last epoch of a `fit`."""

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Called before an epoch."""

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Called after an epoch and its validation; may add values to `logs`."""

    def _nothing(self, *args: Any, **kwargs: Any) -> None:
        """A hook that does nothing."""

    on_batch_begin = on_batch_end = on_train_batch_begin = on_train_batch_end = _nothing
    on_test_begin = on_test_end = on_test_batch_begin = on_test_batch_end = _nothing
    on_predict_begin = on_predict_end = _nothing
    on_predict_batch_begin = on_predict_batch_end = _nothing

    def _no_batch_hooks(self) -> bool:
        return False

    def _has_batch_hooks(self) -> bool:
        return True

    _implements_train_batch_hooks = _implements_test_batch_hooks = _no_batch_hooks
    _implements_predict_batch_hooks = _no_batch_hooks


def _plain(value: Any) -> Any:
    if hasattr(value, "to_json"):
        return value.to_json()
    is_options = dataclasses.is_dataclass(value) and not isinstance(value, type)
    return dataclasses.asdict(value) if is_options else value
