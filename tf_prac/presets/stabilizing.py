"""The experiments of "Stabilizing the Lottery Ticket Hypothesis"."""

from __future__ import annotations

from tf_prac.presets.preset import Preset

STABILIZING: dict[str, Preset] = {}
