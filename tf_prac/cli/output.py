"""Results as JSON on standard output, for `--json`. docs/cli.md documents the schema."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from tf_prac.cli.flags import Flags
from tf_prac.version import VERSION

SCHEMA = 1


def define_json_flag(flags: Flags) -> None:
    """Defines --json, in a group of its own."""
    flags.group("Output")
    flags.boolean("json", False, "Print the results as JSON, and nothing else.")


def print_json(kind: str, content: Mapping[str, Any]) -> None:
    """Prints a result as one JSON object; numbers that are not finite are null.

    Args:
        kind: the name of the command.
        content: the further entries of the object.
    """
    head = {"kind": kind, "schema": SCHEMA, "tf_prac": VERSION}
    print(json.dumps(_finite({**head, **content}), indent=2, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
