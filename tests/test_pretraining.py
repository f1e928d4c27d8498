"""Steps from W_0 to W_k on other samples than the rest of the search."""

from __future__ import annotations

import dataclasses
import importlib
import pathlib
import shutil

import hypothesis
import numpy as np
import pytest
from digits_search import X, Y
from halved import halved
from hypothesis import strategies as st

from tf_prac import PracConfig, PruningConfig, TicketSearch, TrainingRecipe
from tf_prac.config import PRAC_VARIANTS
from tf_prac.data.forgetting import ForgettingStats
from tf_prac.data.ids import split_validation
from tf_prac.data.source import ArraySamples
from tf_prac.data.splits import Split
from tf_prac.errors import ArgumentError, DamagedFileError, MismatchError
from tf_prac.keras_api import FLAVORS, seed_everything
from tf_prac.pruning.weights import snapshot
from tf_prac.search.callbacks import SearchCallback
from tf_prac.search.pretraining import pretraining_ids
from tf_prac.search.ticket import PRETRAIN_ORDER, SEARCH_ORDER
from tf_prac.storage.files import read_npz
from tf_prac.storage.run_directory import RunDirectory
from tf_prac.training.masked_weights import get_masks
from tf_prac.training.schedules import Budget
from tf_prac.training.trainer import Trainer

both = pytest.mark.parametrize("flavor", FLAVORS)

K, ROUNDS = 5, 2
RECIPE = TrainingRecipe(epochs=2, batch_size=50, validation_split=0.1)
PRUNING = PruningConfig(rounds=ROUNDS, rewind=f"{K}it")
NONE = PRAC_VARIANTS["none"].prac
RANDOM = dataclasses.replace(NONE, pretrain_on="random", pretrain_size=0.2)
TRAIN = ArraySamples(X[:400], Y[:400], name="digits", version="1")
FULL_STEPS = 16  # 2 epochs of 360 samples


def make_model(flavor):
    keras = importlib.import_module(flavor)
    layers = [keras.layers.Input((64,)), keras.layers.Dense(16, activation="relu")]
    return keras.Sequential([*layers, keras.layers.Dense(10)])


def make_search(directory, prac, flavor="keras", **changes):
    options = {"recipe": RECIPE, "pruning": PRUNING, "retrain": "none", "verbose": False, **changes}
    return TicketSearch(lambda: make_model(flavor), prac=prac, directory=directory, **options)


def search(*args, **changes):
    return make_search(*args, **changes).run(TRAIN)


def files(directory):
    paths = [*directory.glob("round_*/*.npz"), directory / "rewind.npz"]
    return {str(p.relative_to(directory)): p.read_bytes() for p in paths}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Finished runs that took their first steps on a random subset, by flavor."""
    directory = tmp_path_factory.mktemp("finished")
    return {flavor: search(directory / flavor, RANDOM, flavor) for flavor in FLAVORS}


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the one of keras."""
    return pathlib.Path(shutil.copytree(finished["keras"].directory, tmp_path / "run"))


@both
def test_the_run_is_k_steps_on_the_subset_and_the_rest_on_everything(finished, flavor):
    """Against two trainings written out."""
    result = finished[flavor]
    seed_everything(0)
    network = make_model(flavor)
    trainer = Trainer(network, RECIPE, TRAIN, pruning=PRUNING)
    everything, _ = split_validation(400, fraction=0.1, method="seeded", seed=0)
    chosen = pretraining_ids(RANDOM, Split(TRAIN, everything), 0)
    assert len(chosen) == 72 and np.isin(chosen, everything).all()
    masks = get_masks(network, PRUNING)
    first = trainer.train(
        snapshot(network), masks, chosen, Budget(2, FULL_STEPS, limit=K), (0, PRETRAIN_ORDER, 0)
    )
    assert first.steps == K
    kept = read_npz(result.directory / "rewind.npz", "rewind")
    for name, value in first.weights.items():
        np.testing.assert_array_equal(kept[name], value, err_msg=name)
    budget = Budget(8, FULL_STEPS, first_step=K)
    trainer.train(first.weights, masks, everything, budget, (0, SEARCH_ORDER, 0))
    expected = snapshot(network)
    ticket = result.tickets[1]
    for name, mask in ticket.masks.items():
        smallest_kept = np.abs(expected[name])[mask].min()
        assert np.abs(expected[name])[~mask].max(initial=0) <= smallest_kept


def test_steps_and_samples_before_w_k_are_counted(finished, tmp_path):
    result = finished["keras"]
    first, second = result.summary["rounds"]
    assert first["pretrain_steps"] == K and first["pretrain_samples"] == 72
    assert first["steps"] == second["steps"] == FULL_STEPS - K
    assert result.summary["cost"]["search_steps"] == K + ROUNDS * (FULL_STEPS - K)
    assert result.summary["cost"]["search_steps"] == result.summary["cost"]["full_imp_steps"]
    whole = dataclasses.replace(PRUNING, lr_rewind=False)
    whole_cost = search(tmp_path / "whole", RANDOM, pruning=whole).summary["cost"]
    assert whole_cost["search_steps"] == K + ROUNDS * FULL_STEPS


class _Stop(Exception):
    pass


@halved("flavor, after", FLAVORS, ["steps to W_k", "round 0"])
def test_a_search_that_is_stopped_goes_on_from_the_same_w_k(finished, tmp_path, flavor, after):
    trained = []

    class Watch(SearchCallback):
        def __init__(self, stop_before=None):
            self.stop_before = stop_before

        def on_training_begin(self, title, steps):
            if title == self.stop_before:
                raise _Stop
            trained.append(title)

    following = {"steps to W_k": "round 0", "round 0": "round 1"}[after]
    with pytest.raises(_Stop):
        make_search(tmp_path / "run", RANDOM, flavor).run(TRAIN, callbacks=[Watch(following)])
    assert trained[-1] == after
    trained.clear()
    make_search(tmp_path / "run", RANDOM, flavor).run(TRAIN, callbacks=[Watch()])
    assert trained[0] == following and "steps to W_k" not in trained
    assert files(tmp_path / "run") == files(finished[flavor].directory)


def test_a_damaged_w_k_is_made_again(run):
    undisturbed = files(run)
    (run / "round_00/round.json").unlink()
    kept = run / "pretraining/rewind.npz"
    data = bytearray(kept.read_bytes())
    data[len(data) // 2] ^= 1
    kept.write_bytes(bytes(data))
    search(run, RANDOM)
    assert files(run) == undisturbed


def test_w_k_of_another_run_is_refused(finished, run):
    shutil.rmtree(run / "pretraining")
    shutil.copytree(finished["tf_keras"].directory / "pretraining", run / "pretraining")
    with pytest.raises(DamagedFileError, match="damaged, or of another run"):
        RunDirectory(run).finished_pretraining()


class _Other:
    """Stands for a finished run with these statistics."""

    def __init__(self, stats):
        self._stats = stats

    def forgetting(self, train):
        return self._stats


@hypothesis.given(
    events=st.lists(st.integers(0, 3), min_size=4, max_size=40),
    unlearned=st.integers(0, 2),
    size=st.floats(0.01, 1),
    seed=st.integers(0, 5),
)
def test_easy_samples_are_those_forgotten_least_and_hard_ones_most(events, unlearned, size, seed):
    count = len(events)
    learned = np.arange(count) >= unlearned
    stats = ForgettingStats.from_table(
        np.stack([np.full(count, 9), learned, learned, learned * events], axis=1).astype(np.int32)
    )
    ids = np.arange(count)[np.arange(count) % 3 > 0]
    train = Split(ArraySamples(np.zeros((count, 1), np.float32), np.arange(count) % 2), ids)
    rank = np.where(np.arange(count) < unlearned, 1_000, stats.events)
    for on, sign in (("easy", 1), ("hard", -1)):
        config = PracConfig(pretrain_on=on, pretrain_size=size, pretrain_from="run")
        chosen = pretraining_ids(config, train, seed, _Other(stats))
        assert len(chosen) == max(1, round(size * len(ids))) and np.isin(chosen, ids).all()
        left = np.setdiff1d(ids, chosen)
        if len(left):
            assert (sign * rank[chosen]).max() <= (sign * rank[left]).min()


def test_easy_samples_of_a_run_are_used_and_must_be_the_same_samples(finished, tmp_path):
    source = finished["tf_keras"]
    easy = dataclasses.replace(
        NONE, pretrain_on="easy", pretrain_size=0.5, pretrain_from=str(source.directory)
    )
    result = search(tmp_path / "run", easy)
    assert result.summary["rounds"][0]["pretrain_samples"] == 180
    assert "pretrain_from" in result.summary["other_runs"]
    other = ArraySamples(X[:400], Y[:400], name="digits", version="2")
    with pytest.raises(MismatchError, match="^pretrain_from: version"):
        make_search(tmp_path / "other", easy).run(other)
    with pytest.raises(MismatchError, match="^pretrain_from: .*for validation"):
        make_search(tmp_path / "seed", easy, seed=1).run(TRAIN)
    assert not (tmp_path / "other").exists() and not (tmp_path / "seed").exists()


def test_there_must_be_steps_before_w_k_and_one_w_k(tmp_path):
    at_once = dataclasses.replace(PRUNING, rewind="0it")
    with pytest.raises(ArgumentError, match="^rewind: .*above 0 with pretrain_on=random"):
        search(tmp_path / "run", RANDOM, pruning=at_once)
    with pytest.raises(ArgumentError, match="^also_keep: .*none with pretrain_on=random"):
        search(tmp_path / "run", RANDOM, also_keep=["2it"])
    assert not (tmp_path / "run").exists()


def test_a_criterion_that_needs_no_training_scores_w_k(tmp_path):
    pruning = dataclasses.replace(PRUNING, criterion="magnitude_init")
    result = search(tmp_path / "run", RANDOM, pruning=pruning)
    assert [r["steps"] for r in result.summary["rounds"]] == [0, 0]
    assert result.summary["cost"]["search_steps"] == K
    kept = read_npz(tmp_path / "run/pretraining/rewind.npz", "rewind")
    for name, value in result.tickets[-1].weights.items():
        np.testing.assert_array_equal(value, kept[name])
