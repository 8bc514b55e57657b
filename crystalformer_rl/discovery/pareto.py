"""Two figures that fight each other: which crystals no other beats in both, and how much of the plane they hold."""

from __future__ import annotations

from collections.abc import Sequence

Point = tuple[float, float]
"""Band gap (eV) and electronic dielectric constant; more of either is better."""

CORNER: Point = (0.0, 1.0)
"""A metal's gap and the vacuum's dielectric constant: what any insulator beats."""


def pareto_front(points: Sequence[Point]) -> list[int]:
    """Places of the points that no other point beats in one figure without losing in the other, by falling first figure; of equal ones the first."""
    front, best = [], float("-inf")
    for i in sorted(range(len(points)), key=lambda i: (-points[i][0], -points[i][1], i)):
        if points[i][1] > best:
            front.append(i)
            best = points[i][1]
    return front


def hypervolume(points: Sequence[Point], corner: Point = CORNER) -> float:
    """Area, eV, of all that some point beats and that beats the corner (E. Zitzler and L. Thiele, PPSN V, 1998)."""
    above = [point for point in points if point[0] > corner[0] and point[1] > corner[1]]
    area, height = 0.0, corner[1]
    for i in pareto_front(above):
        area += (above[i][0] - corner[0]) * (above[i][1] - height)
        height = above[i][1]
    return area
