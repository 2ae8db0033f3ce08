"""The one wording of "this number is out of range"."""

from __future__ import annotations

from genrebeam.features.errors import UsageError


def check_range(
    name: str,
    value: float,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    error: type[Exception] = UsageError,
) -> None:
    """Refuse a number outside of its range. `low` and `high` belong to the range, `above` and `below` do not.

    Raises:
        UsageError: or another `error`, naming the option or field, its range and the number.
    """
    bounds = [("at least", low), ("above", above), ("at most", high), ("below", below)]
    fits = (
        (low is None or value >= low)
        and (above is None or value > above)
        and (high is None or value <= high)
        and (below is None or value < below)
    )
    if fits:  # a comparison with NaN is false, so NaN fits no range that has a bound
        return
    if low is not None and high is not None:
        wanted = f"between {low} and {high}"
    else:
        wanted = " and ".join(f"{word} {bound}" for word, bound in bounds if bound is not None)
    raise error(f"{name} must be {wanted}, not {value}")
