"""Whole weights for a share: load balancers count in integers, a promote asks for "exactly 5 %"."""

from collections.abc import Sequence

NEAR_ENOUGH = 0.05  # of the smaller side: 1 % asked may become 0.95 to 1.05 %, no more


def split(share: float, coming: Sequence[int], leaving: Sequence[int], *, most: int) -> tuple[list[int], list[int]]:
    """Weights (1..most) that give `coming` the share, in proportion to the capacities given for each server.

    coming, leaving: capacities > 0 of the servers of either side; a side with no share gets zeros. Of all scales the
    closest is taken, the finest of equals. ValueError: no scale comes near enough, or a side with a share is empty.

    >>> split(0.05, [100], [100, 100], most=256)
    ([26], [247, 247])
    >>> split(1.0, [45, 90], [10], most=256)
    ([45, 90], [0])
    """
    if (share > 0 and not coming) or (share < 1 and not leaving):
        raise ValueError("there is no server for a side that shall have traffic")
    if share in (0.0, 1.0):
        return [c if share else 0 for c in coming], [0 if share else c for c in leaving]
    ideal = [c * share / sum(coming) for c in coming] + [c * (1 - share) / sum(leaving) for c in leaving]
    best: list[int] = []
    best_error = NEAR_ENOUGH * min(share, 1 - share)
    for top in range(most, 0, -1):
        scaled = [max(1, round(weight * top / max(ideal))) for weight in ideal]
        error = abs(sum(scaled[: len(coming)]) / sum(scaled) - share)
        if error < best_error - 1e-12 or (not best and error <= best_error):
            best, best_error = scaled, error
    if not best:
        raise ValueError(f"weights up to {most} cannot give a share of {share:g}")
    return best[: len(coming)], best[len(coming) :]
