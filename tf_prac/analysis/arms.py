"""The arms of a comparison: PrAC and its baselines, ablations and controls.

An arm defines which options differ from those of the comparison. All arms with the same seed have
the same initial weights, split and data order.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping
from typing import Any

from tf_prac.config import FAST_METHOD, FAST_ROUNDS, PracConfig, SearchConfig
from tf_prac.errors import ArgumentError

_FULL_DATA = {"use_cet": False, "use_cep": False, "coverage": None}
_NO_STOP = {"early_stop_eps": None}
_IMP = {
    **_FULL_DATA,
    **_NO_STOP,
    "dense_budget": None,
    "round_budget": None,
    "round_schedule": "recipe",
    "larger_cuts": None,
}
_ONE_SHOT = {"larger_cuts": 0.0, "largest_cut": 10**6}
_REWINDING = {"retraining": "weight_rewinding", "ticket_start": "as_rounds"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arm:
    """How the options of one arm differ from those of the comparison.

    Example:

        >>> ARMS["imp"].options(SearchConfig()).prac.selects_data
        False

    Attributes:
        about: one line: what it is, and its figure in the paper.
        changes: options of the search that differ.
        defaults: options that differ unless the comparison has another value than their default.
        sizes_from: the arm whose set sizes and steps it uses, or None.
        controls: the arm whose tickets it is a control of, or None. Such an arm has no search.
        control: kind of that control, as in `tf_prac.search.ticket.Control`.
        transfers: whether it uses the sets of the run `prac_from`; other arms do not.
    """

    about: str
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    sizes_from: str | None = None
    controls: str | None = None
    control: str = ""
    transfers: bool = False

    @property
    def needs(self) -> str | None:
        """The arm whose run must be finished first, or None."""
        return self.sizes_from or self.controls

    def options(
        self,
        config: SearchConfig,
        runs: Mapping[str, str | os.PathLike] | None = None,
    ) -> SearchConfig:
        """Returns the options of the arm.

        Args:
            config: the options of the comparison.
            runs: the directory of each arm's run with the same seed.

        Raises:
            ArgumentError: the arm uses the sets of another run, and `prac_from` is None.
        """
        prac_from = config.prac.prac_from if self.transfers else None
        default = PracConfig()
        unset = {
            name: value
            for name, value in self.defaults.items()
            if getattr(config.prac, name) == getattr(default, name)
        }
        changes = {"prac_from": prac_from, **unset, **self.changes}
        if self.transfers and prac_from is None:
            raise ArgumentError("prac_from", None, "the run whose sets the arm transfer uses")
        if self.sizes_from is not None:
            changes["sizes_from"] = str((runs or {})[self.sizes_from])
            changes["larger_cuts"] = None  # the other run decides
        return config.replace(**changes)


def _selected(selector: str, about: str, sizes_from: str = "prac") -> Arm:
    return Arm(
        about=f"{about}, as many samples and steps as {sizes_from}",
        changes={"selector": selector},
        sizes_from=sizes_from,
    )


def _fixed_random(size: float) -> Arm:
    return Arm(
        about=f"a random subset of {size:.0%} of the data in every round (Figure A14)",
        changes={"selector": "random", "subset_size": size},
    )


def _pruned_at_init(criterion: str) -> Arm:
    return Arm(
        about="pruning at initialization by this criterion (Figure 6)",
        changes={**_IMP, "criterion": criterion, "rewind": "0it"},
    )


def _control(of: str, kind: str) -> Arm:
    what = {"random_mask": "random masks of the same layer-wise density"}
    about = f"tickets of {of} with {what.get(kind, 'new initial weights')}"
    return Arm(about=about, controls=of, control=kind)


def _fast(about: str, sizes_from: str | None = None, **changes: Any) -> Arm:
    """Returns the variant "fast" with other options."""
    return Arm(
        about=f"the variant fast: {about}",
        changes={**FAST_METHOD, "coverage": None, **changes},
        defaults=FAST_ROUNDS,
        sizes_from=sizes_from,
    )


def _fast_on_sets(about: str, sizes_from: str | None = None, **changes: Any) -> Arm:
    """Returns the variant "fast" on sets of samples, with coverage of all others."""
    return Arm(
        about=f"the variant fast: {about}",
        changes={**FAST_METHOD, "use_cet": True, "use_cep": True, **changes},
        defaults={**FAST_ROUNDS, "coverage": 0.5},
        sizes_from=sizes_from,
    )


ARMS: dict[str, Arm] = {
    "prac": Arm(about="PrAC sets and early stop, as configured"),
    "prac-early_stop": Arm(about="PrAC sets without early stop", changes=_NO_STOP),
    "imp": Arm(about="full data, no early stop", changes=_IMP),
    "imp+early_stop": Arm(about="full data with the early stop of PrAC", changes=_FULL_DATA),
    "imp+same_steps": Arm(
        about="full data, as many steps in each round as prac", changes=_IMP, sizes_from="prac"
    ),
    "random_subset": _selected("random", "a random subset (Figures 5 and A14)"),
    "random_60": _fixed_random(0.6),
    "random_70": _fixed_random(0.7),
    "random_80": _fixed_random(0.8),
    "entropy": _selected("entropy", "samples of highest entropy (Figure A10)"),
    "forgetting": _selected("forgetting", "samples most forgotten in round 0 (SVP, Figure A10)"),
    "margin": _selected("margin", "samples of smallest margin"),
    "el2n": _selected("el2n", "samples of largest error norm"),
    "grand": _selected("grand", "samples of largest gradient norm"),
    "loss": _selected("loss", "samples of largest loss"),
    "transfer": Arm(about="the sets of the run --prac_from (Figure 4)", transfers=True),
    "random_transfer": _selected("random", "a random subset", "transfer"),
    "cet": Arm(about="CET alone (Figure A12)", changes={"use_cep": False}),
    "cep": Arm(about="CEP alone", changes={"use_cet": False}),
    "random_ticket": _control("prac", "random_mask"),
    "reinit": _control("prac", "reinit"),
    "imp_random_ticket": _control("imp", "random_mask"),
    "imp_reinit": _control("imp", "reinit"),
    "fast": _fast("short rounds on full data, masks of averaged weights, weights not rewound"),
    "fast+annealed": _fast("with annealed rounds, without averages", round_schedule="annealed"),
    "fast+constant": _fast("without averages", round_schedule="constant"),
    "fast+weight_rewinding": _fast("with rounds that start from W_k", **_REWINDING),
    "fast+sets": _fast_on_sets("on PrAC sets, with coverage of all other samples"),
    "fast+random_sets": _fast_on_sets(
        "on random sets, as many samples and steps as fast+sets",
        sizes_from="fast+sets",
        selector="random",
    ),
    "fast+same_steps": _fast("on full data, as many steps as fast+sets", sizes_from="fast+sets"),
    "fast+larger_cuts": _fast(
        "with rounds that do not train while masks agree by 80%", larger_cuts=0.8
    ),
    "gradual": _fast(
        "as one cycle without rounds (gradual magnitude pruning), as many steps as fast",
        sizes_from="fast",
        round_schedule="one_cycle",
    ),
    "lr_rewinding": Arm(
        about="full data, learning-rate rewinding (Renda et al. 2020), the mask put on W_k",
        changes={**_IMP, "retraining": "lr_rewinding", "ticket_start": "rewind_point"},
    ),
    "fine_tuning": Arm(
        about="full data, weights not rewound, the last learning rate (Figure A16)",
        changes={**_IMP, "retraining": "fine_tuning"},
    ),
    "one_shot": Arm(
        about="full data: every ticket is pruned from the dense network, without more training",
        changes={**_IMP, **_ONE_SHOT},
    ),
    "early_bird": Arm(
        about="one_shot, from a dense training that stops once its masks settle (You et al. 2020)",
        changes={
            **_IMP,
            **_ONE_SHOT,
            "early_stop_eps": 0.1,
            "early_stop_arming": "at_once",
        },
    ),
    "random_pruning": _pruned_at_init("random"),
    "magnitude_init": _pruned_at_init("magnitude_init"),
    "snip": _pruned_at_init("snip"),
    "snip_reinit": _control("snip", "reinit"),
    "grasp": _pruned_at_init("grasp"),
    "synflow": _pruned_at_init("synflow"),
}
"""Every arm by name."""


def chosen_arms(names: Iterable[str]) -> dict[str, Arm]:
    """Returns the named arms; the arm that another one needs comes first, and is added if missing.

    Raises:
        ArgumentError: an unknown arm, or none.
    """
    chosen: dict[str, Arm] = {}
    for name in names:
        if name not in ARMS:
            raise ArgumentError("arms", name, "some of " + ", ".join(ARMS))
        needed = ARMS[name].needs
        if needed is not None:
            chosen.setdefault(needed, ARMS[needed])
        chosen.setdefault(name, ARMS[name])
    if not chosen:
        raise ArgumentError("arms", "", "some of " + ", ".join(ARMS))
    return chosen
