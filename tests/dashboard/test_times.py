from datetime import UTC, datetime, timedelta, timezone

import pandas as pd
import pytest

from dashboard.text import ago, local_time
from tests.messages import mentions

MOMENT = datetime(2026, 5, 9, 14, 32, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "shown"),
    [
        ("Europe/Berlin", "2026-05-09 16:32 CEST"),
        ("America/New_York", "2026-05-09 10:32 EDT"),
        ("Asia/Kolkata", "2026-05-09 20:02 IST"),
        ("America/Sao_Paulo", "2026-05-09 11:32 UTC-03"),
        ("Pacific/Auckland", "2026-05-10 02:32 NZST"),
        ("Etc/UTC", "2026-05-09 14:32 UTC"),
    ],
)
def test_times_are_shown_in_the_readers_zone(zone, shown):
    assert local_time(MOMENT, zone) == shown
    assert local_time(MOMENT.astimezone(timezone(timedelta(hours=-7))), zone) == shown
    assert local_time(pd.Timestamp(MOMENT), zone) == shown


def test_daylight_saving_time_is_applied():
    assert local_time(datetime(2026, 1, 9, 14, 32, tzinfo=UTC), "Europe/Berlin") == "2026-01-09 15:32 CET"


@pytest.mark.parametrize(
    "zone",
    [None, "", "Mars/Olympus", "Europe", "../../etc/passwd", "/etc/passwd", "a\0b", "\ud800", "zone.tab", "x" * 5000],
)
def test_an_unknown_zone_falls_back_to_utc(zone):
    assert local_time(MOMENT, zone) == "2026-05-09 14:32 UTC"


def test_times_that_would_overflow_stay_in_utc():
    assert local_time(datetime(9999, 12, 31, 23, 59, tzinfo=UTC), "Asia/Tokyo") == "9999-12-31 23:59 UTC"


def test_naive_times_are_rejected():
    with pytest.raises(ValueError, match=mentions("2026-05-09 14:32:59", "zone")):
        local_time(MOMENT.replace(tzinfo=None), "Europe/Berlin")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-30, "just now"),
        (0, "just now"),
        (4.9, "just now"),
        (5, "5 s ago"),
        (59.9, "59 s ago"),
        (60, "1 min ago"),
        (3599, "59 min ago"),
        (3600, "1 h ago"),
        (86_399, "23 h ago"),
        (86_400, "1 d ago"),
        (40 * 86_400, "40 d ago"),
    ],
)
def test_ages_use_the_largest_fitting_unit(seconds, said):
    assert ago(MOMENT, MOMENT + timedelta(seconds=seconds)) == said
    assert ago(MOMENT, (MOMENT + timedelta(seconds=seconds)).astimezone(timezone(timedelta(hours=5)))) == said
