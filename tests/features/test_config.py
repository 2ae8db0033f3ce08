"""The front end refuses nonsense, and its fingerprint tells two front ends apart."""

import dataclasses

import pytest

from genrebeam.features.config import FrontEnd


def test_four_seconds_are_86_frames_and_two_are_43():
    assert (FrontEnd().chunk_frames, FrontEnd().chunk_step_frames) == (86, 43)


def test_json_round_trip_keeps_the_fingerprint():
    front_end = FrontEnd(hop_length=2048)
    again = FrontEnd.from_dict(front_end.to_dict())
    assert again == front_end
    assert again.fingerprint() == front_end.fingerprint()


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(FrontEnd)])
def test_every_field_changes_the_fingerprint(field):
    front_end = FrontEnd()
    value = getattr(front_end, field)
    changed = dataclasses.replace(front_end, **{field: value + 1 if field != "fmax_hz" else value - 1})
    assert changed.fingerprint() != front_end.fingerprint()
    assert field in front_end.differences(changed)


def test_the_fingerprint_is_a_contract():
    # Records and bundles on people's disks carry it: if this fails, old features have become unreadable.
    assert FrontEnd().fingerprint() == "da235bfdc48d"


@pytest.mark.parametrize(
    "values",
    [
        {"hop_length": 0},
        {"hop_length": 2049},
        {"fmax_hz": 12_000.0},
        {"fmin_hz": -1.0},
        {"chunk_s": 0.01},
        {"level_step_db": 0.0},
    ],
)
def test_impossible_values_are_refused_by_name(values):
    with pytest.raises(ValueError, match=next(iter(values)).split("_")[0]):
        FrontEnd(**values)


@pytest.mark.parametrize("change", [{"surprise": 1}, {"n_fft": None}])
def test_a_dict_must_have_exactly_the_known_fields(change):
    values = {k: v for k, v in (FrontEnd().to_dict() | change).items() if v is not None}
    with pytest.raises(ValueError, match=next(iter(change))):
        FrontEnd.from_dict(values)
