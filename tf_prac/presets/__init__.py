"""Presets by name: one module per paper.

Names say the paper: `slth_` "Stabilizing the Lottery Ticket Hypothesis", `lmc_` "Linear Mode
Connectivity and the Lottery Ticket Hypothesis"; those with the data set first, the PrAC paper.
`fast` is of no paper.
"""

from __future__ import annotations

from tf_prac.presets.fast import FAST
from tf_prac.presets.linear_connectivity import LINEAR_CONNECTIVITY
from tf_prac.presets.prac import PRAC_PAPER
from tf_prac.presets.preset import Preset
from tf_prac.presets.stabilizing import STABILIZING

PRESETS: dict[str, Preset] = {**PRAC_PAPER, **STABILIZING, **LINEAR_CONNECTIVITY, **FAST}
