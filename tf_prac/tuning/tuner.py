"""`PracTuner`: KerasTuner with one search per trial, for models of either flavor.

KerasTuner's `Tuner` supports Keras 3 only and relies on
callbacks of `fit`, so `PracTuner` is a `BaseTuner` whose trial is a search for a ticket.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np

from tf_prac.checks import check_bool, check_number, check_seed
from tf_prac.config import (
    AUTO,
    OPTION_GROUPS,
    PracConfig,
    PruningConfig,
    SearchConfig,
    TrainingRecipe,
)
from tf_prac.errors import ArgumentError, MismatchError, NonFiniteLossError, TfPracError
from tf_prac.extras import missing
from tf_prac.pruning.weights import rewind
from tf_prac.search.result import SearchResult
from tf_prac.search.ticket import Ticket
from tf_prac.search.ticket_search import TicketSearch
from tf_prac.storage.atomic import atomic_write, exclusive, remove_directory
from tf_prac.storage.config_check import check_same, flatten
from tf_prac.storage.files import read_npz, write_csv
from tf_prac.storage.layout import CONFIG, TRAINED
from tf_prac.storage.names import check_name
from tf_prac.storage.run_directory import RunDirectory
from tf_prac.tuning.space import (
    METRICS,
    Range,
    Space,
    check_space,
    is_integer,
    rounds_to,
)

try:
    import keras_tuner
    from keras_tuner.engine.base_tuner import BaseTuner
    from keras_tuner.src import utils as keras_tuner_utils
except ModuleNotFoundError as error:
    raise missing("keras_tuner", "tuning") from error

from tf_prac.tuning.project import check_project, has_trials, reload_oracle

TRIALS = "trials.csv"


class PracTuner(BaseTuner):
    """Tunes options of a search and hyperparameters of the model, with any KerasTuner oracle.

    A trial searches for a ticket of exactly the given sparsity; `prune_rate` sets the number of
    rounds, and `layer_rates` do not apply. It reports these metrics to the oracle, whose objective
    is one or several of them: "val_accuracy" (of the retrained ticket; test data is not used),
    "steps_saved" (relative to the same rounds on full data, at most 1), "search_steps" (to be
    minimized), and "score": val_accuracy + steps_weight * steps_saved.

    Example:

        >>> import keras_tuner  # doctest: +SKIP
        >>> oracle = keras_tuner.oracles.BayesianOptimizationOracle(
        ...     keras_tuner.Objective("score", "max"), max_trials=20, seed=0
        ... )
        >>> def build(hp):
        ...     return make_model(units=hp.Int("units", 32, 256, step=32))
        >>> tuner = PracTuner(
        ...     oracle,
        ...     build,
        ...     {"prune_rate": Range(0.2, 0.6), "rewind": ["0it", "2%", "10%"]},
        ...     sparsity=0.9,
        ...     directory="tuning",
        ... )
        >>> tuner.search((x_train, y_train))
        >>> tuner.best_ticket().sparsity, tuner.get_best_hyperparameters()[0].values

    The same call with the same directory resumes where it stopped, also within a round, and if a
    kill left files of KerasTuner damaged. A trial
    whose training diverges, or whose options are inconsistent, is marked as failed, and the search
    continues. An error in data or files ends the search.

    Args:
        oracle: proposes the next trial. A Hyperband oracle sets `epochs`, and needs no `space`.
        build: function that takes `keras_tuner.HyperParameters` and returns a new, built model of
            either flavor.
        space: options of `TrainingRecipe`, `PruningConfig` and `PracConfig` to tune, each with a
            list of values or a `Range`.
        sparsity: sparsity of the ticket of each trial, in (0, 1).
        recipe, pruning, prac: the options that are fixed, as in `TicketSearch`.
        steps_weight: weight of `steps_saved` in "score". Default 0.1: one percentage point of
            accuracy weighs as much as ten of saved steps.
        seeds: the metrics of a trial are the mean over searches with these seeds. Default (0,).
        directory: parent directory of the project. Default ".".
        project_name: name of the project's directory, which stores the trials. Default "tuning".
        overwrite: whether to delete an existing project and start again. Default False.
        verbose: whether searches show progress. Default False.

    Raises:
        ArgumentError: an option cannot be tuned or does not allow a value, or the objective is not
            one of the metrics.
        MismatchError: trials in the directory were run with other options.
    """

    def __init__(
        self,
        oracle: Any,
        build: Callable[[Any], Any],
        space: Space | None = None,
        *,
        sparsity: float,
        recipe: TrainingRecipe | SearchConfig | None = None,
        pruning: PruningConfig | None = None,
        prac: PracConfig | None = None,
        steps_weight: float = 0.1,
        seeds: Collection[int] = (0,),
        directory: str | os.PathLike = ".",
        project_name: str = "tuning",
        overwrite: bool = False,
        verbose: bool = False,
    ):
        check_number("sparsity", sparsity, above=0, below=1)
        check_number("steps_weight", steps_weight, minimum=0)
        check_bool("overwrite", overwrite)
        check_bool("verbose", verbose)
        if not isinstance(seeds, Collection) or not seeds:
            raise ArgumentError("seeds", seeds, "a list of at least one seed")
        for seed in seeds:
            check_seed("seeds", seed)
        self.space, self.sparsity = check_space(space or {}), sparsity
        self.steps_weight, self.seeds = steps_weight, tuple(map(int, seeds))
        self._config = SearchConfig.of(recipe, pruning, prac)
        self._build, self._verbose = build, verbose
        _check_objective(oracle)
        self._reloaded = False
        check_name(pathlib.Path(directory, project_name, "trial_00"))
        self._project = pathlib.Path(directory, project_name)
        if overwrite and self._project.exists():
            with self._exclusive():
                remove_directory(self._project)
        check_project(self._project)
        super().__init__(oracle, self._model, os.fspath(directory), project_name)
        if not self._reloaded and has_trials(self._project):
            self.reload()  # KerasTuner reloads only if tuner0.json exists
        self._check_trials()

    def options(self, hp: Any) -> SearchConfig:
        """Returns the options of a search with the hyperparameter values of a trial.

        Override it to tune combinations of options.

        Raises:
            ArgumentError: the values are inconsistent.
        """
        values = {name: _draw(hp, name, values) for name, values in self.space.items()}
        if "tuner/epochs" in hp.values:  # budget of a Hyperband bracket
            values |= {"epochs": int(hp.values["tuner/epochs"]), "steps": None}
        config = self._config.replace(**values)
        sparsities = rounds_to(self.sparsity, config.pruning.prune_rate)
        return config.replace(rounds=len(sparsities), sparsities=sparsities, layer_rates=())

    def search(self, train: Any, validation: Any = None, test: Any = None) -> None:
        """Runs trials until the oracle stops.

        Args:
            train: as in `TicketSearch.run`.
            validation: as in `TicketSearch.run`. By default held out from `train`.
            test: as in `TicketSearch.run`; only reported, never used to choose. Default None.

        Raises:
            TfPracError: an error in data or files, or another process tunes in the directory.
            RuntimeError: KerasTuner stopped because too many consecutive trials failed.
        """
        if validation is None and not self._config.recipe.validation_split:
            remedy = "Pass validation samples, or set validation_split."
            raise ArgumentError("validation", None, "samples to evaluate trials on", remedy)
        with self._exclusive(), _atomic_json():
            if os.path.exists(self._get_tuner_fname()):
                self.reload()  # another process may have tuned since this tuner was built
            try:
                super().search(train, validation, test)
            except keras_tuner.errors.FatalError as error:
                raise (error.__cause__ or error) from None

    def run_trial(self, trial: Any, train: Any, validation: Any = None, test: Any = None) -> dict:
        """Runs a search for each seed; returns the mean of each metric."""
        metrics = []
        for seed in self.seeds:
            with _oracle_errors():
                result = self._search(trial, seed).run(train, validation, test)
            metrics.append(self._metrics(result))
        return {name: float(np.mean([each[name] for each in metrics])) for name in metrics[0]}

    def on_trial_begin(self, trial: Any) -> None:
        """Saves the state of the tuner, so that an interrupted trial is resumed."""
        super().on_trial_begin(trial)
        self.save()

    def on_trial_end(self, trial: Any) -> None:
        """Reports to the oracle and writes `trials.csv`."""
        super().on_trial_end(trial)
        write_csv(self._project / TRIALS, self.rows())

    def on_search_end(self) -> None:
        """Writes `trials.csv`; a kill may have come between the last trial and its writing."""
        super().on_search_end()
        write_csv(self._project / TRIALS, self.rows())

    def reload(self) -> None:
        """Reads the state of an interrupted tuning, as of the last finished step of the oracle.

        Damaged files are named. Trials whose file is damaged count as failed, and a damaged
        `oracle.json` is rebuilt from the trials, except for Hyperband. A step writes `trial.json`
        before `oracle.json`; if it was killed in between, the trial is run again.

        Raises:
            DamagedFileError: If `oracle.json` cannot be rebuilt.
        """
        self._reloaded = True
        oracle = self.oracle
        reload_oracle(oracle, self._project, print)
        oracle.trials = {name: oracle.trials[name] for name in oracle.start_order}
        oracle._retry_queue = [name for name in oracle._retry_queue if name not in oracle.end_order]
        for name in oracle._retry_queue:
            trial = oracle.trials[name]
            trial.metrics, trial.score, trial.best_step = type(trial.metrics)(), None, 0

    def rows(self) -> list[dict[str, Any]]:
        """Returns the values and metrics of each finished trial, in order."""
        trials = (self.oracle.trials[name] for name in self.oracle.end_order)
        return [
            {
                "trial": trial.trial_id,
                "status": trial.status,
                **self.drawn(trial),
                **{
                    name: trial.metrics.get_best_value(name)
                    for name in METRICS
                    if trial.metrics.exists(name)
                },
            }
            for trial in trials
        ]

    def drawn(self, trial: Any) -> dict[str, Any]:
        """Returns the hyperparameter values of a trial, by name."""
        values = dict(trial.hyperparameters.values)
        for name, choices in self.space.items():
            if name in values and not isinstance(choices, Range) and not _is_plain(choices):
                values[name] = choices[values[name]]
        return values

    def run_path(self, trial: Any, seed: int | None = None) -> pathlib.Path:
        """Returns the directory of a trial's search, an ordinary run."""
        seed = self.seeds[0] if seed is None else seed
        return pathlib.Path(self.get_trial_dir(trial.trial_id)) / f"seed_{seed}"

    def best_trial(self) -> Any:
        """Returns the best trial by the objective; raises `ArgumentError` if none succeeded."""
        trials = self.oracle.get_best_trials(1)
        if not trials:
            raise ArgumentError("trials", len(self.oracle.trials), "a trial that succeeded")
        return trials[0]

    def best_ticket(self) -> Ticket:
        """Returns the ticket of the best trial, with its first seed."""
        return Ticket.load(self._ticket_path(self.best_trial()))

    def load_model(self, trial: Any) -> Any:
        """Returns the model of a trial with its retrained ticket; called by `get_best_models`."""
        path = self._ticket_path(trial)
        model = self._model(trial.hyperparameters)
        rewind(model, read_npz(path / TRAINED, "weights"), Ticket.load(path).masks)
        return model

    def _exclusive(self) -> contextlib.AbstractContextManager[None]:
        return exclusive(self._project, f"{self._project}: another tuning works in it", below=True)

    def _check_trials(self) -> None:
        """Raises `MismatchError` if trials have other options, and so cannot be compared."""
        for name in self.oracle.end_order:
            trial = self.oracle.trials[name]
            directory = pathlib.Path(self.get_trial_dir(name))
            found = {path.parent.name for path in directory.glob(f"seed_*/{CONFIG}")}
            wanted = {self.run_path(trial, seed).name for seed in self.seeds}
            if trial.status != keras_tuner.engine.trial.TrialStatus.COMPLETED or not found:
                continue
            if found != wanted:
                raise MismatchError(
                    f"seeds: {', '.join(sorted(wanted))} requested, but {directory} has "
                    f"{', '.join(sorted(found))}. Request the same, or name another directory."
                )
            self._check_options(trial)

    def _check_options(self, trial: Any) -> None:
        """Raises `MismatchError` unless the first run of a trial has the options of this tuner."""
        run, requested = RunDirectory(self.run_path(trial)), self.options(trial.hyperparameters)
        config, options = run.config(), requested.to_json()
        automatic = tuple(name for name, value in flatten(options).items() if value == AUTO)
        check_same(run.path, options, {name: config[name] for name in OPTION_GROUPS}, automatic)

    def _search(self, trial: Any, seed: int) -> TicketSearch:
        hp = trial.hyperparameters
        return TicketSearch(
            lambda: self._model(hp),
            self.options(hp),
            directory=self.run_path(trial, seed),
            seed=seed,
            verbose=self._verbose,
        )

    def _ticket_path(self, trial: Any) -> pathlib.Path:
        rounds = self.options(trial.hyperparameters).pruning.rounds
        return RunDirectory(self.run_path(trial)).ticket_path(rounds)

    def _model(self, hp: Any) -> Any:
        with contextlib.suppress(ArgumentError):  # the trial raises it
            self.options(hp)
        return self._build(hp)

    def _metrics(self, result: SearchResult) -> dict[str, float]:
        ticket, cost = result.summary["tickets"][-1], result.summary["cost"]
        accuracy, saved = ticket["val_accuracy"], cost["steps_saved"]
        if not result.metric.higher_is_better:
            allowed = (
                "a task whose metric is higher for better models, as the objective is maximized"
            )
            raise ArgumentError("task", f"one with the metric {result.metric.name}", allowed)
        return {
            "val_accuracy": accuracy,
            "steps_saved": saved,
            "search_steps": cost["search_steps"],
            "score": accuracy + self.steps_weight * saved,
        }


def _draw(hp: Any, name: str, values: Range | tuple[Any, ...]) -> Any:
    if not isinstance(values, Range):
        if _is_plain(values):
            return hp.Choice(name, list(values))
        return values[hp.Choice(name, list(range(len(values))))]
    kind = hp.Int if is_integer(name) else hp.Float
    ends = (int(values.low), int(values.high)) if is_integer(name) else (values.low, values.high)
    return kind(name, *ends, sampling="log" if values.log else "linear")


def _is_plain(values: tuple[Any, ...]) -> bool:
    """Whether KerasTuner accepts these choices themselves, not their indices: plain, one type."""
    return len({type(v) for v in values}) == 1 and isinstance(values[0], (int, float, str))


@contextlib.contextmanager
def _atomic_json() -> Iterator[None]:
    """Makes KerasTuner write its JSON atomically during the block."""

    def save(path: str, content: Any) -> str:
        text = json.dumps(content)
        with atomic_write(path) as file:
            file.write(text.encode())
        return text

    original = keras_tuner_utils.save_json
    keras_tuner_utils.save_json = save
    try:
        yield
    finally:
        keras_tuner_utils.save_json = original


@contextlib.contextmanager
def _oracle_errors() -> Iterator[None]:
    """Converts errors of a search to KerasTuner's: a failed trial, or the end of the tuning."""
    try:
        yield
    except (NonFiniteLossError, ArgumentError) as error:
        raise keras_tuner.errors.FailedTrialError(str(error)) from error
    except TfPracError as error:
        raise keras_tuner.errors.FatalError(str(error)) from error


def _check_objective(oracle: Any) -> None:
    objective = getattr(oracle, "objective", None)
    for each in getattr(objective, "objectives", [objective]):
        name, direction = getattr(each, "name", each), getattr(each, "direction", None)
        if name not in METRICS:
            raise ArgumentError(
                "oracle", name, f"one whose objective is one of {', '.join(METRICS)}"
            )
        if direction != METRICS[name]:
            raise ArgumentError(
                "oracle", f"Objective({name!r}, {direction!r})", f"the direction {METRICS[name]!r}"
            )
