"""Presets by name: one module per paper."""

from __future__ import annotations

from tf_prac.presets.linear_connectivity import LINEAR_CONNECTIVITY
from tf_prac.presets.prac import PRAC_PAPER
from tf_prac.presets.preset import Preset
from tf_prac.presets.stabilizing import STABILIZING

PRESETS: dict[str, Preset] = {**PRAC_PAPER, **STABILIZING, **LINEAR_CONNECTIVITY}
