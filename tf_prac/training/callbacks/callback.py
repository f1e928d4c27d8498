"""`Callback`: what a callback for the `fit` of either flavour begins with."""

from __future__ import annotations

from typing import Any


class Callback:
    """A callback for the `fit` of either flavour: what their own base classes have in common.

    Neither Keras asks a callback's class, and each refuses the other's base class or lacks
    something of it, so one plain class serves both. Only epoch and training hooks are here:
    what must happen at each step belongs into the step.

    Attributes:
        model: the model being trained, set by `fit`.
        params: the dictionary that `fit` gives, or None.
    """

    model: Any = None
    params: Any = None
    async_safe = True
    _supports_tf_logs = False
    _chief_worker_only = None

    def set_model(self, model: Any) -> None:
        """Called by `fit` with the model."""
        self.model = model

    def set_params(self, params: Any) -> None:
        """Called by `fit` with its parameters."""
        self.params = params

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
