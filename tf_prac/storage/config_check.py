"""Comparing the configurations of runs: `check_same`, `has_other_rounds`, and `flatten`."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from tf_prac.errors import MismatchError

OF_ROUNDS = ("pruning.rounds", "pruning.sparsities", "search.retrain", "other_runs.")
"""Prefixes of dotted names that may differ between searches of more and of fewer rounds."""


def check_same(
    path: pathlib.Path,
    requested: Mapping[str, Any],
    existing: Mapping[str, Any],
    may_differ: tuple[str, ...] = (),
    remedies: Mapping[str, str] | None = None,
) -> None:
    """Raises `MismatchError`, naming the first difference, unless two configurations are the same.

    Args:
        path: the run that has the configuration `existing`.
        requested: the configuration to compare with it.
        existing: the configuration of the run.
        may_differ: prefixes of dotted names, "group.option", that may differ; "labels." always
            may.
        remedies: what to do, by the prefix of a dotted name. Default: request the same, or name
            another directory.
    """
    new, old = flatten(json.loads(json.dumps(requested))), flatten(existing)
    for name in [*new, *old]:
        if name.startswith(("labels.", *may_differ)):
            continue
        if new.get(name) != old.get(name):
            remedy = "Request the same, or name another directory."
            for prefix, text in (remedies or {}).items():
                remedy = text if name.startswith(prefix) else remedy
            raise MismatchError(
                f"{name.rpartition('.')[2]}: {_shown(name, new)} requested, but the run in {path} "
                f"has {_shown(name, old)}. {remedy}"
            )


def has_other_rounds(
    path: pathlib.Path, requested: Mapping[str, Any], existing: Mapping[str, Any]
) -> bool:
    """Whether a search has more or fewer rounds than an existing run.

    Only the options that depend on the number of rounds are compared.

    Args:
        path: the existing run, for the error.
        requested: the configuration of the search.
        existing: the configuration of the run.

    Raises:
        MismatchError: If the first rounds of the two differ.
    """
    new, old = flatten(requested), flatten(existing)
    rounds = int(new["pruning.rounds"]), int(old["pruning.rounds"])
    if rounds[0] == rounds[1]:
        return False
    differs = f"rounds: {rounds[0]} requested, but the run in {path} has {rounds[1]}, and"
    remedy = "Request the same, or name another directory."
    if new.get("prac.round_schedule") == "one_cycle":
        raise MismatchError(f"{differs} its learning rate depends on their number. {remedy}")
    targets = [list(flat.get("pruning.sparsities") or ()) for flat in (new, old)]
    if any(targets) and targets[0][: rounds[1]] != targets[1][: rounds[0]]:
        raise MismatchError(f"{differs} the sparsities of its rounds are others. {remedy}")
    return True


def _shown(name: str, flat: Mapping[str, Any]) -> str:
    """Returns a value as text; options that are not written have their default."""
    is_default = name not in flat and name.startswith(("recipe.", "pruning.", "prac."))
    return "its default" if is_default else repr(flat.get(name))


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns the values of a nested configuration by dotted name.

    Example:

        >>> flatten({"seed": 0, "pruning": {"rounds": 5}})
        {'seed': 0, 'pruning.rounds': 5}
    """
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat
