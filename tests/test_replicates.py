"""Replicates, stability and connectivity of small runs, over both flavors."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import re

import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits
from source_tree import ROOT

from tf_prac import Masks, PracConfig, PruningConfig, TicketSearch, TrainingRecipe, snapshot
from tf_prac.analysis.aggregate import merged
from tf_prac.analysis.connectivity import BARRIERS, VALUES, measure_connectivity
from tf_prac.analysis.options import ConnectivityConfig, StabilityConfig
from tf_prac.analysis.replicates import Replicates
from tf_prac.analysis.stability import measure_stability
from tf_prac.analysis.weight_space import angle, distance, interpolate
from tf_prac.data.pipeline import training_batches
from tf_prac.errors import ArgumentError, FileError
from tf_prac.keras_api import FLAVORS
from tf_prac.search.ticket import REPLICATE_ORDER
from tf_prac.training.batch_norm import MovingStatistics
from tf_prac.training.trainer import Trainer

both = pytest.mark.parametrize("flavor", FLAVORS)
X, Y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32).reshape(-1, 8, 8, 1)
TRAIN, TEST = (X[:400], Y[:400]), (X[400:600], Y[400:600])
RECIPE = TrainingRecipe(epochs=2, batch_size=40, learning_rate=0.05, augment="crop")
PRUNING = PruningConfig(rounds=2, prune_rate=0.5, rewind="5it", prune_last_dense=True)
PLAIN = PracConfig(use_cet=False, use_cep=False, early_stop_eps=None)


def make_model_fn(flavor):
    keras = importlib.import_module(flavor)

    def model_fn():
        inputs = keras.Input((8, 8, 1))
        x = keras.layers.Conv2D(4, 3)(inputs)
        x = keras.layers.BatchNormalization(momentum=0.9)(x)
        x = keras.layers.Flatten()(keras.layers.ReLU()(x))
        return keras.Model(inputs, keras.layers.Dense(10)(x))

    return model_fn


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A finished search for each flavor."""
    found = {}
    for flavor in FLAVORS:
        directory = tmp_path_factory.mktemp(flavor) / "run"
        search = TicketSearch(
            make_model_fn(flavor),
            RECIPE,
            PRUNING,
            PLAIN,
            directory=directory,
            seed=3,
            retrain="none",
            verbose=False,
        )
        search.run(TRAIN, test=TEST)
        found[flavor] = search
    return found


@pytest.fixture(scope="module")
def opened(runs):
    """The replicates of each flavor's run."""
    return {flavor: Replicates(runs[flavor], TRAIN, test=TEST) for flavor in FLAVORS}


@pytest.fixture
def replicates(opened, flavor):
    """The replicates of one flavor's run."""
    return opened[flavor]


def recorded_batches(monkeypatch):
    """Records the batches of every training from now on: lists of (inputs, ids)."""
    seen = []
    batches = Trainer._batches

    def recording(self, run, start):
        inputs = read_all(batches(self, run, start), run.budget.steps - start)
        seen.append([(x["inputs"].numpy(), x["sample_id"].numpy()) for x in inputs])
        return batches(self, run, start)

    monkeypatch.setattr(Trainer, "_batches", recording)
    return seen


def read_all(batches, steps):
    """Reads the inputs of a number of batches as the compiled loop does."""
    inputs = []
    while len(inputs) < steps:
        count, call = batches.take(steps - len(inputs))
        for index in range(count):
            batch = batches.read(call.source, tf.constant(index))
            inputs.append(batches.preprocessing(batch, call.key, call.first_step + index)[0])
    return inputs


def same(first, second):
    pairs = zip(first, second, strict=True)
    return all(np.array_equal(a, b) for pair in pairs for a, b in zip(*pair, strict=True))


@both
def test_a_data_order_is_replayed_to_the_bit_and_another_differs(replicates, monkeypatch):
    """The same u: same batches and augmentation, for every network and a second time."""
    seen = recorded_batches(monkeypatch)
    for number, network, u in ((0, "ticket", 0), (2, "ticket", 0), (2, "ticket", 1)):
        path = replicates.run.replicate_path(number, network, u)
        path.unlink(missing_ok=True)
        replicates.trained(number, network, u)
    dense, ticket, other = seen
    assert len(dense) == 2 * 9 - 5  # T - k steps
    assert same(dense, ticket)
    assert not any(np.array_equal(a[1], b[1]) for a, b in zip(ticket, other, strict=True))
    ids = [np.sort(np.concatenate([i for _, i in order[:9]])) for order in (ticket, other)]
    np.testing.assert_array_equal(*ids)  # the same samples, in another order

    labels = dict(zip(range(400), TRAIN[0], strict=True))
    inputs, numbers = ticket[0]
    moved = [not np.array_equal(x, labels[i]) for x, i in zip(inputs, numbers, strict=True)]
    assert any(moved)  # the augmentation was part of what was compared


@both
def test_replicates_start_from_the_masked_rewind_weights_and_keep_the_mask(replicates, monkeypatch):
    starts = []
    train = Trainer.train

    def recording(self, weights, masks, ids, budget, order, **options):
        starts.append((weights, masks, budget, order))
        return train(self, weights, masks, ids, budget, order, **options)

    monkeypatch.setattr(Trainer, "train", recording)
    replicates.run.replicate_path(2, "random_mask", 7).unlink(missing_ok=True)
    found = replicates.trained(2, "random_mask", 7)
    ((weights, masks, budget, order),) = starts
    ticket = replicates.ticket(2)
    for name, value in ticket.weights.items():
        np.testing.assert_array_equal(weights[name], value)
    assert order == (3, REPLICATE_ORDER, 7)
    assert (budget.first_step, budget.total_steps) == (5, 18) and found.steps == 13
    for name, mask in masks.items():
        assert mask.sum() == ticket.masks[name].sum()
        assert (mask != ticket.masks[name]).any()
        assert not found.weights[name][~mask].any() and found.weights[name][mask].all()


@both
def test_a_replicate_is_trained_once_and_read_afterwards(replicates, runs, flavor, monkeypatch):
    path = replicates.run.replicate_path(1, "ticket", 0)
    path.unlink(missing_ok=True)
    first = replicates.trained(1, "ticket", 0)
    content = path.read_bytes()
    new = Replicates(runs[flavor], TRAIN, test=TEST)  # as another process would
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train", lambda *a, **k: pytest.fail("trained again"))
        second = new.trained(1, "ticket", 0)
    assert path.read_bytes() == content
    assert second.accuracy == first.accuracy and second.steps == 13
    for name in first.weights:
        np.testing.assert_array_equal(first.weights[name], second.weights[name])
    path.unlink()  # trained again, it is the same to the bit
    again = new.trained(1, "ticket", 0)
    for name in first.weights:
        np.testing.assert_array_equal(first.weights[name], again.weights[name])


@both
def test_stability_against_a_direct_computation(replicates):
    config = StabilityConfig(rounds=(0, 2), copies=3, pruning_copies=2)
    rows = measure_stability(replicates, config)
    kinds = [(r["round"], r["network"], r["measure"]) for r in rows.pairs]
    assert kinds == [
        *[(0, "ticket", "order")] * 3,
        *[(2, "ticket", "order")] * 3,
        *[(2, "ticket", "pruning")] * 2,
        *[(2, "random_mask", "order")] * 3,
        *[(2, "random_mask", "pruning")] * 2,
    ]
    for row in rows.pairs:
        masks = replicates.ticket(row["round"], row["network"]).masks
        first = replicates.trained(row["round"], row["network"], row["first"])
        second = replicates.trained(row["round"], row["network"], row["second"])
        if row["measure"] == "pruning":
            first = replicates.trained(0, "ticket", row["second"])
        a, b = (
            np.concatenate([(w.weights[n] * masks[n]).ravel().astype(float) for n in masks])
            for w in (first, second)
        )
        assert row["distance"] == pytest.approx(np.sqrt(((a - b) ** 2).sum()), rel=1e-6)
        cosine = (a @ b) / np.sqrt((a @ a) * (b @ b))
        assert row["angle"] == pytest.approx(np.degrees(np.arccos(cosine)), rel=1e-4)
        assert row["disagreement"] == np.mean(first.classes != second.classes)
        apart = np.linalg.norm(first.losses.astype(float) - second.losses)
        assert row["loss_distance"] == pytest.approx(apart) and apart > 0
        assert row["density"] == masks.density and row["k"] == 5 and row["seed"] == 3

    order = [r["distance"] for r in rows.pairs if r["round"] == 0]
    summary = rows.summary()[0]
    assert summary["samples"] == 3
    assert summary["distance"] == pytest.approx(np.mean(order))
    assert (summary["distance_min"], summary["distance_max"]) == (min(order), max(order))
    means = {(r["network"], r["measure"]): r["angle"] for r in rows.summary() if r["round"]}
    assert [(r["network"], r["measure"], r["round"]) for r in rows.ratios()] == [
        ("random_mask", "order", 2),
        ("random_mask", "pruning", 2),
    ]
    for row in rows.ratios():
        ticket, control = means["ticket", row["measure"]], means["random_mask", row["measure"]]
        assert row["angle_ratio"] == pytest.approx(control / ticket)
    both_runs = merged([rows, rows])
    assert [r["samples"] for r in both_runs.summary()] == [6, 6, 4, 6, 4]
    assert both_runs.accuracies()[1]["samples"] == 6


def direct_error_and_loss(network, x, y):
    """Mean error and cross-entropy of logits, in float64 with NumPy alone."""
    logits = np.asarray(network(x, training=False), np.float64)
    logits -= logits.max(-1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    wrong = np.mean(logits.argmax(-1) != y)
    return wrong, -np.mean(log_p[np.arange(len(y)), y])


@both
@pytest.mark.parametrize("batch_norm", ["recomputed", "interpolated"])
def test_barriers_against_a_direct_evaluation(replicates, batch_norm):
    config = ConnectivityConfig(rounds=(2,), points=4, batch_norm=batch_norm, samples=150)
    rows = measure_connectivity(replicates, config)
    assert [row["alpha"] for row in rows.points] == [0, 1 / 3, 2 / 3, 1]
    first, second = (replicates.trained(2, "ticket", u).weights for u in (0, 1))
    network = replicates.search.make_network()
    variables = {name: v for name, v in zip(snapshot(network), network.weights, strict=True)}
    found = []
    for point in rows.points:
        weights = interpolate(first, second, point["alpha"])
        if batch_norm == "recomputed":
            weights |= direct_statistics(network, variables, weights, replicates)
        for name, variable in variables.items():
            variable.assign(weights[name])
        ids = replicates.data.train.ids[:150]
        train = direct_error_and_loss(network, TRAIN[0][ids], TRAIN[1][ids])
        test = direct_error_and_loss(network, TEST[0][:150], TEST[1][:150])
        found.append([*train, *test])
        assert [point[name] for name in VALUES] == pytest.approx(found[-1], abs=2e-5)
    (row,) = rows.barriers
    for column, along in zip(VALUES, zip(*found, strict=True), strict=True):
        expected = max(along) - (along[0] + along[-1]) / 2
        assert row[f"{column}_barrier"] == pytest.approx(expected, abs=4e-5)


def direct_statistics(network, variables, weights, replicates):
    """Moving statistics of the only BatchNorm, which follows the convolution, by NumPy."""
    kernel, bias = (next(w for n, w in weights.items() if n.endswith(e)) for e in
                    ("conv2d/kernel", "conv2d/bias"))  # fmt: skip
    names = [n for n in weights if "moving" in n]
    sums = {n: 0.0 for n in names}
    batches = training_batches(
        replicates.data.train.samples,
        replicates.data.train.ids,
        batch_size=40,
        seed=(3, 3),
        steps=100,
        augment="crop",
    )
    for x, _ in batches:
        y = tf.nn.conv2d(x["inputs"], kernel, 1, "VALID").numpy().astype(float) + bias
        size = y.size / y.shape[-1]
        fused = network.__class__.__module__.startswith("tf_keras")  # its variance is unbiased
        variance = y.var((0, 1, 2)) * (size / (size - 1) if fused else 1)
        for name in names:
            value = y.mean((0, 1, 2)) if name.endswith("moving_mean") else variance
            sums[name] = 0.9 * sums[name] + 0.1 * value
    return {name: value / (1 - 0.9**100) for name, value in sums.items()}


@both
def test_frozen_statistics_stay(flavor):
    network = make_model_fn(flavor)()
    network.layers[2].trainable = False
    before = snapshot(network)
    MovingStatistics(network, tf.data.Dataset.from_tensors(({"inputs": X[:9]}, Y[:9]))).recompute()
    for name, value in snapshot(network).items():
        np.testing.assert_array_equal(value, before[name])


@both
def test_samples_may_have_weights_which_do_not_change_statistics(flavor):
    network = make_model_fn(flavor)()
    batch = ({"inputs": X[:9]}, Y[:9])
    recomputed = []
    for parts in (batch, (*batch, np.ones(9, np.float32))):
        MovingStatistics(network, tf.data.Dataset.from_tensors(parts)).recompute()
        recomputed.append(snapshot(network))
    for name, value in recomputed[0].items():
        np.testing.assert_array_equal(value, recomputed[1][name])


@both
def test_lines_between_successive_rounds_and_the_whole_grid(replicates):
    config = ConnectivityConfig(
        rounds=(0, 1, 2),
        points=3,
        successive=True,
        controls=("random_mask",),
        samples=50,
        batch_norm="interpolated",
    )
    rows = measure_connectivity(replicates, config)
    orders = [(r["round"], r["network"]) for r in rows.barriers if r["line"] == "order"]
    assert orders == [(0, "ticket"), *itertools.product((1, 2), ("ticket", "random_mask"))]
    lines = [r for r in rows.barriers if r["line"] == "rounds"]
    assert [(r["round"], r["first"], r["second"]) for r in lines] == [
        (1, 0, 1),
        (1, 1, 0),
        (2, 0, 1),
        (2, 1, 0),
    ]
    ends = [r for r in rows.points if r["line"] == "rounds" and r["round"] == 2][:3]
    own = [r for r in rows.points if r["line"] == "order" and r["network"] == "ticket"]
    dense_side = next(r for r in own if r["round"] == 1 and r["alpha"] == 1)
    assert ends[2]["test_error"] == dense_side["test_error"]  # replicate 0 of round 1
    ticket_side = next(r for r in own if r["round"] == 2 and r["alpha"] == 0)
    assert ends[0]["test_error"] == ticket_side["test_error"]  # replicate 1 of round 2
    assert all(r["test_error_barrier"] >= 0 for r in rows.summary())
    assert len(rows.curves()) == 7 * 3


@both
def test_barriers_during_training_are_those_of_shorter_trainings(replicates, monkeypatch):
    """9 steps an epoch from step 5 of 18: after 9 steps from W_k, and at the end."""
    options = {"rounds": (2,), "points": 3, "samples": 100, "every_epochs": 1}
    config = ConnectivityConfig(**options, batch_norm="interpolated")
    rows = measure_connectivity(replicates, config)
    assert [row["step"] for row in rows.during] == [14, 18]
    assert [row["step"] for row in rows.course()] == [14, 18]
    last = {name: rows.during[1][name] for name in BARRIERS}
    assert last == {name: rows.barriers[0][name] for name in BARRIERS}
    ticket = replicates.ticket(2)
    budget = ticket.retrain_budget(RECIPE, 360)
    shorter = replicates.trainer.train(
        ticket.weights,
        ticket.masks,
        replicates.data.train.ids,
        dataclasses.replace(budget, limit=9),
        (3, REPLICATE_ORDER, 0),
    )
    stored = replicates.trajectory(2, "ticket", 0, [9])[9]
    for name, weight in shorter.weights.items():
        np.testing.assert_array_equal(stored[name], weight)
    monkeypatch.setattr(Trainer, "train", lambda *a, **k: pytest.fail("trained again"))
    assert measure_connectivity(replicates, config).during == rows.during


@both
def test_controls_are_compared_with_the_full_network_of_their_own_weights(replicates, monkeypatch):
    starts = {}
    trained = Replicates.trained

    def recording(self, number, network, replicate):
        starts.setdefault((number, network), self.ticket(number, network).weights)
        return trained(self, number, network, replicate)

    monkeypatch.setattr(Replicates, "trained", recording)
    config = StabilityConfig(rounds=(2,), copies=2, controls=("reinit", "both"))
    rows = measure_stability(replicates, config)
    assert {row["k"] for row in rows.pairs} == {5}
    assert set(starts) == {(2, "ticket"), (0, "ticket"), (2, "reinit"), (2, "both"), (0, "reinit")}
    for name, weight in starts[0, "reinit"].items():
        for network in ("reinit", "both"):
            np.testing.assert_array_equal(weight, starts[2, network][name])
    assert replicates.trained(2, "both", 0).steps == 18  # from step 0, not from W_k


@pytest.mark.parametrize("flavor", ["keras"])
def test_bad_input(replicates, runs, monkeypatch):
    assert isinstance(replicates.ticket(0).masks, Masks)
    with pytest.raises(ArgumentError, match="rounds: received 5; allowed: tickets of the run, 0"):
        measure_stability(replicates, StabilityConfig(rounds=(2, 5)))
    with pytest.raises(ArgumentError, match="network: received 'reinitialized'"):
        replicates.ticket(1, "reinitialized")
    for config in (StabilityConfig, ConnectivityConfig):
        with pytest.raises(ArgumentError, match="copies: received 1; allowed: an integer >= 2"):
            config(copies=1)
    replicates.trained(1, "ticket", 0)
    path = replicates.run.replicate_path(1, "ticket", 0)
    good = path.read_bytes()
    path.write_bytes(good[:-40])
    with pytest.raises(FileError, match="damaged"):
        replicates.trained(1, "ticket", 0)
    replicates.trained(2, "ticket", 0)
    path.write_bytes(replicates.run.replicate_path(2, "ticket", 0).read_bytes())
    with pytest.raises(FileError, match="trained from another ticket or data. Remove it"):
        replicates.trained(1, "ticket", 0)
    path.write_bytes(good)
    with pytest.raises(FileError, match="trained from another ticket or data. Remove it"):
        Replicates(replicates.search, TRAIN, test=(X[600:800], Y[600:800])).trained(1, "ticket", 0)
    ticket = replicates.run.ticket_path(1) / "ticket.json"
    hidden = ticket.rename(ticket.with_name("hidden"))
    with pytest.raises(FileError, match="no ticket yet. Run the search .* tf-prac search"):
        measure_stability(replicates, StabilityConfig(rounds=(1, 2)))
    hidden.rename(ticket)


def test_the_code_of_the_page_runs(runs, capsys):
    page = (ROOT / "docs" / "stability.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    (x_train, y_train), (x_test, y_test) = TRAIN, TEST
    names = {"search": runs["keras"], "x_train": x_train, "y_train": y_train}
    exec(
        code.replace("rounds=(1, 3)", "rounds=(2,)"), {**names, "x_test": x_test, "y_test": y_test}
    )
    assert len(capsys.readouterr().out.split()) == 2


def test_measures_refuse_replicates_of_other_networks(runs):
    first = Replicates(runs["keras"], TRAIN, test=TEST).trained(2, "ticket", 0).weights
    masks = Replicates(runs["keras"], TRAIN).ticket(2).masks
    other = {name: w[..., :1] for name, w in first.items()}
    for measure in (distance, angle):
        with pytest.raises(ValueError, match="has shape"):
            measure(first, other, masks)
