"""`Callback`: the base class of callbacks for the `fit` of either flavor."""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")


def as_options(cls: type[T], value: T | Mapping[str, Any] | None) -> T:
    """Returns an instance of the dataclass `cls` from an instance, its fields, or None."""
    return value if isinstance(value, cls) else cls(**(value or {}))  # type: ignore[arg-type]


class Callback:
    """A callback for the `fit` of either flavor.

    Neither Keras checks the class of a callback, but a callback derived from one Keras's base class
    does not work with the other Keras. This plain class has the methods that both call; its hooks
    do nothing. Keras 2 skips the batch hooks of a subclass unless it replaces
    `_implements_train_batch_hooks`; what must happen in each step belongs in the training step.

    In a custom training loop, call `set_model`, `on_train_begin`, `on_epoch_end` after each epoch,
    and `on_train_end`. The state is reset at the start of each training, so an instance can be
    reused. A deep copy has the same options and results, but no model; it shares the data.

    Attributes:
        model: the model being trained, set by `fit`.
        params: the parameters of `fit`, or None.
    """

    model: Any = None
    params: Any = None
    async_safe = True
    _supports_tf_logs = False
    _chief_worker_only = None
    _not_serialized: tuple[str, ...] = ()  # arguments left out of get_config, shared by copies

    def set_model(self, model: Any) -> None:
        """Called by `fit` with the model."""
        self.model = model

    def set_params(self, params: Any) -> None:
        """Called by `fit` with its parameters."""
        self.params = params

    def get_config(self) -> dict[str, Any]:
        """Returns the options as JSON values; data and functions are left out."""
        names = [
            n for n in inspect.signature(type(self)).parameters if n not in self._not_serialized
        ]
        return {name: _to_json(getattr(self, name)) for name in names}

    @classmethod
    def from_config(cls, config: dict[str, Any], **others: Any) -> Self:
        """Creates a callback from the options that `get_config` returned.

        Args:
            config: the options.
            **others: the data and functions that `get_config` left out.
        """
        return cls(**config, **others)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        for name, value in vars(self).items():
            if name not in ("model", "params", "_pass", "_norms", "_prunable"):
                shared = name in self._not_serialized
                setattr(copied, name, value if shared else copy.deepcopy(value, memo))
        return copied

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


def _to_json(value: Any) -> Any:
    if hasattr(value, "to_json"):
        return value.to_json()
    is_options = dataclasses.is_dataclass(value) and not isinstance(value, type)
    return dataclasses.asdict(value) if is_options else value
