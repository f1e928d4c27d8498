"""A training that is stopped anywhere goes on to the same bits, over both flavours."""

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
from tf_prac.data.samples import ArraySamples
from tf_prac.data.search_data import Subset
from tf_prac.errors import FileError, NonFiniteLossError
from tf_prac.keras_api import FLAVOURS, random_states
from tf_prac.storage.manifest import write_manifest
from tf_prac.training.callbacks.mask_distance import MaskDistance
from tf_prac.training.checkpoint import Checkpoints
from tf_prac.training.schedules import Budget
from tf_prac.training.signals import DeferredSignals
from tf_prac.training.trainer import Trainer

both = pytest.mark.parametrize("flavour", FLAVOURS)

ALWAYS = CheckpointConfig(checkpoint_seconds=0)
NONE = "none was due yet"
NEVER = CheckpointConfig(checkpoint_seconds=1e9)
RECIPE = TrainingRecipe(epochs=4, batch_size=8, optimizer="adam", learning_rate=0.01, warmup=0.1)
IDS = np.arange(40)
BUDGET = Budget(5, 20)


class Killed(BaseException):
    """Stands for the end of a process."""


def make_trainer(flavour, recipe=RECIPE, huge=()):
    """Everything with a state of its own: BatchNorm, Dropout, noise, Adam, metrics.

    The samples `huge` are so large that the loss overflows.
    """
    keras = importlib.import_module(flavour)
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
    return Trainer(network, recipe, samples, Subset(samples, np.arange(40, 60)))


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


def assert_same(found, expected):
    """Equal to the bit, times aside."""
    for mine, other in (
        (found.weights, expected.weights),
        (found.best_weights, expected.best_weights),
        (found.snapshots[7], expected.snapshots[7]),
    ):
        assert list(mine) == list(other)
        assert all(mine[name].tobytes() == other[name].tobytes() for name in mine)
    assert found.forgetting.table.tobytes() == expected.forgetting.table.tobytes()
    rows = [[{**r, "seconds": 0} for r in each.history] for each in (found, expected)]
    assert rows[0] == rows[1]
    for name in ("steps", "samples_seen", "validation_samples", "stop"):
        assert getattr(found, name) == getattr(expected, name)
    assert (found.best.value, found.best.epoch) == (expected.best.value, expected.best.epoch)
    assert found.mask_distances == expected.mask_distances


@pytest.fixture(scope="module")
def undisturbed():
    """For each flavour: a trainer, where it starts, and what it gives."""
    found = {}
    for flavour in FLAVOURS:
        trainer = make_trainer(flavour)
        start = start_of(trainer)
        found[flavour] = trainer, start, train(trainer, start)
    return found


@both
def test_a_training_killed_anywhere_goes_on_to_the_same_bits(
    flavour, undisturbed, tmp_path, monkeypatch
):
    """Killed in epochs (of 5 steps) and between them; the last life is that of a new trainer."""
    trainer, start, expected = undisturbed[flavour]
    monkeypatch.setattr(trainer._loop, "_steps_per_call", 1)
    monkeypatch.setattr("tf_prac.training.loop.CALL_SECONDS", 0)
    for steps in (2, 5, 6, 11, 12):
        kept = Checkpoints(tmp_path, ALWAYS)
        with pytest.raises(Killed):
            train(trainer, start, advance=killed_after(steps), checkpoints=kept)
    said = []
    kept = Checkpoints(tmp_path, ALWAYS, said.append)
    assert_same(train(make_trainer(flavour), start, checkpoints=kept), expected)
    assert len(said) == 1 and said[0].startswith("resuming at step 11, from ")
    assert_same(train(trainer, start), expected)
    assert_same(train(trainer, start, checkpoints=kept), expected)  # from its end


@both
def test_random_layers_start_anew_with_each_order(flavour, undisturbed):
    trainer, start, expected = undisturbed[flavour]
    other = train(trainer, start, order=(1, 1))
    assert any((other.weights[name] != w).any() for name, w in expected.weights.items())
    states = [np.array(v.numpy()) for v in random_states(trainer.network)]
    assert len(states) == 3 and len({s.tobytes() for s in states}) == 3
    assert_same(train(trainer, start), expected)


@both
def test_an_early_stop_is_the_same_after_a_kill(flavour, undisturbed, tmp_path):
    trainer, start, _ = undisturbed[flavour]
    whole = train(trainer, start, eps=0.04)
    assert whole.stop == "early_stop" and whole.steps == 15, whole.mask_distances
    for steps in (12, 14, 100):
        kept = Checkpoints(tmp_path, CheckpointConfig(checkpoint_seconds=1e9, checkpoint_steps=1))
        with contextlib.suppress(Killed):
            stopped = train(trainer, start, eps=0.04, advance=killed_after(steps), checkpoints=kept)
    assert_same(stopped, whole)
    assert_same(train(trainer, start, eps=0.04, checkpoints=kept), whole)


def test_how_often_changes_nothing_and_two_are_kept(undisturbed, tmp_path):
    trainer, start, expected = undisturbed["keras"]
    for every, left in ((0, []), (3, [15, 18]), (5, [15, 20]), (19, [19])):
        options = CheckpointConfig(checkpoint_seconds=1e9, checkpoint_steps=every)
        kept = Checkpoints(tmp_path / str(every), options)
        assert_same(train(trainer, start, checkpoints=kept), expected)
        assert [int(p.name[-9:]) for p in reversed(kept._all())] == left
        assert kept.last == (f"{kept.path}/step_{left[-1]:09d} (step {left[-1]})" if left else NONE)
        kept.remove()
        assert not (tmp_path / str(every)).exists()
    assert not [p for p in tmp_path.iterdir() if p.suffix == ".tmp"]


# What is on disk


def saved(trainer, start, path):
    """Checkpoints after steps 15 and 10."""
    options = CheckpointConfig(checkpoint_seconds=1e9, checkpoint_steps=5)
    kept = Checkpoints(path, options)
    with pytest.raises(Killed):
        train(trainer, start, advance=killed_after(16), checkpoints=kept)
    assert len(kept._all()) == 2
    return kept._all()


FILES = ["checkpoint.json", "tensors.index", "tensors.data-00000-of-00001"]
DAMAGES = {
    "cut off": lambda file: file.write_bytes(file.read_bytes()[:-2]),
    "empty": lambda file: file.write_bytes(b""),
    "gone": lambda file: file.unlink(),
    "another": lambda file: file.write_bytes(file.read_bytes()[::-1]),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_used(name, damage, undisturbed, tmp_path):
    trainer, start, expected = undisturbed["keras"]
    newest, before = saved(trainer, start, tmp_path)
    DAMAGES[damage](newest / name)
    said = []
    kept = Checkpoints(tmp_path, NEVER, said.append)
    assert_same(train(trainer, start, checkpoints=kept), expected)
    assert str(newest) in said[0] and said[0].endswith("The checkpoint is not used.")
    assert said[1] == f"resuming at step 10, from {before}"


def test_a_checkpoint_of_another_training_is_not_used(undisturbed, tmp_path):
    trainer, start, _ = undisturbed["keras"]
    saved(trainer, start, tmp_path)
    said = []
    kept = Checkpoints(tmp_path, NEVER, said.append)
    other = train(trainer, start, order=(1, 1), checkpoints=kept)
    assert len(said) == 2 and all(": of another training run. " in line for line in said)
    assert_same(other, train(trainer, start, order=(1, 1)))


def test_a_newer_schema_is_refused(undisturbed, tmp_path):
    trainer, start, _ = undisturbed["keras"]
    newest, _ = saved(trainer, start, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tf_prac.storage.files.SCHEMA", 7)
        write_manifest(newest, "checkpoint.json", "checkpoint", {})
    with pytest.raises(FileError, match=r"newer tf_prac \(schema 7; this one reads up to 1\)"):
        train(trainer, start, checkpoints=Checkpoints(tmp_path, NEVER))


def test_a_full_disk_is_said_so_and_leaves_the_checkpoints_whole(
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


def test_a_place_that_cannot_be_written_is_said_so(undisturbed, tmp_path):
    trainer, start, _ = undisturbed["keras"]
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileError, match="file/checkpoints/step_.*cannot be written: Not a dir"):
        train(trainer, start, checkpoints=Checkpoints(tmp_path / "file" / "checkpoints", ALWAYS))


# Signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@both
def test_a_signal_waits_for_the_checkpoint(flavour, number, undisturbed, tmp_path, monkeypatch):
    trainer, start, expected = undisturbed[flavour]
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


def test_training_goes_on_if_the_handler_returns(undisturbed, tmp_path):
    trainer, start, expected = undisturbed["keras"]
    received = []
    before = signal.signal(signal.SIGTERM, lambda *_: received.append(1))
    try:
        kept = Checkpoints(tmp_path, NEVER)
        found = train(
            trainer, start, advance=lambda n: os.kill(os.getpid(), signal.SIGTERM), checkpoints=kept
        )
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received and kept._all()
    assert_same(found, expected)


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
def test_a_loss_that_is_not_finite_names_the_last_good_checkpoint(flavour, tmp_path):
    """One sample overflows: the step that meets it is named, and nothing after is kept.

    What overflows first differs: the loss, a kernel, or only the variance in BatchNorm.
    """
    batches = id_batches(IDS, 8, seed=(1, 0), start_step=3)
    trainer = make_trainer(flavour, huge=[int(next(iter(batches))[0])])
    kept = Checkpoints(tmp_path, CheckpointConfig(checkpoint_seconds=1e9, checkpoint_steps=1))
    with pytest.raises(NonFiniteLossError) as caught:
        train(trainer, start_of(trainer), checkpoints=kept)
    what, _, rest = str(caught.value).partition(": ")
    assert what == "loss" or what in snapshot(trainer.network)
    assert rest == (
        "NaN or infinite at step 4 of 20 (epoch 1). Progress is kept up to the last good "
        f"checkpoint: {tmp_path}/step_000000003 (step 3). "
        "Lower the learning rate, or look for bad values in the data."
    )
    assert kept.load_latest(None) is None and len(kept._newest_first()) == 2


@both
def test_weights_that_are_not_finite_are_not_kept_though_the_last_loss_is(flavour):
    """The loss of a step comes before its update: the last update could poison W_k or the masks."""
    recipe = dataclasses.replace(RECIPE, optimizer="sgd", learning_rate=1e38)
    trainer = make_trainer(flavour, recipe)
    weights, masks = start_of(trainer)
    weights = {name: w * 1e3 for name, w in weights.items()}
    with pytest.raises(NonFiniteLossError, match="kernel: NaN or infinite at step 1 "):
        trainer.train(weights, masks, IDS, Budget(5, 1), (1, 0))
