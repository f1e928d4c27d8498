"""`PairedDifference`: the difference of two arms with the same seeds, and its confidence interval.

Arms with the same seed have the same initial weights, split and data order, so the difference of a
pair varies less than the difference of two means. Plain Python.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping
from typing import Any

T_95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
"""The 97.5% quantile of Student's t distribution with 1, 2, ... degrees of freedom."""
Z_95 = statistics.NormalDist().inv_cdf(0.975)


def t_95(freedom: int) -> float:
    """Returns the 97.5% quantile of Student's t distribution.

    From the table, and above it the first terms of its expansion in 1 / freedom (Abramowitz and
    Stegun, 26.7.5), which are within 0.0002 there.

    Example:

        >>> t_95(2), round(t_95(60), 3)
        (4.303, 2.0)

    Args:
        freedom: degrees of freedom, >= 1.
    """
    if freedom <= len(T_95):
        return T_95[freedom - 1]
    first = (Z_95**3 + Z_95) / 4
    second = (5 * Z_95**5 + 16 * Z_95**3 + 3 * Z_95) / 96
    return Z_95 + first / freedom + second / freedom**2


@dataclasses.dataclass(frozen=True)
class PairedDifference:
    """The mean difference of pairs, and its 95% confidence interval by Student's t.

    Example:

        >>> gain = PairedDifference.of({0: 0.981, 1: 0.979, 2: 0.983}, {0: 0.98, 1: 0.98, 2: 0.98})
        >>> f"{gain.mean:.4f} [{gain.low:.4f}, {gain.high:.4f}]"
        '0.0010 [-0.0040, 0.0060]'
        >>> gain.at_least(-0.005)
        True

    Attributes:
        mean: the mean of the differences.
        low: lower end of the interval; None for fewer than two pairs.
        high: upper end.
        pairs: number of pairs.
        std: the standard deviation of the differences; None for fewer than two pairs.
    """

    mean: float
    low: float | None
    high: float | None
    pairs: int
    std: float | None = None

    @classmethod
    def of(
        cls, values: Mapping[Any, float], reference: Mapping[Any, float]
    ) -> PairedDifference | None:
        """Returns the difference over the seeds that both have; None if there is none.

        Args:
            values: results by seed.
            reference: results of the arm to compare with, by seed.
        """
        pairs = [values[seed] - reference[seed] for seed in values if seed in reference]
        if not pairs:
            return None
        mean, freedom = statistics.fmean(pairs), len(pairs) - 1
        if not freedom:
            return cls(mean, None, None, 1)
        std = statistics.stdev(pairs)
        half = t_95(freedom) * std / math.sqrt(len(pairs))
        return cls(mean, mean - half, mean + half, len(pairs), std)

    def at_least(self, margin: float) -> bool:
        """Whether the whole interval is at `margin` or above; False without an interval.

        With a negative margin this is a test of non-inferiority: "as good as, up to the margin".
        """
        return self.low is not None and self.low >= margin
