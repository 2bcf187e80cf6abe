"""Times for the reader of a page: in the time zone of the browser, or as elapsed time."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

__all__ = ["ago", "local_time"]

_UNITS = {"d": timedelta(days=1), "h": timedelta(hours=1), "min": timedelta(minutes=1), "s": timedelta(seconds=1)}
_JUST_NOW = timedelta(seconds=5)


def local_time(moment: datetime, timezone: str | None) -> str:
    """Return a time in a time zone with the name of the zone: `2026-05-09 16:32 CEST`.

    Args:
        moment: Time with a time zone.
        timezone: Name of the zone from the browser (`st.context.timezone`); UTC if it is None or unknown.

    Raises:
        ValueError: If the time has no time zone.
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone")
    zone = _zone(timezone)
    try:
        local = moment.astimezone(zone) if zone else moment.astimezone(UTC)
    except OverflowError:  # near the limits of datetime
        local = moment
    name = local.tzname() or "UTC"  # some zones have only an offset, such as +03
    return f"{local:%Y-%m-%d %H:%M} {name if name[0].isalpha() else f'UTC{name}'}"


def ago(moment: datetime, now: datetime) -> str:
    """Return the elapsed time in the largest unit that fits: `3 min ago`.

    Less than five seconds, or a time in the future (clocks may differ), is `just now`. Both times have a time zone.
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
    except (KeyError, ValueError, OSError):  # a browser may send any text
        return None
