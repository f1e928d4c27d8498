"""The whole search, on real data, over both flavors."""

import dataclasses
import functools
import importlib
import json
import shutil

import digits_search
import numpy as np
import precision
import pytest
import tensorflow as tf
from digits_search import X, Y
from halved import halved

from tf_prac import (
    Masks,
    PracConfig,
    PracSet,
    PruningConfig,
    Ticket,
    TicketSearch,
    TrainingRecipe,
    prunable_weights,
    snapshot,
)
from tf_prac.config import PRAC_VARIANTS
from tf_prac.data.pipeline import training_batches
from tf_prac.data.source import ArraySamples
from tf_prac.errors import ArgumentError, DataError, FileError, MismatchError, NonFiniteLossError
from tf_prac.keras_api import FLAVORS
from tf_prac.storage.files import read_json, read_npz, write_json
from tf_prac.storage.run_directory import RunDirectory
from tf_prac.training.trainer import Trainer

both = pytest.mark.parametrize("flavor", FLAVORS)

RECIPE = TrainingRecipe(epochs=4, batch_size=32)
PRUNING = PruningConfig(rounds=3, rewind="15it")
TRAIN, TEST = (X[:900], Y[:900]), (X[900:1200], Y[900:1200])


make_model_fn = functools.partial(
    digits_search.make_model_fn, widths=(40, 20), norm=True, last="softmax"
)


def make_search(flavor, directory, **changes):
    options = {"recipe": RECIPE, "pruning": PRUNING, "retrain": "all", "verbose": False, **changes}
    return TicketSearch(make_model_fn(flavor), directory=directory, **options)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One finished run for each flavor, and the number of traces after each training."""
    found = {}
    for flavor in FLAVORS:
        directory = tmp_path_factory.mktemp(flavor) / "run"
        traces = []
        train = Trainer.train

        def counted(self, *args, _train=train, _traces=traces, **kwargs):
            result = _train(self, *args, **kwargs)
            _traces.append(self.model.traces)
            return result

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Trainer, "train", counted)
            result = make_search(flavor, directory).run(TRAIN, test=TEST)
        found[flavor] = (result, traces)
    return found


def files_of(directory):
    return {p: p.read_bytes() for p in directory.rglob("*") if p.is_file()}


@both
def test_sparsities_are_exact_and_every_ticket_is_there(runs, flavor):
    result, _ = runs[flavor]
    size = 64 * 40 + 40 * 20
    remaining = size
    for number, ticket in enumerate(result.tickets):
        assert ticket.round == number
        assert ticket.masks.remaining == remaining
        remaining -= int(remaining * 0.2 + 0.5)
    assert len(result.tickets) == PRUNING.rounds + 1
    assert [r["sparsity"] for r in result.summary["rounds"]] == [
        t.sparsity for t in result.tickets[:-1]
    ]


@both
def test_nothing_is_compiled_anew_after_round_0(runs, flavor):
    _, traces = runs[flavor]
    assert len(traces) >= PRUNING.rounds * 2
    assert len(set(traces)) == 1


@both
def test_rounds_after_the_first_train_on_the_prac_set_of_the_round_before(runs, flavor):
    result, _ = runs[flavor]
    rounds = result.summary["rounds"]
    train_samples = result.summary["dataset"]["train_samples"]
    assert train_samples == 810 == rounds[0]["train_samples"]
    for before, after in zip(rounds, rounds[1:], strict=False):
        assert after["train_samples"] == before["prac_size"] < train_samples
        assert after["samples_seen"] <= after["train_samples"] * after["epochs"]
    for number, figures in enumerate(rounds):
        prac_set = PracSet.load(result.directory / f"round_{number:02d}" / "prac_set.npz")
        assert (len(prac_set.cet), len(prac_set.cep)) == (figures["cet"], figures["cep"])
        assert len(prac_set) == figures["prac_size"]


@both
def test_validation_samples_never_enter_training(runs, flavor):
    result, _ = runs[flavor]
    from tf_prac.data.forgetting import ForgettingStats
    from tf_prac.data.ids import split_validation

    _, validation = split_validation(900, fraction=0.1, method="seeded", seed=0)
    for number in range(PRUNING.rounds):
        path = result.directory / f"round_{number:02d}"
        assert not ForgettingStats.load(path / "forgetting.npz").seen[validation].any()
        assert not np.intersect1d(PracSet.load(path / "prac_set.npz").ids, validation).size


@both
def test_summary_has_the_specified_fields(runs, flavor):
    result, _ = runs[flavor]
    summary = json.loads((result.directory / "summary.json").read_text())
    assert {"schema", "dataset", "model", "keras", "seed", "dense", "rounds", "tickets"} <= set(
        summary
    )
    assert {"name", "version", "train_samples"} <= set(summary["dataset"])
    assert {"test_accuracy", "val_accuracy"} <= set(summary["dense"])
    fields = "round sparsity train_samples epochs steps samples_seen stop mask_distances cet cep"
    fields += " overlap prac_size val_accuracy seconds"
    for figures in summary["rounds"]:
        assert set(fields.split()) <= set(figures)
    for figures in summary["tickets"]:
        assert {"round", "sparsity", "test_accuracy", "val_accuracy", "retrain_steps"} <= set(
            figures
        )
    cost = summary["cost"]
    assert cost["search_steps"] == sum(r["steps"] for r in summary["rounds"])
    steps = 4 * 26  # 810 samples in batches of 32
    assert cost["full_imp_steps"] == steps + 2 * (steps - 15)
    assert cost["steps_saved"] == 1 - cost["search_steps"] / cost["full_imp_steps"]
    assert cost["end_to_end_steps"] == cost["search_steps"] + (steps - 15)
    for name in ("steps_saved", "end_to_end_steps_saved"):
        assert 0 <= cost[name] <= 1
    assert summary["keras"] == flavor


@both
def test_pruned_weights_are_zero_in_the_saved_files(runs, flavor):
    result, _ = runs[flavor]
    keras = importlib.import_module(flavor)
    for ticket in result.tickets[1:]:
        path = result.directory / "tickets" / f"round_{ticket.round:02d}"
        saved = keras.models.load_model(path / "model.keras")
        for weights in (snapshot(saved), read_npz(path / "trained.npz", "weights")):
            for name, mask in ticket.masks.items():
                assert np.count_nonzero(weights[name]) == np.count_nonzero(mask)
                assert not weights[name][~mask].any()
        figures = result.summary["tickets"][ticket.round]
        accuracy = np.mean(saved.predict(TEST[0], verbose=0).argmax(-1) == TEST[1])
        assert figures["test_accuracy"] == pytest.approx(accuracy)
        assert accuracy > 0.7


@both
def test_a_loaded_ticket_has_w_k_to_the_bit(runs, flavor):
    """And W_k is what k = 15 steps give, in the middle of an epoch of 26, by Keras alone."""
    result, _ = runs[flavor]
    keras = importlib.import_module(flavor)
    from tf_prac.keras_api import seed_everything

    seed_everything(0)
    model = make_model_fn(flavor)()
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        "sparse_categorical_crossentropy",
        jit_compile=False,
    )
    from tf_prac.data.ids import split_validation

    ids, _ = split_validation(900, fraction=0.1, method="seeded", seed=0)
    samples = ArraySamples(*TRAIN)
    batches = training_batches(samples, ids, batch_size=32, seed=(0, 0, 0), steps=15)
    for x, y in batches:
        model.train_on_batch(x["inputs"], y)
    reference = snapshot(model)
    digest = result.summary["rounds"][0]["rewind_sha256"]
    w_k = RunDirectory(result.directory).load_rewind(digest)
    for ticket in result.tickets:
        loaded = Ticket.load(result.directory / "tickets" / f"round_{ticket.round:02d}")
        assert loaded.masks == ticket.masks
        for name, value in loaded.weights.items():
            np.testing.assert_array_equal(value, w_k[name])
            np.testing.assert_allclose(
                value, reference[name], rtol=1e-4, atol=precision.rounding(1e-6)
            )
        applied = snapshot(loaded.apply(make_model_fn(flavor)()))
        for name, mask in loaded.masks.items():
            np.testing.assert_array_equal(applied[name][mask], w_k[name][mask])
            assert not applied[name][~mask].any()


def test_both_flavors_find_the_same_ticket(runs):
    keras, tf_keras = (runs[flavor][0].tickets[-1].masks for flavor in FLAVORS)
    assert keras.hamming(tf_keras) <= 0.01 * keras.size


@both
def test_the_same_command_again_returns_from_the_files(runs, flavor, monkeypatch):
    result, _ = runs[flavor]
    before = files_of(result.directory)

    def refuse(*args, **kwargs):
        raise AssertionError("trained again")

    monkeypatch.setattr(Trainer, "train", refuse)
    again = make_search(flavor, result.directory).run(TRAIN, test=TEST)
    assert again.summary == result.summary
    assert [t.masks for t in again.tickets] == [t.masks for t in result.tickets]
    assert files_of(result.directory) == before


@both
def test_a_search_goes_on_after_the_last_finished_round(runs, flavor, tmp_path):
    result, _ = runs[flavor]
    shutil.copytree(result.directory, tmp_path / "run")
    for leftover in ("round_01/round.json", "summary.json"):
        (tmp_path / "run" / leftover).unlink()
    for directory in ("round_02", "tickets"):
        shutil.rmtree(tmp_path / "run" / directory)
    again = make_search(flavor, tmp_path / "run").run(TRAIN, test=TEST)
    assert [t.masks for t in again.tickets] == [t.masks for t in result.tickets]
    for before, after in zip(result.summary["rounds"], again.summary["rounds"], strict=True):
        assert {k: v for k, v in before.items() if k != "seconds"} == {
            k: v for k, v in after.items() if k != "seconds"
        }
    for before, after in zip(result.summary["tickets"], again.summary["tickets"], strict=True):
        assert before["test_accuracy"] == after["test_accuracy"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"recipe": dataclasses.replace(RECIPE, learning_rate=0.2)}, "learning_rate: 0.2"),
        ({"pruning": dataclasses.replace(PRUNING, prune_rate=0.3)}, "prune_rate: 0.3"),
        ({"prac": PracConfig(forget_threshold=1)}, "forget_threshold: 1"),
        ({"seed": 5}, "seed: 5"),
        ({"retrain": "none"}, "retrain: 'none'"),
    ],
)
def test_other_options_are_refused_and_nothing_changes(runs, changes, named):
    result, _ = runs["keras"]
    before = files_of(result.directory)
    with pytest.raises(MismatchError, match=named):
        make_search("keras", result.directory, **changes).run(TRAIN, test=TEST)
    with pytest.raises(MismatchError, match="count: 800"):
        make_search("keras", result.directory).run((X[:800], Y[:800]), test=TEST)
    with pytest.raises(MismatchError, match="order_hash"):
        make_search("keras", result.directory).run((X[:900][::-1], Y[:900][::-1]), test=TEST)
    assert files_of(result.directory) == before


@halved("flavor, rounds_and_rate", FLAVORS, [(1, 0.93), (2, 0.2)])
def test_plain_imp_equals_a_reference_written_out(flavor, rounds_and_rate, tmp_path):
    """--prac=none against the algorithm in a dozen lines: own loop, own sorting."""
    rounds, rate = rounds_and_rate
    none = PRAC_VARIANTS["none"].prac
    options = {"rounds": rounds, "prune_rate": rate, "rewind": "0it", "lr_rewind": False}
    pruning = dataclasses.replace(PRUNING, **options)
    recipe = dataclasses.replace(RECIPE, epochs=2, schedule="constant", validation_split=0.0)
    search = make_search(
        flavor, tmp_path / "run", pruning=pruning, recipe=recipe, prac=none, retrain="none"
    )
    result = search.run(TRAIN)

    keras = importlib.import_module(flavor)
    from tf_prac.keras_api import seed_everything

    seed_everything(0)
    model = make_model_fn(flavor)()
    start = [w.numpy() for w in model.weights]
    kernels = list(prunable_weights(model).values())
    masks = [np.ones(k.shape, bool) for k in kernels]
    samples = ArraySamples(*TRAIN)
    for number in range(rounds):
        for weight, value in zip(model.weights, start, strict=True):
            weight.assign(value)
        for kernel, mask in zip(kernels, masks, strict=True):
            kernel.assign(kernel.numpy() * mask)
        optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
        model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=False)
        order = (0, 0, number)
        for x, y in training_batches(samples, np.arange(900), batch_size=32, seed=order, steps=58):
            model.train_on_batch(x["inputs"], y)
            for kernel, mask in zip(kernels, masks, strict=True):
                kernel.assign(kernel.numpy() * mask)
        ranked = sorted(
            (abs(value), which, place)
            for which, (kernel, mask) in enumerate(zip(kernels, masks, strict=True))
            for place, value in enumerate(kernel.numpy().ravel())
            if mask.ravel()[place]
        )
        for _, which, place in ranked[: int(len(ranked) * rate + 0.5)]:
            masks[which].ravel()[place] = False
    expected = Masks(dict(zip(prunable_weights(model), masks, strict=True)))
    assert result.tickets[-1].masks == expected
    assert all(r["train_samples"] == 900 for r in result.summary["rounds"])
    assert result.summary["cost"]["steps_saved"] == 0


@both
def test_ticket_retrains_with_masks_held(runs, flavor):
    result, _ = runs[flavor]
    ticket = result.tickets[2]
    model = make_model_fn(flavor)()
    trained = ticket.retrain(model, TRAIN, recipe=RECIPE)
    assert trained.steps == 4 * 26 - 15
    weights = snapshot(model)
    for name, mask in ticket.masks.items():
        assert np.count_nonzero(weights[name]) == np.count_nonzero(mask)
    wide = importlib.import_module(flavor).Sequential(
        [importlib.import_module(flavor).layers.InputLayer((64,))]
        + [importlib.import_module(flavor).layers.Dense(n) for n in (41, 20, 10)]
    )
    before = snapshot(wide)
    with pytest.raises(MismatchError, match="Use a model of the same architecture"):
        ticket.apply(wide)
    for name, value in snapshot(wide).items():
        np.testing.assert_array_equal(value, before[name])


def test_early_stop_waits_for_the_rewind_point_and_dense_is_trained_for_comparison(tmp_path):
    pruning = dataclasses.replace(PRUNING, rounds=1, rewind="2ep")
    last = dataclasses.replace(PRUNING, rounds=1, rewind="3.5ep")
    prac = PracConfig(early_stop_eps=1e-9, early_stop_window=1)
    search = make_search("keras", tmp_path / "a", pruning=pruning, prac=prac)
    assert search.run(TRAIN, test=TEST).summary["rounds"][0]["stop"] == "budget"

    from tf_prac.pruning import mask_distance

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mask_distance.MaskDistanceStop, "update", lambda self, distance: True)
        search = make_search("keras", tmp_path / "b", pruning=pruning, prac=prac, retrain="last")
        summary = search.run(TRAIN, test=TEST).summary
        search = make_search("keras", tmp_path / "c", pruning=last, prac=prac, retrain="last")
        at_the_end = search.run(TRAIN, test=TEST).summary
    assert at_the_end["rounds"][0]["stop"] == "budget"  # the rule fired when all was done anyway
    assert at_the_end["dense"]["source"] == "round_00"
    assert summary["rounds"][0]["stop"] == "early_stop"
    assert summary["rounds"][0]["epochs"] == 2
    assert summary["dense"]["source"] == "tickets/round_00"
    assert summary["cost"]["reference_steps"] == 4 * 26 - 52


@both
def test_test_accuracy_is_that_of_the_best_validation_epoch_and_of_the_last(
    flavor, tmp_path, monkeypatch
):
    trainings = []
    train = Trainer.train
    monkeypatch.setattr(
        Trainer, "train", lambda *a, **k: trainings.append(train(*a, **k)) or trainings[-1]
    )
    pruning = dataclasses.replace(PRUNING, rounds=1)
    search = make_search(flavor, tmp_path / "run", pruning=pruning, retrain="last")
    summary = search.run(TRAIN, test=TEST).summary
    for trained, figures in zip(trainings, (summary["dense"], summary["tickets"][1]), strict=True):
        best, last = trained.best_weights, trained.weights
        assert figures["test_accuracy"] == search.evaluate(best, TEST)
        assert figures["test_accuracy_last"] == search.evaluate(last, TEST)
        values = [row["val_accuracy"] for row in trained.history]
        assert figures["val_accuracy"] == max(values) == trained.best.value


def test_tickets_named_by_number_are_retrained_and_no_others(tmp_path):
    search = make_search("keras", tmp_path / "run", retrain=[3, 1, 3])
    tickets = search.run(TRAIN, test=TEST).summary["tickets"]
    assert [t["round"] for t in tickets if t["retrain_steps"]] == [1, 3]
    for ticket in tickets:
        assert ("test_accuracy_last" in ticket) == (ticket["test_accuracy"] is not None)
    for bad in ([4], [-1], [1.5], [True], "3"):
        with pytest.raises(ArgumentError, match="retrain: .* or numbers of tickets from 0 to 3"):
            make_search("keras", tmp_path / "other", retrain=bad)


def test_floors(tmp_path):
    """A tiny set is filled up, and a round never has less than one epoch."""
    prac = PracConfig(forget_threshold=50, never_learned="ignore", use_cep=False, budget="epochs")
    search = make_search("keras", tmp_path / "run", prac=prac, retrain="none")
    rounds = search.run(TRAIN).summary["rounds"]
    for figures in rounds:
        assert (figures["cet"], figures["cep"], figures["prac_size"]) == (0, 0, 9)
    assert [figures["epochs"] for figures in rounds] == [4, 1, 1]


def test_official_preset_runs(tmp_path):
    official = PRAC_VARIANTS["official"]
    pruning = dataclasses.replace(PRUNING, **{**official.pruning, "layers": ("dense",)})
    search = make_search("keras", tmp_path / "run", pruning=pruning, prac=official.prac)
    summary = search.run(TRAIN, test=TEST).summary
    assert summary["rounds"][0]["cep"] == 0
    assert summary["cost"]["full_imp_steps"] == 3 * 4 * 26
    assert summary["tickets"][-1]["retrain_steps"] == 4 * 26


@both
def test_a_diverging_loss_stops_the_round_and_says_where(flavor, tmp_path):
    recipe = dataclasses.replace(RECIPE, learning_rate=1e30)
    with pytest.raises(NonFiniteLossError, match=r"NaN or infinite at step \d+ of 104 .epoch 1"):
        make_search(flavor, tmp_path / "run", recipe=recipe).run(TRAIN)
    assert {p.name for p in (tmp_path / "run").iterdir()} == {".lock", "config.json"}


@both
@pytest.mark.parametrize(
    ("units", "error", "message"),
    [
        (1, DataError, "labels: from 0 to 9 received; allowed: 0 or 1"),
        (3, ArgumentError, "model: received '3 outputs'"),
    ],
)
def test_a_model_has_an_output_for_each_class(flavor, units, error, message, tmp_path):
    keras = importlib.import_module(flavor)
    layers = [keras.layers.InputLayer((64,)), keras.layers.Dense(9), keras.layers.Dense(units)]
    search = TicketSearch(lambda: keras.Sequential(layers), RECIPE, directory=tmp_path / "run")
    with pytest.raises(error, match=message):
        search.run(TRAIN)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "data", "error", "message"),
    [
        ({"pruning": PruningConfig(rewind="4ep")}, TRAIN, ArgumentError, "rewind: received '4ep'"),
        ({}, (X[:9], Y[:8]), DataError, "lengths differ"),
        ({}, (X, Y + 0.5), ArgumentError, "task: received .no loss, labels float64"),
        ({}, (X, Y - 5), DataError, "labels"),
        ({}, "digits", ArgumentError, "data: received"),
    ],
)
def test_bad_input_writes_nothing(tmp_path, changes, data, error, message):
    with pytest.raises(error, match=message):
        make_search("keras", tmp_path / "run", **changes).run(data)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ArgumentError, match="seed"):
        make_search("keras", tmp_path / "run", seed=-1)


def test_a_foreign_directory_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileError, match="not empty and not a run"):
        make_search("keras", tmp_path).run(TRAIN)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_damaged_files_are_named_and_made_again_from_intact_ones(runs, tmp_path, capsys):
    result, _ = runs["keras"]
    run = tmp_path / "run"
    shutil.copytree(result.directory, run)
    shutil.copy(runs["tf_keras"][0].directory / "rewind.npz", run)
    for name in ("round_01/masks.npz", "tickets/round_02/masks.npz"):
        (run / name).write_bytes((run / name).read_bytes()[:-7])
    (run / "tickets/round_03/trained.npz").unlink()
    again = make_search("keras", run, verbose=True).run(TRAIN, test=TEST)
    said = capsys.readouterr().out
    for name, remedy in (
        ("rewind.npz: damaged, or of another run. ", "Round 0 is trained again."),
        ("round_01/masks.npz: damaged, its SHA-256 ", "Round 1 is trained again."),
        ("round_02/masks.npz: damaged, ", "The ticket is written again."),
        ("round_03/trained.npz: no such file. ", "It is retrained again."),
    ):
        assert [line for line in said.splitlines() if name in line and line.endswith(remedy)]
    assert RunDirectory(run).summary() == json.loads(json.dumps(again.summary))
    for ours, theirs in zip(again.tickets, result.tickets, strict=True):
        assert ours.masks == theirs.masks
        for name, weight in ours.weights.items():
            np.testing.assert_allclose(weight, theirs.weights[name], atol=1e-5)
    assert (run / "tickets/round_03/trained.npz").exists()


@pytest.mark.parametrize(
    "name", ["config.json", "round_01/round.json", "tickets/round_03/ticket.json"]
)
def test_a_newer_file_is_refused_and_left_alone(runs, tmp_path, name, monkeypatch):
    run = tmp_path / "run"
    shutil.copytree(runs["keras"][0].directory, run)
    kind = name.split("/")[-1].removesuffix(".json")
    content = read_json(run / name, kind)
    with monkeypatch.context() as patch:
        patch.setattr("tf_prac.storage.files.SCHEMA", 7)
        write_json(run / name, kind, content)
    before = files_of(run)
    with pytest.raises(FileError, match=r"newer tf_prac \(schema 7; this one reads up to 1\)"):
        make_search("keras", run).run(TRAIN, test=TEST)
    assert {p: b for p, b in files_of(run).items() if p.name != ".lock"} == {
        p: b for p, b in before.items() if p.name != ".lock"
    }


def subclassed(keras):
    class Network(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden = [keras.layers.Dense(20, activation="relu"), keras.layers.Dense(15)]
            self.drop = keras.layers.Dropout(0.2)
            self.logits = keras.layers.Dense(10)

        def call(self, x, training=None):
            for layer in self.hidden:
                x = layer(x)
            return self.logits(self.drop(x, training=training))

    network = Network()
    network(np.zeros((1, 64), np.float32))
    return network


def nested(keras):
    inner = keras.Sequential(
        [keras.layers.InputLayer((8, 8, 1)), keras.layers.Conv2D(4, 3), keras.layers.Flatten()]
    )
    return keras.Sequential(
        [
            keras.layers.InputLayer((64,)),
            keras.layers.Reshape((8, 8, 1)),
            inner,
            keras.layers.BatchNormalization(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )


@halved("flavor, make", FLAVORS, [subclassed, nested])
@pytest.mark.filterwarnings("ignore:.*saved as HDF5:UserWarning")
def test_any_kind_of_model_goes_through(flavor, make, tmp_path, capsys):
    keras = importlib.import_module(flavor)
    recipe = dataclasses.replace(RECIPE, optimizer="adam", learning_rate=0.003)
    pruning = PruningConfig(rounds=2, scope="layerwise", prune_last_dense=True)
    search = TicketSearch(
        lambda: make(keras), recipe, pruning, directory=tmp_path / "run", verbose=True
    )
    result = search.run(TRAIN, test=TEST)
    trained = read_npz(tmp_path / "run/tickets/round_02/trained.npz", "weights")
    for name, mask in result.tickets[-1].masks.items():
        size = mask.size - int(mask.size * 0.2 + 0.5)
        assert mask.sum() == size - int(size * 0.2 + 0.5)
        assert np.count_nonzero(trained[name]) == mask.sum()
    printed = capsys.readouterr().out
    assert "round  1" in printed and "ticket  2" in printed
    assert (tmp_path / "run/tickets/round_02/model.keras").exists() or "not saved" in printed


@both
def test_a_model_that_keras_cannot_save_is_left_out(flavor, tmp_path, capsys):
    keras = importlib.import_module(flavor)

    class Unsaved(keras.layers.Layer):
        def call(self, x):
            return x

        def get_config(self):
            raise NotImplementedError

    def model_fn():
        inputs = keras.Input((64,))
        return keras.Model(inputs, keras.layers.Dense(10)(Unsaved()(inputs)))

    pruning = PruningConfig(rounds=1, rewind="2it", prune_last_dense=True)
    recipe = dataclasses.replace(RECIPE, epochs=1)
    result = TicketSearch(model_fn, recipe, pruning, directory=tmp_path).run(TRAIN)
    message = "not saved as model.keras (NotImplementedError); the weights are in trained.npz"
    assert message in capsys.readouterr().out
    assert result.summary["tickets"][-1]["retrain_steps"] > 0
    path = tmp_path / "tickets/round_01"
    assert (path / "trained.npz").exists() and not (path / "model.keras").exists()


def test_arrays_datasets_and_streams_find_the_same_ticket(runs, tmp_path):
    """And a stream that holds nothing in memory goes through as well."""
    from tf_prac.data.stream import StreamSamples

    options = {"pruning": dataclasses.replace(PRUNING, rounds=2), "retrain": "none"}
    dataset = tf.data.Dataset.from_tensor_slices(TRAIN)
    expected = runs["keras"][0]
    for name, data in (("dataset", dataset), ("stream", StreamSamples(dataset))):
        result = make_search("keras", tmp_path / name, **options).run(data)
        assert result.tickets[2].masks == expected.tickets[2].masks
        for ours, theirs in zip(result.summary["rounds"], expected.summary["rounds"], strict=False):
            assert ours["prac_size"] == theirs["prac_size"]
    nothing_held = StreamSamples(dataset, memory_limit_bytes=0, buffer_size=100)
    result = make_search("keras", tmp_path / "reread", **options).run(nothing_held)
    rounds = result.summary["rounds"]
    assert [r["train_samples"] for r in rounds[1:]] == [r["prac_size"] for r in rounds[:-1]]
    assert rounds[0]["val_accuracy"] > 0.5
