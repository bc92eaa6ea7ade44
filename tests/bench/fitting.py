"""Fitting: how a cost grows with a size, as the slope of its logarithm over the size's."""

from __future__ import annotations

import math
from collections.abc import Sequence


def slope(sizes: Sequence[float], costs: Sequence[float]) -> float | None:
    """Least squares over log-log; None where there are not two different sizes with a cost above nothing."""
    points = [(math.log(size), math.log(cost)) for size, cost in zip(sizes, costs, strict=True) if cost > 0]
    if len({x for x, _ in points}) < 2:
        return None
    middle_x = sum(x for x, _ in points) / len(points)
    middle_y = sum(y for _, y in points) / len(points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / sum((x - middle_x) ** 2 for x, _ in points)
