"""`TicketSearch`: iterative magnitude pruning with rewinding, on PrAC sets.

    train k steps: W_0 -> W_k; continue to T
    repeat
        prune the smallest remaining weights
        CET: samples of the current set that training forgets
        CEP: samples of the full set on which dense and sparse network disagree
        the next set is the union of CET and CEP
        rewind to W_k; train again, on the next set

Source: "Efficient Lottery Ticket Finding: Less Data is More", Algorithm 1; "Stabilizing the Lottery
Ticket Hypothesis", Algorithm 1.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.checks import check_bool, check_choice, check_model_fn, check_seed
from tf_prac.config import (
    AUTO,
    DATA_PLACEMENTS,
    CheckpointConfig,
    PracConfig,
    PruningConfig,
    RewindPoint,
    SearchConfig,
    TrainingRecipe,
)
from tf_prac.data.sample_set import SampleSet
from tf_prac.data.splits import DataSplits, full_split, make_splits
from tf_prac.errors import ArgumentError
from tf_prac.keras_api import copy_of, is_model, new_network, seed_everything
from tf_prac.pruning.masks import Masks
from tf_prac.pruning.weights import rewind, snapshot, unused_patterns, weight_report
from tf_prac.search.callbacks import ProgressBar, SearchCallback, SearchCallbackList
from tf_prac.search.context import SearchContext
from tf_prac.search.dense_round import copy_dense_round
from tf_prac.search.plan import RoundPlan
from tf_prac.search.progress import arithmetic_line
from tf_prac.search.result import SearchResult
from tf_prac.search.retraining import Retraining, check_retrain, save_ticket, tickets_to_retrain
from tf_prac.search.round_start import RoundStart
from tf_prac.search.rounds import RoundRunner
from tf_prac.search.selectors import open_finished_runs
from tf_prac.search.summary import (
    changed_versions,
    dense_metrics,
    opening_lines,
    run_config,
    search_cost,
    summary_head,
    undertrained_warning,
)
from tf_prac.search.ticket import Control, Ticket
from tf_prac.search.workers import ReadOnlyCheckpoints, opened, worker_directory
from tf_prac.storage.layout import CHECKPOINTS, CONFIG, MASKS, PRAC_SET
from tf_prac.storage.names import check_name
from tf_prac.storage.run_directory import RunDirectory
from tf_prac.tables import wrapped
from tf_prac.tasks.infer import as_task
from tf_prac.tasks.task import Task
from tf_prac.training.checkpoint import Checkpoints
from tf_prac.training.inference import Predictor
from tf_prac.training.masked_weights import attach_masks
from tf_prac.training.precision import resolved, resolved_config
from tf_prac.training.strategies import make_distribution
from tf_prac.training.trainer import Trainer


class TicketSearch:
    """Searches for winning tickets of a network, on PrAC sets.

    Example:

        >>> search = TicketSearch(  # doctest: +SKIP
        ...     make_model, TrainingRecipe(epochs=10), PruningConfig(rounds=5), directory="run"
        ... )
        >>> result = search.run((x_train, y_train), test=(x_test, y_test))
        >>> result.tickets[-1].sparsity, result.summary["cost"]["steps_saved"]

    The same call on the same directory resumes the search: finished rounds are read, not trained.
    With more rounds it continues after the last one, with fewer it leaves out the last ones, and
    `retrain` may then differ as well. A directory with other options is refused.

    Args:
        model_fn: returns a new, built model of either flavor; its initial weights depend only on
            `seed`. Or a built model, which is copied; W_0 are then its weights. If the model is
            compiled, its loss, metrics and optimizer are used. A learning-rate schedule counts
            steps on the full data: rounds start at step k of it, and rounds with fewer samples
            pass through the rest in fewer steps.
        recipe: how a network is trained, or a `SearchConfig` with all three groups of options.
            Default `TrainingRecipe()`.
        pruning: what is pruned, and the rewind point. Default `PruningConfig()`.
        prac: which samples a round trains on, and when it stops. Default `PracConfig()`.
        directory: the directory of the run.
        seed: of initial weights, split, data order and augmentation. Default 0.
        retrain: which tickets are retrained on the full data after the search: "last", "all",
            "none", or numbers of tickets such as (4, 8). The dense network is retrained too, for
            comparison, if an early stop ended round 0. Default "last".
        deterministic: use only operations whose results do not depend on thread timing
            (slower). Default False.
        also_keep: further rewind points whose weights round 0 stores, so that other runs can use
            this round 0. Default ().
        dense_from: directory of a run that stored this rewind point with `also_keep`, with
            otherwise the same options; its round 0 is copied. Default None: round 0 is trained.
        dense_tickets: directories of runs. If one of them has retrained the dense network in the
            same training as this search would, its result is copied. Default ().
        checkpoints: how often checkpoints are written. Default `CheckpointConfig()`.
        labels: further entries of config.json that do not affect the result, such as names given
            on a command line. Default None.
        strategy: distribution over devices: "one", "mirrored", "multi_worker", "tpu", or a
            `tf.distribute.Strategy`. Default None: the strategy in whose scope this is called.
        data_placement: "device" keeps the samples in the memory of the device, "stream" reads them
            with `tf.data`, and "auto" chooses; see `DataPlacement`. Results are the same, and a
            run can be resumed with another. Default "auto".
        task: what labels and outputs mean: "sparse" (integer classes, one for each sample or
            position), "one_hot", "binary", "multi_label", "regression", or a `tf_prac.tasks.Task`.
            Default None: inferred from the loss of a compiled model, or from integer classes.
        accept_versions: resume a run that was started with other versions of TensorFlow, Keras or
            tf_prac. A line says which; results may then differ in their last bits from those of
            one version. Not with several workers. Default False: such a run is refused.
        class_weight: a factor of the loss for each class, as in Keras's `fit`. Default None.
        verbose: whether to show progress on the terminal; or a `SearchCallback` to call in addition
            to showing progress. Default True.

    Raises:
        ArgumentError: If an option is not allowed.
    """

    def __init__(
        self,
        model_fn: Callable[[], Any] | Any,
        recipe: TrainingRecipe | SearchConfig | None = None,
        pruning: PruningConfig | None = None,
        prac: PracConfig | None = None,
        *,
        directory: str | os.PathLike,
        seed: int = 0,
        retrain: str | Collection[int] = "last",
        deterministic: bool = False,
        also_keep: Collection[str] = (),
        dense_from: str | os.PathLike | None = None,
        dense_tickets: Collection[str | os.PathLike] = (),
        checkpoints: CheckpointConfig | None = None,
        labels: Mapping[str, Any] | None = None,
        strategy: Any = None,
        data_placement: str = "auto",
        task: str | Task | None = None,
        class_weight: Mapping[int, float] | None = None,
        accept_versions: bool = False,
        verbose: bool | SearchCallback = True,
    ):
        check_name(directory)
        check_seed("seed", seed)
        self._has_model = is_model(model_fn)
        if self._has_model:
            model_fn = functools.partial(copy_of, model_fn)
        check_model_fn(model_fn)
        self.task = None if task is None else as_task(task)
        self.class_weight = class_weight
        self.also_keep = tuple(str(RewindPoint.parse(point)) for point in also_keep)
        self.dense_from = dense_from
        self.dense_tickets = tuple(dense_tickets)
        self.model_fn = model_fn
        self.directory = pathlib.Path(directory)
        self.seed, self.deterministic = int(seed), deterministic
        self.checkpoints, self.labels = checkpoints or CheckpointConfig(), dict(labels or {})
        check_choice("data_placement", data_placement, DATA_PLACEMENTS)
        self.data_placement = data_placement
        check_bool("accept_versions", accept_versions)
        self.accept_versions = accept_versions
        self.distribution = make_distribution(strategy)
        if self.distribution.workers > 1:
            if accept_versions:
                raise ArgumentError("accept_versions", True, "False with several workers")
            if self.dense_tickets:
                received = ", ".join(map(str, self.dense_tickets))
                raise ArgumentError("dense_tickets", received, "none with several workers")
        self._requested = SearchConfig.of(recipe, pruning, prac)
        self.config = resolved_config(self._requested, self.distribution, [self.directory / CONFIG])
        self.retrain = check_retrain(retrain, self.config.pruning.rounds)
        verbose = self.distribution.is_chief and verbose
        extra = [verbose] if isinstance(verbose, SearchCallback) else []
        self.callbacks = SearchCallbackList([ProgressBar(), *extra] if verbose else [])

    def run(
        self,
        train: Any,
        validation: Any = None,
        test: Any = None,
        *,
        also_retrain: Collection[int] = (),
        controls: Collection[Control] = (),
        callbacks: Iterable[SearchCallback] = (),
    ) -> SearchResult:
        """Runs the search, and retrains tickets.

        Args:
            train: arrays (x, y) or (x, y, sample_weight), a `tf.data.Dataset` of them, a
                `PyDataset`, a function that returns a generator, or `Samples`; batched and shuffled
                or not. See `tf_prac.data.as_samples`.
            validation: the same. Default None: held out from `train`, see `TrainingRecipe`.
            test: the same, to report the metric on it. Default None.
            also_retrain: numbers of further tickets to retrain. Default ().
            controls: controls of tickets to retrain. The result also contains those that were
                retrained before. Default ().
            callbacks: called during the search, in the chief if there are several workers.
                Default ().

        Raises:
            ArgumentError, DataError: If the data or the model cannot be used; nothing is written.
            MismatchError: If the directory contains a run with other options.
            FileError: If a file of the run is damaged, or cannot be written.
            NonFiniteLossError: If training diverges; finished rounds are kept.
            WorkerLostError: If another worker fails; the same call in all workers resumes.
        """
        for control in controls:
            control.check(self.config.pruning.rounds)
            if self._has_model and control.kind != "random_mask":
                remedy = "Other initial weights need a function that returns a new model."
                raise ArgumentError("controls", control.kind, "random_mask for a model", remedy)
        distribution, rounds = self.distribution, self.config.pruning.rounds
        if isinstance(also_retrain, str):
            raise ArgumentError("also_retrain", also_retrain, f"numbers from 0 to {rounds}")
        check_retrain(also_retrain, rounds)
        all_callbacks = SearchCallbackList([*self.callbacks, *callbacks])
        if not distribution.is_chief:
            all_callbacks = SearchCallbackList()
        data = make_splits(train, validation, test, self.config.recipe, self.seed)
        with distribution.detect_lost_workers():
            self._take_options_of_chief()
        with (
            distribution.detect_lost_workers(),
            distribution.strategy.scope(),
            worker_directory(distribution, self.directory) as directory,
            _Session(self, data, directory, all_callbacks, also_retrain).opened() as session,
        ):
            masks, ids = session.dense, data.train.ids
            for number in range(rounds):
                masks, ids = session.round(number, masks, ids)
            return session.finish(controls)

    def __repr__(self) -> str:
        return (
            f"TicketSearch({self.directory}: {self.config.pruning.rounds} rounds, seed {self.seed})"
        )

    @property
    def chooses_xla(self) -> bool:
        """Whether `jit_compile` was requested as "auto", so that XLA may be given up."""
        return self._requested.recipe.jit_compile == AUTO

    def _take_options_of_chief(self) -> None:
        """Replaces "auto" by what the chief chose, which alone has the run that is resumed."""
        if self.distribution.workers > 1:
            chosen = json.dumps(self.config.recipe.to_json()).encode()
            recorded = json.loads(self.distribution.broadcast_from_chief(chosen))
            recipe = resolved(self._requested.recipe, self.distribution, recorded)
            self.config = dataclasses.replace(self._requested, recipe=recipe)

    def make_network(self) -> Any:
        """Returns a new network with the initial weights of the seed."""
        if self.deterministic:
            tf.config.experimental.enable_op_determinism()
        seed_everything(self.seed)
        return self._new_network()

    def _new_network(self) -> Any:
        return new_network(self.model_fn, self.config.recipe.mixed_precision is True)

    def options(self) -> dict[str, Any]:
        """Returns the options in groups, as in config.json."""
        return {
            **self.config.to_json(),
            "search": {
                "seed": self.seed,
                "retrain": self.retrain,
                "deterministic": self.deterministic,
                **({"also_keep": list(self.also_keep)} if self.also_keep else {}),
            },
            "labels": {
                **self.labels,
                **{
                    name: os.path.abspath(path)
                    for name, path in self.config.prac.other_runs.items()
                },
            },
        }

    def evaluate(self, weights: Mapping[str, np.ndarray], data: Any) -> float:
        """Returns the metric of the model with given weights, such as those of trained.npz.

        Args:
            weights: every weight of the model, by name.
            data: samples, as for `run`.
        """
        network = self._new_network()
        rewind(network, weights)
        split = full_split(data)
        task = Trainer(network, self.config.recipe, split.samples, task=self.task).task
        return Predictor(network, task=task).measure(split)


class _Session:
    """One call of `TicketSearch.run`: runs or reads the rounds, and retrains the tickets.

    Args:
        search: the options.
        data: training, validation and test samples.
        directory: the directory that this worker writes to.
        callbacks: observe the search.
        also_retrain: numbers of tickets to retrain, in addition to those of the search.

    Attributes:
        dense: the masks of round 0: all weights, or the masks that the model has.
    """

    def __init__(
        self,
        search: TicketSearch,
        data: DataSplits,
        directory: pathlib.Path,
        callbacks: SearchCallbackList,
        also_retrain: Collection[int],
    ):
        config = search.config
        self._also_retrain = set(also_retrain)
        finished_runs = open_finished_runs(config.prac, data.train, config.pruning.rounds)
        self._network = search.make_network()
        self._unused: list[str] = []
        if search.distribution.workers == 1 and RunDirectory(directory).started_config():
            # Earlier versions started runs with patterns that match nothing.
            self._unused = unused_patterns(self._network, config.pruning)
            config = _without(config, self._unused)
        self._search, self._config = search, config
        self._report = weight_report(self._network, config.pruning)
        self.dense = attach_masks(self._network, config.pruning).masks
        initial = snapshot(self._network)
        self._plan = RoundPlan(
            config, len(data.train.ids), finished_runs.get("sizes_from"), search.also_keep
        )
        self._context = SearchContext(
            config=config,
            seed=search.seed,
            data=data,
            trainer=Trainer(
                self._network,
                config.recipe,
                data.train.samples,
                data.validation,
                config.pruning,
                search.data_placement,
                on_fallback=callbacks.on_message if search.chooses_xla else None,
                task=search.task,
                class_weight=search.class_weight,
            ),
            run=RunDirectory(directory),
            finished_runs=finished_runs,
            callbacks=callbacks,
            checkpoints=self._checkpoints,
        )
        self._check_task()
        if config.prac.coverage is not None:
            self._context.trainer.prepare_coverage()
        self._start = RoundStart(self._context, self._plan.k)
        retrain = self._to_retrain(dense_is_done=True)
        self._runner = RoundRunner(self._context, self._plan, self._start, initial, retrain)
        self._runner.check_masks(self.dense)
        self._rounds: list[dict[str, Any]] = []

    def _check_task(self) -> None:
        """Checks the test labels, and that samples can be correct if a selector needs it."""
        task, data, prac = self._context.trainer.task, self._context.data, self._config.prac
        self._context.trainer.check_split("test", data.test)
        uses_forgetting = prac.selector == "forgetting" or prac.pretrain_from is not None
        if uses_forgetting or (prac.selector == "prac" and prac.selects_data):
            task.check_bound()

    def _checkpoints(self, path: pathlib.Path) -> Checkpoints:
        kind = Checkpoints if self._search.distribution.is_chief else ReadOnlyCheckpoints
        log = self._context.callbacks.on_message
        return kind(path / CHECKPOINTS, self._search.checkpoints, log)

    @contextlib.contextmanager
    def opened(self) -> Iterator[_Session]:
        """Locks the directory of the run for a block; checks or writes its config.json."""
        context, distribution = self._context, self._search.distribution
        started, changed = context.run.started_config(), ""
        options = {**self._search.options(), "other_runs": self._digests(started)}
        options["search"] = options["search"] | context.trainer.identity()
        self._run_config = run_config(options, context.data, self._network, self._report)
        if self._search.accept_versions and started:
            changed = changed_versions(self._run_config["versions"], started["versions"])
            self._run_config["versions"] = started["versions"]
        with opened(distribution, context.run, self._run_config):
            context.callbacks.on_search_begin(context.run.config())
            lines = self._opening_lines()
            if changed:
                lines.append(changed)
            rounds = self._config.pruning.rounds
            if started and started["pruning"]["rounds"] != rounds:
                lines.append(f"rounds: {rounds}, before {started['pruning']['rounds']}")
            context.callbacks.on_message(wrapped("\n".join(lines)))
            yield self

    def _opening_lines(self) -> list[str]:
        """Returns what the search says when it starts: network, budget, devices and data."""
        context, distribution = self._context, self._search.distribution
        recipe = self._config.recipe
        steps = self._plan.k, self._plan.full.total_steps
        lines = opening_lines(
            self._network, self.dense, len(context.train.ids), *steps, self._report
        )
        point = self._config.pruning.rewind_point
        if self._plan.k == 0 and point.amount > 0:
            lines.append(f"  warning: {point} is less than one step: rewind to step 0")
        arithmetic = arithmetic_line(recipe.to_json(), self._search.deterministic)
        lines.append(f"{', '.join(distribution.devices)}: {arithmetic}")
        lines += [f"  warning: ignore: {each!r} matches no weight" for each in self._unused]
        if distribution.replicas > 1:
            lines.append(distribution.describe(recipe.batch_size))
        lines.append(f"data: {context.place}")
        return lines

    def _digests(self, started: Mapping[str, Any] | None) -> dict[str, str]:
        """Returns the digests of the runs that this one uses, by option.

        A run that has got further rounds since this one was started has the digest of that time.
        """
        rounds = self._config.pruning.rounds
        resumes = started is not None and started["pruning"]["rounds"] == rounds
        recorded = (started or {}).get("other_runs", {})
        digests = {}
        for name, run in self._context.finished_runs.items():
            whole = name == "prac_from" and self._config.prac.prac_from_round == "last"
            if name in recorded:
                run.check_unchanged(recorded[name], whole)
            digests[name] = recorded[name] if resumes and name in recorded else run.digest
        return digests

    def round(self, number: int, masks: Masks, ids: np.ndarray) -> tuple[Masks, np.ndarray]:
        """Returns the next masks and samples, from a finished round or by running it now.

        Args:
            number: of the round, from 0.
            masks: the masks to train with.
            ids: the samples to train on.
        """
        run, callbacks = self._context.run, self._context.callbacks
        metrics = run.intact_round(number, callbacks.on_message)
        if metrics is None and number == 0 and self._search.dense_from is not None:
            plan = self._plan
            metrics = copy_dense_round(
                run, self._search.dense_from, self._run_config, plan.k, plan.kept
            )
        if metrics is None:
            metrics = self._runner.run(number, masks, ids, self._rewind_weights, self._rounds)
        path = run.round_path(number)
        self._context.checkpoints(path).remove()
        self._rounds.append(metrics)
        callbacks.on_round_end(metrics)
        next_masks, sample_set = Masks.load(path / MASKS), SampleSet.load(path / PRAC_SET)
        self._search.distribution.check_same(
            f"round {number}: masks or set", next_masks, sample_set.ids
        )
        return next_masks, sample_set.ids

    def _rewind_weights(self) -> dict[str, np.ndarray]:
        return self._context.run.load_rewind(self._rounds[0]["rewind_sha256"])

    def _to_retrain(self, dense_is_done: bool) -> set[int]:
        rounds = self._config.pruning.rounds
        return tickets_to_retrain(self._search.retrain, rounds, dense_is_done) | self._also_retrain

    def finish(self, controls: Collection[Control] = ()) -> SearchResult:
        """Writes the tickets, retrains the requested ones, and writes the summary."""
        context, search = self._context, self._search
        tickets = self._tickets()
        dense_is_done = self._rounds[0]["stop"] == "budget" and self._plan.trains_dense_fully
        numbers = self._to_retrain(dense_is_done)
        retraining = Retraining(context, search.dense_tickets)
        retrained = [retraining.ticket(t, retrain=t.round in numbers) for t in tickets]
        retrained_controls = retraining.controls(tickets, controls, search.model_fn)
        imp_steps = self._plan.imp_steps, self._plan.paper_imp_steps
        cost = search_cost(self._rounds, retrained, retrained_controls, *imp_steps)
        summary = {
            **summary_head(context.data, self._network, search.seed, self._plan.k, context.metric),
            "dense": dense_metrics(self._rounds[0], retrained[0]),
            "rounds": self._rounds,
            "tickets": retrained,
            "controls": retrained_controls,
            "other_runs": {name: run.to_json() for name, run in context.finished_runs.items()},
            "distribution": search.distribution.summary(self._config.recipe.batch_size),
            "data_placement": context.place.summary(),
            "cost": cost.to_json(),
        }
        context.run.save_summary(summary)
        if self._plan.anneals_dense_early and (
            warning := undertrained_warning(self._rounds[0], retrained[0])
        ):
            context.callbacks.on_message(wrapped(warning))
        context.callbacks.on_search_end(summary)
        return SearchResult(tickets, summary, search.directory, search.model_fn)

    def _tickets(self) -> list[Ticket]:
        """Returns the dense network and the ticket after each round, and writes them."""
        run, w_k, tickets = self._context.run, self._rewind_weights(), []
        for number in range(self._config.pruning.rounds + 1):
            masks = Masks.load(run.round_path(number - 1) / MASKS) if number else self.dense
            ticket = self._start.ticket(number, masks, w_k)
            is_rewound = self._start.ticket_is_rewound(number)
            save_ticket(run, ticket, is_rewound, self._context.callbacks)
            tickets.append(ticket)
        return tickets


def _without(config: SearchConfig, patterns: Collection[str]) -> SearchConfig:
    """Returns the options without these patterns of `ignore`."""
    ignore = tuple(each for each in config.pruning.ignore if each not in patterns)
    return dataclasses.replace(config, pruning=dataclasses.replace(config.pruning, ignore=ignore))
