"""Half of the combinations of parameters, for tests that train."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest


def halved(names: str, *axes: Sequence[Any]) -> pytest.MarkDecorator:
    """Parametrizes a test with the product of some lists, of which every second one is slow.

    The others contain each value, and with three lists or more each pair of values of two of them.
    """
    cases = []
    for places in itertools.product(*(range(len(axis)) for axis in axes)):
        values = [axis[place] for axis, place in zip(axes, places, strict=True)]
        cases.append(pytest.param(*values, marks=[pytest.mark.slow] if sum(places) % 2 else []))
    return pytest.mark.parametrize(names, cases)
