"""Training resumes after any interruption with identical results, in both flavors."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import importlib
import os
import signal
import threading

import numpy as np
import pytest

from tf_prac import TrainingRecipe, global_magnitude, prunable_weights, snapshot
from tf_prac.config import CheckpointConfig
from tf_prac.data.order import id_batches
from tf_prac.data.source import ArraySamples
from tf_prac.data.splits import Split
from tf_prac.errors import FileError, NonFiniteLossError
from tf_prac.keras_api import FLAVORS, random_states
from tf_prac.storage.manifest import write_manifest
from tf_prac.training.callbacks.mask_distance import MaskDistance
from tf_prac.training.checkpoint import Checkpoints
from tf_prac.training.schedules import Budget
from tf_prac.training.signals import DeferredSignals
from tf_prac.training.trainer import Trainer

both = pytest.mark.parametrize("flavor", FLAVORS)

ALWAYS = CheckpointConfig(checkpoint_seconds=0)
NONE = "none was due yet"
NEVER = CheckpointConfig(checkpoint_seconds=1e9)
RECIPE = TrainingRecipe(epochs=4, batch_size=8, optimizer="adam", learning_rate=0.01, warmup=0.1)
IDS = np.arange(40)
BUDGET = Budget(5, 20)


class Killed(BaseException):
    """Simulates the end of a process."""


def make_trainer(flavor, recipe=RECIPE, huge=()):
    """Everything with a state of its own: BatchNorm, Dropout, noise, Adam, metrics.

    The samples `huge` are so large that the loss overflows.
    """
    keras = importlib.import_module(flavor)
    generator = np.random.default_rng(0)
    y = generator.integers(0, 3, 60)
    x = (generator.normal(size=(60, 6)) + 2 * np.eye(3, 6)[y]).astype(np.float32)
    x[list(huge)] = 3e38
    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.GaussianNoise(0.2),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(3),
        ]
    )
    samples = ArraySamples(x, y)
    return Trainer(network, recipe, samples, Split(samples, np.arange(40, 60)))


def train(trainer, start, *, order=(1, 0), **options):
    """One training with all that a round has."""
    weights, masks = start
    distance = MaskDistance(0.3, eps=options.pop("eps", None), window=1)
    return trainer.train(
        weights, masks, IDS, BUDGET, order, snapshot_at=(7,), mask_distance=distance, **options
    )


def start_of(trainer):
    masks = global_magnitude(prunable_weights(trainer.network), rate=0.2)
    return snapshot(trainer.network), masks


def killed_after(steps):
    """An `advance` that ends the process after as many steps of it."""
    taken = 0

    def advance(count):
        nonlocal taken
        taken += count
        if taken >= steps:
            raise Killed

    return advance


def assert_same(actual, expected):
    """Asserts that results are equal bit for bit, except for times."""
    for mine, other in (
        (actual.weights, expected.weights),
        (actual.best_weights, expected.best_weights),
        (actual.snapshots[7], expected.snapshots[7]),
    ):
        assert list(mine) == list(other)
        assert all(mine[name].tobytes() == other[name].tobytes() for name in mine)
    assert actual.forgetting.table.tobytes() == expected.forgetting.table.tobytes()
    rows = [[{**r, "seconds": 0} for r in each.history] for each in (actual, expected)]
    assert rows[0] == rows[1]
    for name in ("steps", "samples_seen", "validation_samples", "stop"):
        assert getattr(actual, name) == getattr(expected, name)
    assert (actual.best.value, actual.best.epoch) == (expected.best.value, expected.best.epoch)
    assert actual.mask_distances == expected.mask_distances


@pytest.fixture(scope="module")
def undisturbed():
    """For each flavor: a trainer, its start, and the result of an uninterrupted training."""
    results = {}
    for flavor in FLAVORS:
        trainer = make_trainer(flavor)
        start = start_of(trainer)
        results[flavor] = trainer, start, train(trainer, start)
    return results


@both
def test_a_training_killed_anywhere_resumes_bit_for_bit(flavor, undisturbed, tmp_path, monkeypatch):
    """Killed inside epochs (of 5 steps) and between them; a new trainer resumes in the end."""
    trainer, start, expected = undisturbed[flavor]
    monkeypatch.setattr(trainer._loop, "_steps_per_call", 1)
    monkeypatch.setattr("tf_prac.training.loop.CALL_SECONDS", 0)
    for steps in (2, 5, 6, 11, 12):
        checkpoints = Checkpoints(tmp_path, ALWAYS)
        with pytest.raises(Killed):
            train(trainer, start, advance=killed_after(steps), checkpoints=checkpoints)
    lines = []
    checkpoints = Checkpoints(tmp_path, ALWAYS, lines.append)
    assert_same(train(make_trainer(flavor), start, checkpoints=checkpoints), expected)
    assert len(lines) == 1 and lines[0].startswith("resuming at step 11, from ")
    assert_same(train(trainer, start), expected)
    assert_same(train(trainer, start, checkpoints=checkpoints), expected)  # from its end


@both
def test_random_layers_are_reset_with_each_order(flavor, undisturbed):
    trainer, start, expected = undisturbed[flavor]
    other = train(trainer, start, order=(1, 1))
    assert any((other.weights[name] != w).any() for name, w in expected.weights.items())
    states = [np.array(v.numpy()) for v in random_states(trainer.network)]
    assert len(states) == 3 and len({s.tobytes() for s in states}) == 3
    assert_same(train(trainer, start), expected)


@both
def test_an_early_stop_is_the_same_after_a_kill(flavor, undisturbed, tmp_path):
    trainer, start, _ = undisturbed[flavor]
    uninterrupted = train(trainer, start, eps=0.04)
    assert uninterrupted.stop == "early_stop" and uninterrupted.steps == 15, (
        uninterrupted.mask_distances
    )
    for steps in (12, 14, 100):
        checkpoints = Checkpoints(
            tmp_path, CheckpointConfig(checkpoint_seconds=1e9, checkpoint_steps=1)
        )
        with contextlib.suppress(Killed):
            stopped = train(
                trainer, start, eps=0.04, advance=killed_after(steps), checkpoints=checkpoints
            )
    assert_same(stopped, uninterrupted)
    assert_same(train(trainer, start, eps=0.04, checkpoints=checkpoints), uninterrupted)


def test_the_frequency_does_not_change_results_and_two_checkpoints_are_kept(undisturbed, tmp_path):
    trainer, start, expected = undisturbed["keras"]
    for every, left in ((0, []), (3, [15, 18]), (5, [15, 20]), (19, [19])):
        options = CheckpointConfig(checkpoint_seconds=1e9, checkpoint_steps=every)
        checkpoints = Checkpoints(tmp_path / str(every), options)
        assert_same(train(trainer, start, checkpoints=checkpoints), expected)
        assert [int(p.name[-9:]) for p in reversed(checkpoints._newest_first())] == left
        assert checkpoints.last == (
            f"{checkpoints.path}/step_{left[-1]:09d} (step {left[-1]})" if left else NONE
        )
        checkpoints.remove()
        assert not (tmp_path / str(every)).exists()
    assert not [p for p in tmp_path.iterdir() if p.suffix == ".tmp"]


# What is on disk


def saved(trainer, start, path):
    """Checkpoints after steps 15 and 10."""
    options = CheckpointConfig(checkpoint_seconds=1e9, checkpoint_steps=5)
    checkpoints = Checkpoints(path, options)
    with pytest.raises(Killed):
        train(trainer, start, advance=killed_after(16), checkpoints=checkpoints)
    assert len(checkpoints._newest_first()) == 2
    return checkpoints._newest_first()


FILES = ["checkpoint.json", "tensors.index", "tensors.data-00000-of-00001"]
DAMAGES = {
    "cut off": lambda file: file.write_bytes(file.read_bytes()[:-2]),
    "empty": lambda file: file.write_bytes(b""),
    "gone": lambda file: file.unlink(),
    "another": lambda file: file.write_bytes(file.read_bytes()[::-1]),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_checkpoint_is_logged_and_the_previous_one_used(
    name, damage, undisturbed, tmp_path
):
    trainer, start, expected = undisturbed["keras"]
    newest, before = saved(trainer, start, tmp_path)
    DAMAGES[damage](newest / name)
    lines = []
    checkpoints = Checkpoints(tmp_path, NEVER, lines.append)
    assert_same(train(trainer, start, checkpoints=checkpoints), expected)
    assert str(newest) in lines[0] and lines[0].endswith("The checkpoint is not used.")
    assert lines[1] == f"resuming at step 10, from {before}"


def test_a_checkpoint_of_another_training_is_not_used(undisturbed, tmp_path):
    trainer, start, _ = undisturbed["keras"]
    saved(trainer, start, tmp_path)
    lines = []
    checkpoints = Checkpoints(tmp_path, NEVER, lines.append)
    other = train(trainer, start, order=(1, 1), checkpoints=checkpoints)
    assert len(lines) == 2 and all(": of another training run. " in line for line in lines)
    assert_same(other, train(trainer, start, order=(1, 1)))


def test_checkpoints_that_are_not_used_are_replaced(undisturbed, tmp_path):
    trainer, start, _ = undisturbed["keras"]
    saved(trainer, start, tmp_path)
    options = CheckpointConfig(checkpoint_seconds=1e9, checkpoint_steps=5)
    checkpoints, lines = Checkpoints(tmp_path, options), []
    with pytest.raises(Killed):
        train(trainer, start, order=(1, 1), advance=killed_after(11), checkpoints=checkpoints)
    checkpoints = Checkpoints(tmp_path, NEVER, lines.append)
    resumed = train(trainer, start, order=(1, 1), checkpoints=checkpoints)
    assert lines == [f"resuming at step 10, from {tmp_path / 'step_000000010'}"]
    assert_same(resumed, train(trainer, start, order=(1, 1)))


def test_a_newer_schema_is_refused(undisturbed, tmp_path):
    trainer, start, _ = undisturbed["keras"]
    newest, _ = saved(trainer, start, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tf_prac.storage.files.SCHEMA", 7)
        write_manifest(newest, "checkpoint.json", "checkpoint", {})
    with pytest.raises(FileError, match=r"newer tf_prac \(schema 7; this one reads up to 1\)"):
        train(trainer, start, checkpoints=Checkpoints(tmp_path, NEVER))


def test_a_full_disk_is_an_error_and_leaves_the_checkpoints_intact(
    undisturbed, tmp_path, monkeypatch
):
    trainer, start, expected = undisturbed["keras"]
    newest, before = saved(trainer, start, tmp_path)

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(FileError, match="step_0000.*cannot be written: No space left"):
            train(trainer, start, checkpoints=Checkpoints(tmp_path, ALWAYS))
    assert sorted(tmp_path.iterdir()) == [before, newest]
    assert_same(train(trainer, start, checkpoints=Checkpoints(tmp_path, NEVER)), expected)


def test_an_unwritable_directory_is_an_error(undisturbed, tmp_path):
    trainer, start, _ = undisturbed["keras"]
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileError, match="file/checkpoints/step_.*cannot be written: Not a dir"):
        train(trainer, start, checkpoints=Checkpoints(tmp_path / "file" / "checkpoints", ALWAYS))


# Signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@both
def test_a_signal_is_delayed_until_the_checkpoint_is_saved(
    flavor, number, undisturbed, tmp_path, monkeypatch
):
    trainer, start, expected = undisturbed[flavor]
    monkeypatch.setattr(trainer._loop, "_steps_per_call", 1)
    monkeypatch.setattr("tf_prac.training.loop.CALL_SECONDS", 0)
    taken, received = [], []

    def advance(count):
        taken.append(count)
        if len(taken) == 8:
            os.kill(os.getpid(), number)

    def handler(*_):
        received.append(len(taken))
        raise Killed

    before = signal.signal(number, handler)
    try:
        with pytest.raises(Killed):
            train(trainer, start, advance=advance, checkpoints=Checkpoints(tmp_path, NEVER))
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(number, before)
    assert received == [8]
    assert [p.name for p in tmp_path.iterdir()] == ["step_000000008"]
    assert_same(train(trainer, start, checkpoints=Checkpoints(tmp_path, NEVER)), expected)


def test_training_continues_if_the_handler_returns(undisturbed, tmp_path):
    trainer, start, expected = undisturbed["keras"]
    received = []
    before = signal.signal(signal.SIGTERM, lambda *_: received.append(1))
    try:
        checkpoints = Checkpoints(tmp_path, NEVER)
        result = train(
            trainer,
            start,
            advance=lambda n: os.kill(os.getpid(), signal.SIGTERM),
            checkpoints=checkpoints,
        )
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received and checkpoints._newest_first()
    assert_same(result, expected)


def test_nothing_is_installed_outside_the_main_thread_or_over_ignored_signals():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with DeferredSignals():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
    seen = []

    def look():
        with DeferredSignals() as signals:
            seen.append((signal.getsignal(signal.SIGINT), signals.pending))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [(signal.getsignal(signal.SIGINT), False)]


# Loss guards


@both
def test_a_loss_that_is_not_finite_names_the_last_good_checkpoint(flavor, tmp_path):
    """One sample overflows: the error names its step, and nothing after it is saved.

    What overflows first differs: the loss, a kernel, or only the variance in BatchNorm.
    """
    batches = id_batches(IDS, 8, seed=(1, 0), start_step=3)
    trainer = make_trainer(flavor, huge=[int(next(iter(batches))[0])])
    checkpoints = Checkpoints(
        tmp_path, CheckpointConfig(checkpoint_seconds=1e9, checkpoint_steps=1)
    )
    with pytest.raises(NonFiniteLossError) as caught:
        train(trainer, start_of(trainer), checkpoints=checkpoints)
    what, _, rest = str(caught.value).partition(": ")
    assert what == "loss" or what in snapshot(trainer.network)
    assert rest == (
        "NaN or infinite at step 4 of 20 (epoch 1). Progress is kept up to the last good "
        f"checkpoint: {tmp_path}/step_000000003 (step 3). "
        "Lower the learning rate, or look for bad values in the data."
    )
    assert checkpoints.load_latest(None) is None and len(checkpoints._newest_first()) == 2


@both
def test_weights_that_are_not_finite_are_an_error_even_if_the_last_loss_is_finite(flavor):
    """The loss of a step comes before its update: the last update could poison W_k or the masks."""
    recipe = dataclasses.replace(RECIPE, optimizer="sgd", learning_rate=1e38)
    trainer = make_trainer(flavor, recipe)
    weights, masks = start_of(trainer)
    weights = {name: w * 1e3 for name, w in weights.items()}
    with pytest.raises(NonFiniteLossError, match="kernel: NaN or infinite at step 1 "):
        trainer.train(weights, masks, IDS, Budget(5, 1), (1, 0))
