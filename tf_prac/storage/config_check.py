"""Comparing the configurations of runs: `check_same`, `is_longer`, and `flatten`."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from tf_prac.errors import MismatchError

LONGER = ("pruning.rounds", "pruning.sparsities", "search.retrain")
"""Options in which a longer search may differ from the run that it continues, by dotted name."""


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


def is_longer(requested: Mapping[str, Any], existing: Mapping[str, Any]) -> bool:
    """Whether a search has the rounds of an existing run and further ones.

    Only `LONGER` is compared. A learning-rate schedule over all rounds depends on their number.
    """
    new, old = flatten(requested), flatten(existing)
    sparsities = new.get("pruning.sparsities") or (), old.get("pruning.sparsities") or ()
    rounds = int(old["pruning.rounds"])
    return (
        new["pruning.rounds"] > rounds
        and list(sparsities[0][:rounds]) == list(sparsities[1])
        and new.get("prac.round_schedule") != "one_cycle"
    )


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
