"""Moments as whoever looks at a page reads them: in the zone of her clock, or as time gone by."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

__all__ = ["ago", "local_time"]

_UNITS = {"d": timedelta(days=1), "h": timedelta(hours=1), "min": timedelta(minutes=1), "s": timedelta(seconds=1)}
_JUST_NOW = timedelta(seconds=5)


def local_time(moment: datetime, timezone: str | None) -> str:
    """A moment in a zone, with the zone's name: `2026-05-09 16:32 CEST`.

    Args:
        moment: with its own zone.
        timezone: as the reader's browser names it (`st.context.timezone`); UTC when nobody knows it.

    Raises:
        ValueError: when the moment has no zone.
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone")
    zone = _zone(timezone)
    try:
        local = moment.astimezone(zone) if zone else moment.astimezone(UTC)
    except OverflowError:  # at the edge of what can be written, and over it there
        local = moment
    name = local.tzname() or "UTC"
    return f"{local:%Y-%m-%d %H:%M} {name if name[0].isalpha() else f'UTC{name}'}"  # some zones have no name but +03


def ago(moment: datetime, now: datetime) -> str:
    """How long ago, in the largest unit that fits: `3 min ago`.

    What is less than five seconds ago, or yet to come by clocks that differ, was `just now`. Both have a zone.
    """
    gone = now - moment
    for unit, length in _UNITS.items():
        if gone >= length and gone >= _JUST_NOW:
            return f"{gone // length} {unit} ago"
    return "just now"


def _zone(name: str | None) -> ZoneInfo | None:
    if not name:
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # a browser may say anything, the name of a folder too
        return None
