"""Accuracy of tickets in "Efficient Lottery Ticket Finding: Less Data is More" (PrAC).

At the scale of the paper, searches have the options of the authors' code (the variant "official"),
from which the published numbers come: an early stop below 0.08, and budgets in epochs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from tf_prac.analysis.reproduce.accuracy import (
    REMAINING,
    SEARCH_STEPS,
    accuracy_lines,
    accuracy_rows,
    draw_panels,
)
from tf_prac.analysis.reproduce.item import Item, Outcome, Paper, Results
from tf_prac.analysis.reproduce.parts import Arms, Part, Runs
from tf_prac.analysis.reproduce.setup import Scale, Setup
from tf_prac.analysis.reproduce.verdict import (
    Check,
    as_good,
    holds_between,
    near,
    sparsest_within,
    ticket_near,
    worse,
)
from tf_prac.config import SearchConfig

Checks = Callable[[str, Runs], list[Check]]
"""Returns the checks of a setup, from the preset it takes the place of and its runs."""

RESNET20, RESNET20_C100 = "cifar10_resnet20", "cifar100_resnet20"
RESNET56, RESNET56_C100 = "cifar10_resnet56", "cifar100_resnet56"
VGG16, VGG16_C100 = "cifar10_vgg16", "cifar100_vgg16"
PAIRS = (
    *(RESNET20, RESNET56, VGG16, RESNET20_C100, RESNET56_C100, VGG16_C100),
    *("tiny_imagenet_resnet18", "tiny_imagenet_vgg16"),
)
"""The data sets and networks of the paper, by preset."""

SMALL_PAIRS = (RESNET20, RESNET20_C100)
AT_79, AT_93 = 7, 12
"""Tickets at 79.03% and 93.13% sparsity."""

_RECIPE: dict[str, Any] = {
    "epochs": 10,
    "batch_size": 64,
    "momentum_form": "pytorch",
    "weight_decay": 1e-4,
    "prune_last_dense": True,
    "rewind": "1ep",
}


def _small(name: str, dataset: str, model: str, limit: int | None = None, **options: Any) -> Setup:
    config = SearchConfig().replace(**{**_RECIPE, **options})
    return Setup(name=name, dataset=dataset, model=model, limit_train=limit, config=config)


def _from_w_0(preset: str, setup: Setup) -> dict[str, Setup]:
    """Returns a setup with the low learning rate and with warmup, by the paper's presets."""
    warmup = {"learning_rate": 0.03, "warmup": 15 / 182}
    return {
        preset: setup,
        f"{preset}_low": setup.replace("low", rewind="0it", learning_rate=0.01),
        f"{preset}_warmup": setup.replace("warmup", rewind="0it", **warmup),
    }


SCALES = {
    "paper": Scale(
        name="paper",
        about="networks, data and schedule of the paper, options of the authors' code",
        prac="official",
    ),
    "small": Scale(
        name="small",
        about="LeNet-300-100 on 6,000 images of MNIST (10 epochs) in place of ResNet-20 on "
        "CIFAR-10, LeNet-300-100 and ResNet-8 on digits (20 epochs) in place of ResNet-20 and "
        "ResNet-56 on CIFAR-100, options of the paper",
        setups={
            **_from_w_0(RESNET20, _small("mnist_lenet300", "mnist", "lenet300", 6_000)),
            **_from_w_0(RESNET20_C100, _small("digits_lenet300", "digits", "lenet300", epochs=20)),
            RESNET56_C100: _small("digits_resnet8", "digits", "resnet8", epochs=20),
        },
    ),
}

item = Paper("prac", "PrAC paper", SCALES).item


def sized(scale: Scale, preset: str, rounds: int, name: str = "", **options: Any) -> Setup:
    """Returns the setup of a preset with a number of rounds, which is part of its name."""
    suffix = "_".join(filter(None, (name, f"{rounds}_rounds")))
    return scale.setup(preset, suffix, rounds=rounds, **options)


def pairs(scale: Scale) -> list[str]:
    """Returns the pairs of data set and network at a scale."""
    return [name for name in PAIRS if scale.is_paper or name in SMALL_PAIRS]


def accuracy_item(
    name: str,
    title: str,
    source: str,
    *,
    arms: Sequence[str],
    checks: Checks,
    presets: Callable[[Scale], Sequence[str]] = lambda scale: [RESNET20],
    rounds: int = 15,
    against: str = REMAINING,
    note: str = "",
) -> Item:
    """Returns an item that shows the accuracy of the tickets of several arms.

    Args:
        name, title, source, note: as in `Item`.
        arms: the arms.
        checks: the statements of the paper about a pair of data set and network.
        presets: the pairs at a scale, by preset. Default: ResNet-20 on CIFAR-10.
        rounds: number of rounds at the scale of the paper; at most 15 elsewhere. Default 15.
        against: what accuracy is drawn against. Default `REMAINING`.
    """

    def plan(scale: Scale) -> list[Part]:
        count = rounds if scale.is_paper else min(rounds, 15)
        return [
            Arms(setup=sized(scale, preset, count), arms=tuple(arms), seeds=scale.seeds)
            for preset in presets(scale)
        ]

    def show(scale: Scale, results: Results) -> Outcome:
        runs = dict(zip(presets(scale), results.values(), strict=True))
        return accuracy_outcome(runs, arms, checks, against)

    return item(name, title, source, plan, show, note)


def accuracy_outcome(
    runs: dict[str, Runs], arms: Sequence[str], checks: Checks, against: str = REMAINING
) -> Outcome:
    """Returns the table, checks and figure of the accuracy of arms, for runs by preset."""
    panels = {each.setup.name: accuracy_lines(each, arms, against) for each in runs.values()}
    return Outcome(
        rows=[row for each in runs.values() for row in accuracy_rows(each, arms, against)],
        checks=[check for preset, each in runs.items() for check in checks(preset, each)],
        draw=functools.partial(draw_panels, panels=panels, against=against),
    )


def _as_good_as_imp(runs: Runs) -> Check:
    statement = f"{runs.setup.name}: prac is as good as imp at 79.03% sparsity"
    return as_good(statement, runs.accuracies("prac", AT_79), runs.accuracies("imp", AT_79), 1.0)


def _worse_than_prac(runs: Runs, arm: str, number: int | None = None) -> Check:
    """Returns the check that an arm is worse than PrAC, by default at the last ticket."""
    number = number or runs.setup.config.pruning.rounds
    sparsity = 1 - (1 - runs.setup.config.pruning.prune_rate) ** number
    statement = f"{runs.setup.name}: {arm} is worse than prac at {sparsity:.2%} sparsity"
    return worse(statement, runs.accuracies(arm, number), runs.accuracies("prac", number))


def _main_checks(preset: str, runs: Runs) -> list[Check]:
    checks = [_as_good_as_imp(runs), _worse_than_prac(runs, "random_pruning")]
    if preset == RESNET20:
        table = runs.table()
        for arm, ticket in {"prac": 7, "random_pruning": 3, "reinit": 3}.items():
            checks.append(ticket_near(arm, sparsest_within(table, arm, 1.0), ticket))
    return checks


MAIN_ARMS = ("imp", "prac", "random_pruning", "reinit")

FIGURE_1 = accuracy_item(
    "figure_1",
    "Accuracy of tickets against the steps of their search",
    "Figure 1 (ResNet-20 on CIFAR-10); Section 4.2 for the sparsest tickets within 1 point",
    arms=MAIN_ARMS,
    checks=_main_checks,
    rounds=29,
    against=SEARCH_STEPS,
)

FIGURE_3 = accuracy_item(
    "figure_3",
    "IMP, PrAC, random pruning and random tickets against remaining weights",
    "Figure 3; Section 4.2 for the sparsest tickets within 1 point",
    arms=MAIN_ARMS,
    checks=_main_checks,
    presets=pairs,
    rounds=29,
    note="The random ticket (reinit) has the mask of PrAC's ticket and other initial weights.",
)

FIGURE_5 = accuracy_item(
    "figure_5",
    "PrAC sets and random subsets of the same size",
    "Figure 5",
    arms=("imp", "prac", "random_subset"),
    checks=lambda preset, runs: [_worse_than_prac(runs, "random_subset")],
)

FIGURE_A10 = accuracy_item(
    "figure_a10",
    "PrAC sets and sets of the same size by entropy and by forgetting (SVP)",
    "Figure A10",
    arms=("imp", "prac", "entropy", "forgetting"),
    checks=lambda preset, runs: [_worse_than_prac(runs, a) for a in ("entropy", "forgetting")],
)

FIGURE_A14 = accuracy_item(
    "figure_a14",
    "PrAC sets and random subsets of 60%, 70% and 80% of the data",
    "Figure A14 (a random subset needs about 70% of the data to match PrAC)",
    arms=("imp", "prac", "random_60", "random_70", "random_80"),
    checks=lambda preset, runs: [
        _worse_than_prac(runs, "random_60"),
        as_good(
            "random subsets of 80% are as good as PrAC sets",
            runs.accuracies("random_80", runs.setup.config.pruning.rounds),
            runs.accuracies("prac", runs.setup.config.pruning.rounds),
            1.0,
        ),
    ],
)

SYNFLOW_LOSS = -1.51
"""Points from PrAC at 93.13% sparsity (Section 4.3); the paper has two numbers for the others."""


def _at_init_checks(preset: str, runs: Runs) -> list[Check]:
    prac, synflow = (runs.accuracies(arm, AT_93) for arm in ("prac", "synflow"))
    mean = sum(synflow[seed] - prac[seed] for seed in prac) / len(prac)
    statement = "SynFlow at 93.13% sparsity, points from PrAC"
    return [
        *(_worse_than_prac(runs, arm, AT_93) for arm in ("snip", "grasp", "synflow")),
        near(statement, 100 * mean, SYNFLOW_LOSS, absolute=1.0),
    ]


FIGURE_6 = accuracy_item(
    "figure_6",
    "PrAC and pruning at initialization: SNIP, GraSP, SynFlow, random tickets",
    "Figure 6 and Section 4.3",
    arms=("imp", "prac", "snip", "grasp", "synflow", "random_ticket", "reinit"),
    checks=_at_init_checks,
    note="The paper has two numbers for SNIP (5.47 and 4.22 points below PrAC) and for GraSP "
    "(18.73 and 4.36), in Sections 1 and 4.3; neither is judged.",
)

COST_OF_IMP = {"cifar10": (18.91, 22.22), "cifar100": (34.33, 38.01)}
"""Range of the steps of the search in percent of IMP's, with a low rate or warmup (Section 4.3)."""


def _from_init_checks(preset: str, runs: Runs) -> list[Check]:
    rows = [r for r in runs.rows() if (r["arm"], r["round"]) == ("prac", AT_79)]
    full = [r for r in runs.rows() if (r["arm"], r["round"]) == ("imp", AT_79)]
    cost = 100 * sum(r["search_steps"] for r in rows) / sum(r["search_steps"] for r in full)
    return [
        _as_good_as_imp(runs),
        _worse_than_prac(runs, "random_pruning"),
        holds_between(
            f"{runs.setup.name}: steps of PrAC to 79.03% in percent of IMP's",
            cost,
            *COST_OF_IMP[preset.partition("_")[0]],
            slack=5.0,
        ),
    ]


def _from_init(name: str, title: str, source: str, *presets: str) -> Item:
    return accuracy_item(
        name,
        title,
        source,
        arms=("imp", "prac", "random_pruning"),
        checks=_from_init_checks,
        presets=lambda scale: scale.available(presets),
    )


FIGURE_7 = _from_init(
    "figure_7",
    "Tickets rewound to the initial weights: low learning rate, and warmup",
    "Figure 7 and Section 4.3 (ResNet-20 on CIFAR-10)",
    f"{RESNET20}_low",
    f"{RESNET20}_warmup",
)

FIGURE_A11 = _from_init(
    "figure_a11",
    "Low learning rate and warmup, other networks and data",
    "Figure A11 and Section 4.3",
    *(f"{RESNET56}_low", f"{RESNET56}_warmup"),
    *(f"{RESNET20_C100}_low", f"{RESNET20_C100}_warmup"),
    *(f"{RESNET56_C100}_low", f"{RESNET56_C100}_warmup"),
)

FIGURE_8 = accuracy_item(
    "figure_8",
    "PrAC with and without early stop",
    "Figure 8 (the early stop costs at most 0.5 points)",
    arms=("imp", "prac", "prac-early_stop"),
    checks=lambda preset, runs: [
        as_good(
            "the early stop costs at most 0.5 points at 79.03% sparsity",
            runs.accuracies("prac", AT_79),
            runs.accuracies("prac-early_stop", AT_79),
            0.5,
        )
    ],
)

FIGURE_A12 = accuracy_item(
    "figure_a12",
    "CET alone and CEP alone",
    "Figure A12 (CET alone is about 1 point worse; the paper does not have CEP alone)",
    arms=("prac", "cet", "cep"),
    checks=lambda preset, runs: [_worse_than_prac(runs, "cet")],
)

TRANSFERS = {RESNET20: (RESNET56, VGG16), RESNET20_C100: (RESNET56_C100, VGG16_C100)}
"""The networks that take the sets of ResNet-20, by its preset (Figure 4)."""

TRANSFER_ARMS = ("imp", "prac", "transfer", "random_transfer", "random_pruning")


def _transfer_pairs(scale: Scale) -> list[tuple[str, str]]:
    return [(s, t) for s in TRANSFERS for t in scale.available(TRANSFERS[s])]


def _figure_4_plan(scale: Scale) -> list[Part]:
    rounds = 15 if scale.is_paper else AT_79
    parts: dict[str, Part] = {}
    for source, target in _transfer_pairs(scale):
        setup, seeds = sized(scale, source, rounds), scale.seeds
        sets = Arms(setup=setup, arms=("prac",), seeds=seeds, retrain="none")
        arms = Arms(
            setup=sized(scale, target, rounds, "transfer"),
            arms=TRANSFER_ARMS,
            seeds=seeds,
            sets_from=sets.name,
        )
        parts |= {sets.name: sets, arms.name: arms}
    return list(parts.values())


def _show_figure_4(scale: Scale, results: Results) -> Outcome:
    runs = {each.setup.name: each for each in results.values() if "transfer" in each.summaries}

    def checks(preset: str, runs: Runs) -> list[Check]:
        last = runs.setup.config.pruning.rounds
        transfer = runs.accuracies("transfer", last)
        return [
            as_good(
                f"{preset}: the sets of ResNet-20 are as good as those of the network itself",
                transfer,
                runs.accuracies("prac", last),
                1.0,
            ),
            worse(
                f"{preset}: random pruning is worse",
                runs.accuracies("random_pruning", last),
                transfer,
            ),
        ]

    return accuracy_outcome(runs, TRANSFER_ARMS, checks)


FIGURE_4 = item(
    "figure_4",
    "PrAC sets of ResNet-20 used by other networks",
    "Figure 4",
    _figure_4_plan,
    _show_figure_4,
    "The paper does not say whether the sets are those of each round or the last; here, of each.",
)
