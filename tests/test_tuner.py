"""`PracTuner` and `tf-prac tune`: metrics, resumption, failures and search spaces."""

from __future__ import annotations

import csv
import importlib
import re

import numpy as np
import pytest
from source_tree import ROOT

from tf_prac import PracConfig, PracTuner, Range, TrainingRecipe
from tf_prac.cli.main import main
from tf_prac.config import SearchConfig
from tf_prac.errors import ArgumentError, DataError
from tf_prac.pruning.weights import prunable_weights, snapshot
from tf_prac.search.ticket_search import _Session
from tf_prac.storage.files import read_json
from tf_prac.tuning.space import check_space, parse_space, rounds_to
from tf_prac.tuning.tuner import keras_tuner

# KerasTuner asks for the thread and its name in ways that Python 3.10 deprecated.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{name}:DeprecationWarning")
    for name in ("currentThread", "getName")
]

RECIPE = TrainingRecipe(epochs=2, batch_size=10, validation_split=0.2, schedule="constant")
SPACE = {
    "prune_rate": [0.3, 0.5],
    "learning_rate": Range(0.01, 0.2, log=True),
    "early_stop_eps": [None, 0.05],
    "forget_threshold": Range(0, 3),
}


def data():
    generator = np.random.default_rng(0)
    y = generator.integers(0, 3, 60)
    return (generator.normal(size=(60, 6)) + 2 * np.eye(3, 6)[y]).astype(np.float32), y


def random_oracle(objective="score"):
    objective = keras_tuner.Objective(objective, "max")
    return keras_tuner.oracles.RandomSearchOracle(objective, max_trials=2, seed=3)


def make_tuner(flavor, directory, *, space=SPACE, oracle=None, **options):
    keras = importlib.import_module(flavor)

    def build(hp):
        units = hp.Int("units", 4, 40)
        layers = keras.layers
        return keras.Sequential(
            [layers.InputLayer((6,)), layers.Dense(units, activation="relu"), layers.Dense(3)]
        )

    oracle = oracle or random_oracle()
    oracle.verbose = 0
    prac = PracConfig(early_stop_eps=None)
    options = {"sparsity": 0.6, "recipe": RECIPE, "prac": prac, **options}
    return PracTuner(oracle, build, space, directory=directory, **options)


@pytest.mark.parametrize(  # the other tests are of Keras 3
    "flavor", [pytest.param("keras", marks=pytest.mark.slow), "tf_keras"]
)
def test_a_killed_tuning_resumes_within_its_trial(flavor, tmp_path, monkeypatch):
    finish = _Session.finish

    def killed(self, *arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(_Session, "finish", killed)
    with pytest.raises(KeyboardInterrupt):
        make_tuner(flavor, tmp_path).search(data())
    first = tmp_path / "tuning" / "trial_0" / "seed_0"
    done = {path: path.stat().st_mtime_ns for path in first.glob("round_*/round.json")}
    assert len(done) >= 2

    monkeypatch.setattr(_Session, "finish", finish)
    tuner = make_tuner(flavor, tmp_path)
    tuner.search(data())
    assert {path: path.stat().st_mtime_ns for path in done} == done
    written = (tmp_path / "tuning" / "trials.csv").read_text().splitlines()
    rows = list(csv.DictReader(written))
    assert [row["trial"] for row in rows] == ["0", "1"]

    for row, trial in zip(rows, tuner.oracle.trials.values(), strict=True):
        summary = read_json(tuner.run_path(trial) / "summary.json", "summary")
        ticket, cost = summary["tickets"][-1], summary["cost"]
        assert ticket["sparsity"] == pytest.approx(0.6, abs=0.02)
        assert float(row["val_accuracy"]) == ticket["val_accuracy"]
        score = ticket["val_accuracy"] + 0.1 * cost["steps_saved"]
        assert float(row["score"]) == pytest.approx(score)
        config = read_json(tuner.run_path(trial) / "config.json", "config")
        assert config["keras"] == flavor
        assert str(config["recipe"]["learning_rate"]) == row["learning_rate"]
        assert str(config["prac"]["early_stop_eps"] or "") == row["early_stop_eps"]
        assert config["pruning"]["rounds"] == (3 if row["prune_rate"] == "0.3" else 2)

    best = max(rows, key=lambda row: float(row["score"]))
    assert tuner.best_trial().trial_id == best["trial"]
    model = tuner.get_best_models()[0]
    (name,) = prunable_weights(model)
    kept, mask = snapshot(model)[name] != 0, tuner.best_ticket().masks[name]
    assert mask.shape == (6, int(best["units"])) and kept.any()
    np.testing.assert_array_equal(kept, kept & mask)

    monkeypatch.setattr(_Session, "finish", killed)
    make_tuner(flavor, tmp_path).search(data())  # has nothing more to do


def test_an_impossible_trial_fails_and_the_tuning_continues(tmp_path):
    tuner = make_tuner("keras", tmp_path, space={"rewind": ["1000it", "0it"]})
    for rewind in ("1000it", "0it"):
        trial = tuner.oracle.create_trial("tuner0")
        trial.hyperparameters.values["rewind"] = rewind
        tuner.on_trial_begin(trial)
        tuner._try_run_and_update_trial(trial, data())
        tuner.on_trial_end(trial)
    failed, fine = tuner.rows()
    assert failed["status"] == "FAILED" and fine["status"] == "COMPLETED"
    assert "val_accuracy" not in failed and fine["search_steps"] > 0
    assert "before the end of training" in tuner.oracle.trials["0"].message


def test_bad_data_ends_the_tuning(tmp_path):
    x, y = data()
    x[7] = np.nan
    with pytest.raises(DataError):
        make_tuner("keras", tmp_path).search((x, y))


def test_hyperband_sets_the_budget(tmp_path):
    keras = importlib.import_module("keras")
    objective = keras_tuner.Objective("val_accuracy", "max")
    tuner = PracTuner(
        keras_tuner.oracles.HyperbandOracle(objective, max_epochs=4, seed=0),
        lambda hp: keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)]),
        {"learning_rate": Range(0.01, 0.1)},
        sparsity=0.5,
        pruning=SearchConfig().replace(layer_rates=("output=0.1",)).pruning,
        directory=tmp_path,
    )
    values = tuner.oracle.create_trial("tuner0").hyperparameters
    config = tuner.options(values)
    assert config.recipe.epochs == values["tuner/epochs"]
    assert config.recipe.learning_rate == values["learning_rate"]
    assert config.pruning.sparsities[-1] == 0.5 and config.pruning.layer_rates == ()


def test_options_may_be_overridden(tmp_path):
    class Tuner(PracTuner):
        def options(self, hp):
            config = super().options(hp)
            return config.replace(rewind=f"{config.recipe.epochs - 1}ep")

    keras = importlib.import_module("keras")
    oracle = keras_tuner.oracles.RandomSearchOracle(
        keras_tuner.Objective("score", "max"), max_trials=1, seed=0
    )
    oracle.verbose = 0
    tuner = Tuner(
        oracle,
        lambda hp: keras.Sequential(
            [keras.Input((6,)), keras.layers.Dense(4), keras.layers.Dense(3)]
        ),
        {"learning_rate": Range(0.01, 0.1)},
        sparsity=0.5,
        recipe=RECIPE,
        directory=tmp_path,
    )
    tuner.search(data())
    assert tuner.best_ticket().sparsity == 0.5
    (trial,) = oracle.trials.values()
    stored = read_json(tuner.run_path(trial) / "config.json", "config")
    assert stored["pruning"]["rewind"] == "1ep"


def test_bad_options_of_a_tuner_are_refused(tmp_path):
    for options, message in (
        ({"sparsity": 1.0}, "sparsity"),
        ({"steps_weight": -1}, "steps_weight"),
        ({"seeds": ()}, "at least one seed"),
        ({"space": {"units": [1]}}, "space: received 'units'"),
        ({"seeds": 5}, "seeds: received 5; allowed: a list"),
        ({"overwrite": "no"}, "overwrite: received 'no'; allowed: True or False"),
        ({"verbose": 1}, "verbose: received 1"),
        ({"oracle": random_oracle("loss")}, "oracle: received 'loss'.*val_accuracy"),
        ({"oracle": random_oracle("search_steps")}, "search_steps.*allowed: the direction 'min'"),
    ):
        with pytest.raises(ArgumentError, match=message):
            make_tuner("keras", tmp_path, **options)
    tuner = make_tuner("keras", tmp_path, recipe=TrainingRecipe(validation_split=0))
    with pytest.raises(ArgumentError, match="validation: received None"):
        tuner.search(data())


def test_a_space_is_parsed():
    text = "prune_rate=0.1..0.5, learning_rate=0.01..0.3:log,rewind=0it|2%,early_stop_eps=off|0.07"
    assert parse_space(text + ",lr_rewind=true|false,epochs=2..9,optimizer=sgd") == {
        "prune_rate": Range(0.1, 0.5),
        "learning_rate": Range(0.01, 0.3, log=True),
        "rewind": ("0it", "2%"),
        "early_stop_eps": (None, 0.07),
        "lr_rewind": (True, False),
        "epochs": Range(2, 9),
        "optimizer": ("sgd",),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at least one option"),
        ("prune_rate", "OPTION=LOW..HIGH"),
        ("prune_rate=", "OPTION=LOW..HIGH"),
        ("prune_rate=0.1|0.2,prune_rate=0.3", "OPTION=LOW..HIGH"),
        ("prune_rate=a..b", "numbers on both sides"),
        ("rewind=0it..5it", "numbers on both sides"),
        ("prune_rate=0.5..0.1", "high: received 0.1"),
        ("prune_rate=0.1..1.5", "prune_rate: received 1.5"),
        ("prune_rate=0..0.5:log", "low: received 0"),
        ("rewind=soon|0it", "rewind: received 'soon'"),
        ("optimizer=1..2", "a list of values for optimizer"),
        ("rounds=2|3", "space: received 'rounds'"),
        ("unit=1|2", "options of a search: .*prune_rate"),
    ],
)
def test_a_bad_space_is_refused(text, message):
    with pytest.raises(ArgumentError, match=message):
        parse_space(text)


def test_a_space_in_python_has_lists_and_ranges():
    assert check_space({"prune_rate": [0.1]}) == {"prune_rate": (0.1,)}
    for wrong in ("0.1", [], 0.1):
        with pytest.raises(ArgumentError, match="Range\\(low, high\\) or a list"):
            check_space({"prune_rate": wrong})


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("sparsity", [0.05, 0.5, 0.75, 0.9, 0.99])
def test_rounds_reach_the_sparsity_exactly_in_the_fewest_rounds(rate, sparsity):
    found = rounds_to(sparsity, rate)
    assert found[-1] == sparsity and list(found) == sorted(set(found))
    density = 1.0
    for reached in found:
        assert 1 - reached >= density * (1 - rate) - 1e-9
        density = 1 - reached
    assert (1 - rate) ** (len(found) - 1) > 1 - sparsity


def test_values_replace_the_options_of_their_group():
    config = SearchConfig.of(RECIPE).replace(epochs=3, rewind="0it", cet_rate=0.2)
    assert (config.recipe.epochs, config.recipe.batch_size) == (3, 10)
    assert (config.pruning.rewind, config.prac.cet_rate) == ("0it", 0.2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--space: received None"),
        (["--space=prune_rate=2|3"], "--prune_rate: received 2"),
        (["--space=prune_rate=0.2", "--objective=loss"], "--objective: received 'loss'"),
        (["--space=prune_rate=0.2", "--oracle=best"], "--oracle: received 'best'"),
        (["--space=prune_rate=0.2", "--sparsity=most"], "--sparsity: received 'most'"),
        (["--space=prune_rate=0.2", "--sparsity=1"], "--sparsity: received 1.0"),
        (["--space=prune_rate=0.2", "--max_trials=0"], "--max_trials: received 0"),
        (["--space=prune_rate=0.2", "--tuner_seed=-1"], "--tuner_seed: received -1"),
        (["RUN"], "flags only"),
    ],
)
def test_bad_input_of_the_command_is_one_line(arguments, message, capsys):
    assert main(["tune", *arguments]) == 2
    output = capsys.readouterr().err
    assert message in output and output.count("\n") == 1


def test_the_command_tunes(tmp_path, capsys):
    arguments = ["--space=prune_rate=0.5|0.6", "--sparsity=0.5", "--epochs=1", "--limit_train=200"]
    arguments += ["--max_trials=2", "--oracle=grid", f"--output_dir={tmp_path}"]
    assert main(["tune", *arguments]) == 0
    output = capsys.readouterr().out
    assert "* trial" in output and "prune_rate 0.6" in output
    assert (tmp_path / "trials" / "trials.csv").exists()
    assert main(["info", str(tmp_path / "trials" / "trial_0" / "seed_0")]) == 0


def test_the_code_of_the_page_about_tuning_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "tuning.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    names = dict(zip(("x_train", "y_train"), data(), strict=True))
    exec(compile(code, "docs/tuning.md", "exec"), names)
    assert names["tuner"].best_ticket().sparsity == pytest.approx(0.6, abs=0.01)
