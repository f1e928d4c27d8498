"""Files of KerasTuner that a kill cut: which one is named, and the tuning continues."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil

import pytest
from test_tuner import RECIPE, data, make_tuner

from tf_prac import PracConfig
from tf_prac.errors import DamagedFileError, MismatchError
from tf_prac.tuning.project import reload_oracle
from tf_prac.tuning.tuner import PracTuner, keras_tuner

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{name}:DeprecationWarning")
    for name in ("currentThread", "getName")
]
LENGTHS = (0, 1, 0.5, -1)  # bytes that are left, a fraction of the file, or all but one


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A finished tuning of two trials."""
    directory = tmp_path_factory.mktemp("tuned")
    make_tuner("keras", directory).search(data())
    return directory


def cut(file, length):
    content = file.read_bytes()
    end = int(length * len(content)) if isinstance(length, float) else length
    file.write_bytes(content[:end])


def ran(tuner, monkeypatch):
    """The trials that a search runs; none trains."""
    numbers = []

    def run_trial(self, trial, *_):
        numbers.append(trial.trial_id)
        return {"val_accuracy": 0.5, "steps_saved": 0.0, "search_steps": 1.0, "score": 0.5}

    monkeypatch.setattr(PracTuner, "run_trial", run_trial)
    tuner.search(data())
    return numbers


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("name", ["oracle.json", "tuner0.json", "trial_1/trial.json"])
def test_a_cut_file_is_named_and_whole_trials_are_kept(
    name, length, tuned, tmp_path, monkeypatch, capsys
):
    shutil.copytree(tuned, tmp_path, dirs_exist_ok=True)
    scores = {n: t.score for n, t in make_tuner("keras", tmp_path).oracle.trials.items()}
    file = tmp_path / "tuning" / name
    cut(file, length)
    capsys.readouterr()
    tuner = make_tuner("keras", tmp_path)
    output = capsys.readouterr().out
    whole = [n for n in scores if n not in name]
    assert {n: tuner.oracle.trials[n].score for n in whole} == {n: scores[n] for n in whole}
    if name == "tuner0.json":
        assert "damaged" not in output, "nothing in it is needed"
    else:
        assert f"{file}: damaged (" in output
    assert len(tuner.oracle.trials) == 2 and ran(tuner, monkeypatch) == []
    assert tuner.best_trial().trial_id in whole
    tuner.oracle.max_trials = 3
    assert ran(tuner, monkeypatch) == ["2"], "the tuning continues"
    json.loads((tmp_path / "tuning" / "oracle.json").read_text())


def test_a_trial_that_was_interrupted_runs_again(tuned, tmp_path, monkeypatch):
    shutil.copytree(tuned, tmp_path, dirs_exist_ok=True)
    project = tmp_path / "tuning"
    trial = json.loads((project / "trial_1/trial.json").read_text())
    (project / "trial_1/trial.json").write_text(json.dumps({**trial, "status": "RUNNING"}))
    cut(project / "oracle.json", 0.5)
    assert ran(make_tuner("keras", tmp_path), monkeypatch) == ["1"]


@pytest.mark.parametrize("text", ["[]", "null", "{}", '{"start_order": ["7"]}', "\0"])
def test_other_json_is_damaged_too(text, tuned, tmp_path, capsys):
    shutil.copytree(tuned, tmp_path, dirs_exist_ok=True)
    (tmp_path / "tuning" / "oracle.json").write_text(text)
    tuner = make_tuner("keras", tmp_path)
    assert "oracle.json: damaged (" in capsys.readouterr().out
    assert [t.status for t in tuner.oracle.trials.values()] == ["COMPLETED"] * 2


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("nothing", path)])
@pytest.mark.parametrize("name", ["oracle.json", "tuner0.json", "trial_1/trial.json"])
def test_what_is_no_regular_file_is_refused_without_waiting(name, make, tuned, tmp_path):
    shutil.copytree(tuned, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "tuning" / name
    file.unlink()
    make(file)
    with pytest.raises(DamagedFileError, match=f"{file}: not a regular file. Remove it"):
        make_tuner("keras", tmp_path)


def test_a_trial_without_its_file_counts_as_failed(tuned, tmp_path, monkeypatch, capsys):
    shutil.copytree(tuned, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "tuning" / "trial_1" / "trial.json"
    file.unlink()
    tuner = make_tuner("keras", tmp_path)
    assert f"{file}: damaged (" in capsys.readouterr().out
    assert [trial.status for trial in tuner.oracle.trials.values()] == ["COMPLETED", "FAILED"]
    assert ran(tuner, monkeypatch) == []


def grid(max_trials):
    objective = keras_tuner.Objective("score", "max")
    return keras_tuner.oracles.GridSearchOracle(objective, max_trials=max_trials)


SPACE = {"prune_rate": [0.3, 0.5]}


@pytest.mark.parametrize("is_cut", [False, True])
def test_a_grid_continues_with_the_combinations_that_are_left(is_cut, tmp_path, monkeypatch):
    at_once = make_tuner("keras", tmp_path / "at_once", space=SPACE, oracle=grid(6))
    ran(at_once, monkeypatch)
    for max_trials in (1, 3, 4, 6):
        tuner = make_tuner("keras", tmp_path, space=SPACE, oracle=grid(max_trials))
        ran(tuner, monkeypatch)
        cut(tmp_path / "tuning" / "oracle.json", 0.5 if is_cut else 1.0)
    assert len(tuner.rows()) == 6 and tuner.rows() == at_once.rows()


def test_an_interrupted_trial_of_a_grid_runs_again(tmp_path, monkeypatch):
    ran(make_tuner("keras", tmp_path, space=SPACE, oracle=grid(1)), monkeypatch)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(PracTuner, "run_trial", killed)
    with pytest.raises(KeyboardInterrupt):
        make_tuner("keras", tmp_path, space=SPACE, oracle=grid(4)).search(data())
    tuner = make_tuner("keras", tmp_path, space=SPACE, oracle=grid(4))
    assert ran(tuner, monkeypatch) == ["1", "2", "3"]


OTHER = [
    ({"sparsity": 0.3}, "rounds: [0-9] requested"),
    ({"recipe": dataclasses.replace(RECIPE, epochs=3)}, "epochs: 3 requested, but .* has 2"),
    ({"prac": PracConfig(early_stop_eps=None, hard_cutoff=0.5)}, "hard_cutoff: 0.5 requested"),
    ({"seeds": (1,)}, "seeds: seed_1 requested, but .*trial_0 has seed_0"),
    ({"seeds": (0, 1)}, "seeds: seed_0, seed_1 requested"),
]


@pytest.mark.parametrize(("options", "message"), OTHER)
def test_trials_with_other_options_are_not_continued(options, message, tuned):
    with pytest.raises(MismatchError, match=message):
        make_tuner("keras", tuned, **options)


def test_hyperband_cannot_be_rebuilt_and_says_what_to_do(tmp_path):
    objective = keras_tuner.Objective("score", "max")
    oracle = keras_tuner.oracles.HyperbandOracle(objective, max_epochs=4)
    (tmp_path / "oracle.json").write_bytes(b"{")
    with pytest.raises(DamagedFileError, match=r"oracle.json: damaged .* tune in another dir"):
        reload_oracle(oracle, tmp_path, print)
