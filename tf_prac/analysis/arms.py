"""The arms of a comparison: PrAC beside what a reader of the paper holds against it.

An arm says by which options it differs from the search that the user asked for; all arms of a
seed have the same initial weights, split and data order.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping
from typing import Any

from tf_prac.config import PracConfig, PruningConfig
from tf_prac.errors import ArgumentError

_FULL_DATA = {"use_cet": False, "use_cep": False}
_NO_STOP = {"early_stop_eps": None}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arm:
    """How the options of one arm differ from those of the comparison.

    Example:

        >>> ARMS["imp"].options(PracConfig(), PruningConfig())[0].selects_data
        False

    Attributes:
        about: one line: what it is, and where the paper has it.
        prac: fields of `PracConfig` that differ.
        pruning: fields of `PruningConfig` that differ.
        sizes_from: the arm whose set sizes and steps it copies, or None.
        controls: the arm whose tickets it controls, or None; it has no search of its own.
        control: which control, a kind of `tf_prac.ticket.Control`.
    """

    about: str
    prac: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    pruning: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    sizes_from: str | None = None
    controls: str | None = None
    control: str = ""

    @property
    def needs(self) -> str | None:
        """The arm whose run must be there first, or None."""
        return self.sizes_from or self.controls

    def options(
        self,
        prac: PracConfig,
        pruning: PruningConfig,
        runs: Mapping[str, str | os.PathLike] | None = None,
    ) -> tuple[PracConfig, PruningConfig]:
        """Returns the options of the arm.

        Args:
            prac, pruning: the options of the comparison.
            runs: the directory of each arm's run with the same seed.
        """
        changes = dict(self.prac)
        if self.sizes_from is not None:
            changes["sizes_from"] = str((runs or {})[self.sizes_from])
        return dataclasses.replace(prac, **changes), dataclasses.replace(pruning, **self.pruning)


ARMS: dict[str, Arm] = {
    "prac": Arm(about="PrAC sets and early stop, as the options say"),
    "prac-early_stop": Arm(about="PrAC sets without early stop", prac=_NO_STOP),
    "imp": Arm(about="full data, no early stop", prac={**_FULL_DATA, **_NO_STOP}),
    "imp+early_stop": Arm(about="full data with the early stop of PrAC", prac=_FULL_DATA),
    "cet": Arm(about="CET alone (Figure A12)", prac={"use_cep": False}),
    "cep": Arm(about="CEP alone", prac={"use_cet": False}),
    "random_ticket": Arm(
        about="tickets of prac with as many weights of each layer, at random places",
        controls="prac",
        control="random_mask",
    ),
    "reinit": Arm(
        about="tickets of prac with other initial weights", controls="prac", control="reinit"
    ),
}
"""Every arm by name; one line here adds another."""


def chosen_arms(names: Iterable[str]) -> dict[str, Arm]:
    """Returns the named arms, each after the one whose run it needs, which comes unasked.

    Raises:
        ArgumentError: an arm that does not exist, or none at all.
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
