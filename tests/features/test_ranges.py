"""One wording for numbers out of range."""

import math

import pytest

from genrebeam.features.errors import UsageError
from genrebeam.features.ranges import check_range


@pytest.mark.parametrize(
    ("value", "bounds", "message"),
    [
        (0, {"low": 1}, "--x must be at least 1, not 0"),
        (2.5, {"low": 0, "high": 1}, "--x must be between 0 and 1, not 2.5"),
        (0, {"above": 0}, "--x must be above 0, not 0"),
        (1, {"above": 0, "below": 1}, "--x must be above 0 and below 1, not 1"),
        (math.nan, {"low": 0, "high": 1}, "--x must be between 0 and 1, not nan"),
    ],
)
def test_a_number_outside_of_its_range_is_refused(value, bounds, message):
    with pytest.raises(UsageError) as caught:
        check_range("--x", value, **bounds)
    assert str(caught.value) == message


def test_bounds_belong_to_the_range_only_where_they_are_named_so():
    check_range("x", 1, low=1, high=1)
    with pytest.raises(ValueError, match="x must be above 1"):
        check_range("x", 1, above=1, error=ValueError)
