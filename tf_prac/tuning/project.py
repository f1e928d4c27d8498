"""Reads the files of a KerasTuner project again, also if some of them are cut or damaged.

KerasTuner writes `oracle.json`, `tuner0.json` and a `trial.json` for each trial, which `PracTuner`
makes atomic. The trials have all results; `oracle.json` has the order of the trials and what was
tried, which follows from them; `tuner0.json` is empty.
"""

from __future__ import annotations

import functools
import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus

from tf_prac.errors import DamagedFileError

ORACLE, TRIAL = "oracle.json", "trial.json"
REBUILT = (
    keras_tuner.oracles.RandomSearchOracle,
    keras_tuner.oracles.BayesianOptimizationOracle,
    keras_tuner.oracles.GridSearchOracle,
)
"""Oracles whose state follows from their trials; that of Hyperband does not."""

GRID = keras_tuner.oracles.GridSearchOracle


def check_project(project: pathlib.Path) -> None:
    """Raises `DamagedFileError` for a pipe, link or directory in place of a file of KerasTuner."""
    for file in [*project.glob("*.json"), *(path / TRIAL for path in project.glob("trial_*"))]:
        if os.path.lexists(file) and not file.is_file():
            raise DamagedFileError(f"{file}: not a regular file. Remove it and tune again.")


def has_trials(project: pathlib.Path) -> bool:
    """Whether a tuning was started in a directory."""
    return (project / ORACLE).exists() or any(project.glob(f"trial_*/{TRIAL}"))


def reload_oracle(oracle: Any, project: pathlib.Path, log: Callable[[str], None]) -> None:
    """Sets an oracle to the state of an interrupted tuning.

    A damaged `oracle.json` is rebuilt from the trials. A damaged trial counts as failed.

    Args:
        oracle: a new oracle of the same class and options.
        project: the directory of the tuning.
        log: called with a line about each damaged file.

    Raises:
        DamagedFileError: If `oracle.json` is damaged and cannot be rebuilt.
    """
    file = project / ORACLE
    oracle.trials = _read_trials(oracle, project, log)
    problem = _try_set_state(oracle, file)
    if problem is not None:
        _rebuild(oracle, file, problem, log)
    if isinstance(oracle, GRID):
        _order_grid(oracle)


def _rebuild(oracle: Any, file: pathlib.Path, problem: str, log: Callable[[str], None]) -> None:
    """Sets an oracle whose file is damaged to the state that follows from its trials."""
    if not isinstance(oracle, REBUILT):
        raise DamagedFileError(
            f"{file}: damaged ({problem}). The state of {type(oracle).__name__} is only in this "
            "file. Restore it from a copy, or tune in another directory."
        )
    log(f"{file}: damaged ({problem}). It is rebuilt from {len(oracle.trials)} trials.")
    oracle.set_state(_state_of_trials(oracle))
    _requeue(oracle)


def _order_grid(oracle: Any) -> None:
    """Restores what `GridSearchOracle` does not save: the order of the combinations it tried.

    Each is asked for its next combination again; those that were tried are skipped.
    """
    order = functools.cmp_to_key(oracle._compare)
    tried = {name: trial.hyperparameters.values for name, trial in oracle.trials.items()}
    names = sorted((n for n in oracle.start_order if tried[n]), key=lambda n: order(tried[n]))
    for name in names:
        oracle._ordered_ids.insert(name)
    oracle._populate_next = names


def _read_trials(
    oracle: Any, project: pathlib.Path, log: Callable[[str], None]
) -> dict[str, Trial]:
    trials: dict[str, Trial] = {}
    for directory in sorted(project.glob("trial_*")):
        file, name = directory / TRIAL, directory.name.removeprefix("trial_")
        if not any(directory.iterdir()):
            continue  # the process was killed before the trial started
        try:
            trial = Trial.load(str(file))
            if trial.trial_id != name:
                raise ValueError(f"it is of trial {trial.trial_id!r}")
            if trial.status == TrialStatus.COMPLETED:
                oracle.score_trial(trial)
        except Exception as error:  # KerasTuner does not check what it reads
            log(f"{file}: damaged ({error}). The trial counts as failed; raise max_trials.")
            trial = Trial(oracle.get_space(), trial_id=name, status=TrialStatus.FAILED)
            trial.message = "trial.json was damaged"
        trials[name] = trial
    return trials


def _try_set_state(oracle: Any, file: pathlib.Path) -> str | None:
    """Sets the state in oracle.json; returns what is wrong with it, or None."""
    fresh = oracle.get_state()
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
        known = {*state["start_order"], *state["end_order"], *state["ongoing_trials"].values()}
        if missing := sorted(known - set(oracle.trials)):
            raise ValueError(f"it names trials without {TRIAL}: {', '.join(missing)}")
        oracle.set_state(state)
        _requeue(oracle)
    except Exception as error:  # KerasTuner does not check what it reads
        oracle.ongoing_trials = {}
        oracle.set_state(fresh)
        return str(error) or type(error).__name__
    return None


def _requeue(oracle: Any) -> None:
    """Trials that were interrupted are run again, as KerasTuner does."""
    state = oracle.get_state()
    queue = [*state["retry_queue"], *state["ongoing_trials"].values()]
    failed = {n for n, t in oracle.trials.items() if t.status == TrialStatus.FAILED}
    end_order = [*state["end_order"], *sorted(failed - set(state["end_order"]))]
    queue = [name for name in dict.fromkeys(queue) if name not in failed]
    oracle.set_state({**state, "retry_queue": queue, "ongoing_trials": {}, "end_order": end_order})


def _state_of_trials(oracle: Any) -> Mapping[str, Any]:
    """Returns the state of an oracle that ran its trials."""
    space, hashes = oracle.get_space(), {}
    for name, trial in oracle.trials.items():
        space.merge(trial.hyperparameters.space)
        hashes[name] = oracle._compute_values_hash(trial.hyperparameters.values)
    ended = [name for name, trial in oracle.trials.items() if _has_ended(trial)]
    fresh = oracle.get_state()
    drawn = sum(len(trial.hyperparameters.values) for trial in oracle.trials.values())
    return {
        **fresh,
        "hyperparameters": space.get_config(),
        "start_order": list(oracle.trials),
        "end_order": ended,
        "ongoing_trials": {},
        "retry_queue": [name for name in oracle.trials if name not in ended],
        "run_times": dict.fromkeys(ended, 1),
        "seed_state": fresh["seed_state"] + drawn,
        "tried_so_far": list(hashes.values()),
        "id_to_hash": hashes,
    }


def _has_ended(trial: Trial) -> bool:
    return trial.status in (TrialStatus.COMPLETED, TrialStatus.FAILED)
