"""`TicketSearch`: iterative magnitude pruning with rewinding, on PrAC sets.

    train k steps: W_0 -> W_k; go on to T
    repeat
        prune the smallest weights that remain
        CET: samples of the current set that training forgets
        CEP: samples of the full set on which dense and sparse network disagree
        the next set is CET united with CEP
        rewind to W_k; train again, on the next set

Source: "Efficient Lottery Ticket Finding: Less Data is More", Algorithm 1; "Stabilizing the Lottery
Ticket Hypothesis", Algorithm 1.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import numpy as np

from tf_prac.checks import check_choice, check_model_fn, check_seed
from tf_prac.config import (
    OPTION_GROUPS,
    CheckpointConfig,
    PracConfig,
    PruningConfig,
    RewindPoint,
    SearchConfig,
    TrainingRecipe,
)
from tf_prac.data.prac_set import PracSet
from tf_prac.data.search_data import SearchData, prepare, whole
from tf_prac.keras_api import new_network, seed_everything
from tf_prac.pruning.criteria import CRITERIA, UNTRAINED
from tf_prac.pruning.masks import Masks
from tf_prac.pruning.weights import prune_rates, rewind, snapshot, weight_report
from tf_prac.search.dense_round import save_kept, take_over
from tf_prac.search.plan import RoundPlan
from tf_prac.search.pretraining import Pretraining
from tf_prac.search.progress import Progress, as_progress
from tf_prac.search.retraining import Retraining, check_retrain, retrained, save_ticket
from tf_prac.search.round_start import RoundStart
from tf_prac.search.selectors import SelectionContext, check_selector, make_selector, open_others
from tf_prac.search.summary import SearchResult as SearchResult
from tf_prac.search.summary import (
    dense_figures,
    opening_lines,
    round_figures,
    run_config,
    search_cost,
    summary_head,
)
from tf_prac.search.ticket import SEARCH_ORDER, Control, Ticket
from tf_prac.search.workers import UnwrittenCheckpoints, opened, own_directory
from tf_prac.storage.files import write_csv
from tf_prac.storage.run_directory import (
    CHECKPOINTS,
    FORGETTING,
    HISTORY,
    MASKS,
    PRAC_SET,
    RunDirectory,
)
from tf_prac.training.checkpoint import Checkpoints
from tf_prac.training.distribution import make_distribution
from tf_prac.training.inference import Predictor
from tf_prac.training.masked_weights import held_masks
from tf_prac.training.saliency import UntrainedScores
from tf_prac.training.trainer import TrainedNetwork, Trainer, untrained


class TicketSearch:
    """Finds winning tickets of a network on PrAC sets.

    Example:

        >>> search = TicketSearch(  # doctest: +SKIP
        ...     make_model, TrainingRecipe(epochs=10), PruningConfig(rounds=5), directory="run"
        ... )
        >>> result = search.run((x_train, y_train), test=(x_test, y_test))
        >>> result.tickets[-1].sparsity, result.summary["cost"]["steps_saved"]

    The same call on the same directory goes on where it ended: finished rounds are read, not
    trained. Other options on the same directory are refused.

    Args:
        model_fn: returns a new, built model of either flavour that classifies, with logits or
            probabilities; its initial weights depend on `seed` alone.
        recipe: how a network is trained, or a `SearchConfig` with all three groups of options.
            Default `TrainingRecipe()`.
        pruning: what is pruned, and the rewind point. Default `PruningConfig()`.
        prac: which data a round trains on, and when it stops. Default `PracConfig()`.
        directory: where the run is kept.
        seed: of initial weights, split, data order and augmentation. Default 0.
        retrain: which tickets are retrained on the full data in the end: "last", "all", "none",
            or numbers of tickets such as (4, 8). Default "last". The dense network is trained
            beside them for comparison, unless the first round already did.
        deterministic: use only operations whose results do not depend on thread timing
            (slower). Default False.
        also_keep: further rewind points whose weights round 0 keeps, so that other runs can share
            it. Default ().
        dense_from: directory of a run that kept this one's rewind point, and has the same options
            otherwise; its round 0 is taken over. Default None: trained here.
        checkpoints: how often the state of a training is written. Default `CheckpointConfig()`.
        labels: more to keep in config.json, such as names that a command line gave.
        strategy: how it is spread over devices: "one", "mirrored", "multi_worker", "tpu", or a
            strategy of TensorFlow. Default None: the one whose scope this is called in.
        verbose: whether to show progress, or a `Progress` that does. Default True.

    Raises:
        ArgumentError: an option is not allowed.
    """

    def __init__(
        self,
        model_fn: Callable[[], Any],
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
        checkpoints: CheckpointConfig | None = None,
        labels: Mapping[str, Any] | None = None,
        strategy: Any = None,
        verbose: bool | Progress = True,
    ):
        check_seed("seed", seed)
        check_model_fn(model_fn)
        self.also_keep = tuple(str(RewindPoint.parse(point)) for point in also_keep)
        self.dense_from = dense_from
        self.model_fn = model_fn
        self.config = SearchConfig.of(recipe, pruning, prac)
        self.directory = pathlib.Path(directory)
        self.seed, self.deterministic = seed, deterministic
        self.retrain = check_retrain(retrain, self.config.pruning.rounds)
        self.checkpoints, self.labels = checkpoints or CheckpointConfig(), dict(labels or {})
        self.distribution = make_distribution(strategy)
        self.progress = as_progress(verbose if self.distribution.is_chief else False)

    def run(
        self,
        train: Any,
        validation: Any = None,
        test: Any = None,
        *,
        also_retrain: Collection[int] = (),
        controls: Collection[Control] = (),
    ) -> SearchResult:
        """Searches, and retrains as asked.

        Args:
            train: arrays (x, y) with integer classes, an unbatched `tf.data.Dataset` of them in
                a fixed order, or `Samples`.
            validation: the same; default: held out from `train` as the recipe says.
            test: the same, to report test accuracy. Default None.
            also_retrain: numbers of further tickets to retrain, beside `retrain`.
            controls: controls of tickets to retrain beside them; those retrained before are in
                the result anyway.

        Raises:
            ArgumentError, DataError: the data or the model cannot be used; nothing was written.
            MismatchError: the directory holds a run with other options.
            FileError: a file of the run is damaged, or cannot be written.
            NonFiniteLossError: training diverged; finished rounds are kept.
            WorkerLostError: another worker went away; the same call in all goes on.
        """
        for control in controls:
            control.check(self.config.pruning.rounds)
        recipe, spread = self.config.recipe, self.distribution
        data = prepare(train, validation, test, recipe, self.seed)
        with (
            spread.together(),
            spread.strategy.scope(),
            own_directory(spread, self.directory) as directory,
            _Session(self, data, directory).started() as session,
        ):
            masks, ids = session.dense, data.train.ids
            for number in range(self.config.pruning.rounds):
                masks, prac_set = session.round(number, masks, ids)
                ids = prac_set.ids
            return session.finish(also_retrain, controls)

    def make_network(self) -> Any:
        """Returns a new network with the initial weights of the seed."""
        if self.deterministic:
            import tensorflow as tf

            tf.config.experimental.enable_op_determinism()
        seed_everything(self.seed)
        return new_network(self.model_fn, self.config.recipe.mixed_precision)

    def options(self) -> dict[str, Any]:
        """Returns the options in groups, as config.json has them."""
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
        """Returns the accuracy of the model with other weights, such as those of trained.npz.

        Args:
            weights: every weight of the model, by name.
            data: anything that `run` takes.
        """
        network = new_network(self.model_fn, self.config.recipe.mixed_precision)
        rewind(network, weights)
        return Predictor(network).accuracy(whole(data))


class _Session:
    """One call of `TicketSearch.run`."""

    def __init__(self, search: TicketSearch, data: SearchData, directory: pathlib.Path):
        self.search, self.data, self.distribution = search, data, search.distribution
        self.config = search.config
        self.recipe, self.pruning, self.prac = (getattr(self.config, n) for n in OPTION_GROUPS)
        check_choice("criterion", self.pruning.criterion, (*CRITERIA, *UNTRAINED))
        check_selector(self.prac)
        self.others = open_others(self.prac, data.train, self.pruning.rounds)
        self.run = RunDirectory(directory)
        self.network = search.make_network()
        self.report = weight_report(self.network, self.pruning)
        self.dense = held_masks(self.network, self.pruning).get()  # or what the model brings
        self.rates = prune_rates(self.network, self.pruning)
        self.initial = snapshot(self.network)
        self.plan = RoundPlan(
            self.config,
            len(data.train.ids),
            self.others.get("sizes_from"),
            search.also_keep,
        )
        self.k = self.plan.k
        self.begin = RoundStart(self.run, self.pruning, self.k, self.network)
        self.trainer = Trainer(
            self.network, self.recipe, data.train.samples, data.validation, self.pruning
        )
        self.rounds: list[dict[str, Any]] = []
        self.tickets: list[Ticket] = []
        context = SelectionContext(
            self.prac, self.trainer, self.run, data.train, search.seed, self.others
        )
        self.selector = make_selector(context, self.pruning.rounds)
        self.pretraining = Pretraining(context, self.plan) if self.prac.pretrains else None

    @contextlib.contextmanager
    def started(self) -> Iterator[_Session]:
        """Opens the directory, for this search alone, and says what will be pruned."""
        others = {name: other.digest for name, other in self.others.items()}
        options = {**self.search.options(), "other_runs": others}
        self.document = run_config(options, self.data, self.network, self.report)
        with opened(self.distribution, self.run, self.document):
            sizes = self.dense, len(self.data.train.ids), self.k, self.plan.full.total_steps
            lines = opening_lines(self.network, *sizes, self.report)
            if self.distribution.replicas > 1:
                lines.append(self.distribution.line(self.recipe.batch_size))
            self.search.progress.line("\n".join(lines))
            yield self

    def round(self, number: int, masks: Masks, ids: np.ndarray) -> tuple[Masks, PracSet]:
        """Returns the next masks and set, of a finished round or by training now."""
        path, show = self.run.round_path(number), self.search.progress.line
        figures = self.run.intact_round(number, show)
        if figures is None and number == 0 and self.search.dense_from is not None:
            figures = take_over(self.run, self.search.dense_from, self.document, self.k)
        if figures is None:
            figures = self._train_prune_select(number, masks, ids)
        self.checkpoints(path).remove()
        self.rounds.append(figures)
        self.search.progress.round(figures, len(self.data.train.ids))
        found = Masks.load(path / MASKS), PracSet.load(path / PRAC_SET)
        self.distribution.check_same(f"round {number}: masks or set", found[0], found[1].ids)
        return found

    def checkpoints(self, path: pathlib.Path) -> Checkpoints:
        """The checkpoints of a training whose results go to `path`."""
        options, show = self.search.checkpoints, self.search.progress.line
        kind = Checkpoints if self.distribution.is_chief else UnwrittenCheckpoints
        return kind(path / CHECKPOINTS, options, show)

    def _train_prune_select(self, number: int, masks: Masks, ids: np.ndarray) -> dict[str, Any]:
        weights, pretrained = self._start(number, masks)
        trained = self._train(number, weights, masks, ids)
        next_masks, gradient_samples = self._prune(number, trained, masks)
        found = self.selector.next_set(number, trained, masks, next_masks, ids)
        figures = round_figures(number, trained, masks, next_masks, len(ids), found.prac_set)
        figures["forward_samples"] = trained.validation_samples + found.forward_samples
        figures["gradient_samples"] = gradient_samples + found.gradient_samples
        figures |= pretrained
        if number == 0:
            figures["rewind_sha256"] = self.run.save_rewind(trained.snapshots[self.plan.rewind_at])
            save_kept(self.run, {k: trained.snapshots[k] for k in self.plan.kept})
            self._test_dense(trained, figures)
        path = self.run.round_path(number)
        next_masks.save(path / MASKS)
        found.prac_set.save(path / PRAC_SET)
        trained.forgetting.save(path / FORGETTING)
        write_csv(path / HISTORY, trained.history)
        self.begin.save_trained(number, trained.weights)
        self.run.finish_round(number, figures)
        return figures

    def _start(self, number: int, masks: Masks) -> tuple[Mapping[str, np.ndarray], dict[str, Any]]:
        """Returns what a round starts from, and the figures of steps taken before it."""
        if number:
            return self.begin.weights(number, self._rewind_weights()), {}
        if self.pretraining is None:
            return self.initial, {}
        checkpoints = self.checkpoints(self.run.pretraining_path)
        return self.pretraining.weights(self.initial, masks, checkpoints, self.search.progress)

    def _train(
        self, number: int, weights: Mapping[str, np.ndarray], masks: Masks, ids: np.ndarray
    ) -> TrainedNetwork:
        budget = self.plan.budget(number, len(ids))
        if budget.steps == 0:
            return untrained(weights, len(self.data.train.samples), self.plan.rewind_at)
        distance = None
        if self.plan.trains:
            keep = self._keep_tentative(number, masks)
            distance = self.plan.mask_distance(number, len(ids), self.rates, keep)
        with self.search.progress.training(f"round {number}", budget.steps) as advance:
            return self.trainer.train(
                weights,
                masks,
                ids,
                budget,
                order=(self.search.seed, SEARCH_ORDER, number),
                snapshot_at=() if number else (self.plan.rewind_at, *self.plan.kept),
                mask_distance=distance,
                advance=advance,
                checkpoints=self.checkpoints(self.run.round_path(number)),
            )

    def _keep_tentative(self, number: int, masks: Masks) -> Callable[[int, Masks], None] | None:
        if not self.pruning.keep_epoch_masks:
            return None
        return lambda epoch, found: self.run.save_tentative(number, epoch, masks, found)

    def _prune(self, number: int, trained: TrainedNetwork, masks: Masks) -> tuple[Masks, int]:
        """Returns the next masks, and how many samples' gradients it took to find them."""
        rule, data = self.plan.rule(number, self.rates), self.data.train
        if self.plan.trains:
            return rule(trained.weights, masks), 0
        scores = UntrainedScores(
            self.trainer, self.pruning, data, trained.weights, self.search.seed
        )
        found = rule.in_steps(scores, masks, self.pruning.score_steps)
        return found, scores.gradient_samples

    def _rewind_weights(self) -> dict[str, np.ndarray]:
        return self.run.load_rewind(self.rounds[0]["rewind_sha256"])

    def _test_dense(self, trained: TrainedNetwork, figures: dict[str, Any]) -> None:
        """Adds the test accuracy of round 0, at its best validation epoch and at its last."""
        for name, weights in (
            ("test_accuracy", trained.best_weights),
            ("test_accuracy_last", trained.weights),
        ):
            figures[name] = None
            if self.data.test is not None:
                self.trainer.load(weights)
                figures[name] = self.trainer.predictor.accuracy(self.data.test)
                figures["forward_samples"] += len(self.data.test.ids)

    def finish(
        self, also_retrain: Collection[int] = (), controls: Collection[Control] = ()
    ) -> SearchResult:
        """Saves the tickets, retrains those asked for, and writes the summary."""
        masks, w_k = [self.dense], self._rewind_weights()
        for number in range(self.pruning.rounds):
            masks.append(Masks.load(self.run.round_path(number) / MASKS))
        for number, mask in enumerate(masks):
            ticket = self.begin.ticket(number, mask, w_k)
            self.tickets.append(ticket)
            save_ticket(self.run, ticket, self.search.progress)
        done = self.rounds[0]["stop"] == "budget"
        chosen = retrained(self.search.retrain, self.pruning.rounds, done) | set(also_retrain)
        of_search = (self.search.seed, self.search.progress, self.checkpoints)
        retraining = Retraining(self.run, self.trainer, self.data, *of_search)
        figures = [retraining.figures(t, t.round in chosen) for t in self.tickets]
        controlled = retraining.controls(self.tickets, controls, self.search.model_fn)
        summary = {
            **summary_head(self.data, self.network, self.search.seed, self.k),
            "dense": dense_figures(self.rounds[0], figures[0]),
            "rounds": self.rounds,
            "tickets": figures,
            "controls": controlled,
            "other_runs": {name: other.figures for name, other in self.others.items()},
            "distribution": self.distribution.figures(self.recipe.batch_size),
            "cost": search_cost(self.rounds, figures, controlled, self.plan.imp_steps).to_json(),
        }
        self.run.save_summary(summary)
        self.search.progress.finished(summary)
        return SearchResult(self.tickets, summary, self.search.directory)
