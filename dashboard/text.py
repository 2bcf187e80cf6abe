"""Text of a page: escaping of text from the store wherever Streamlit renders Markdown, and times.

Streamlit renders Markdown in `st.markdown`, `st.write`, captions, headings, messages, labels, help, values of metrics,
`st.table`, and options of radios, pills, segmented controls and select sliders. It does not in `st.dataframe`, charts,
`st.text`, `st.code`, and options of select boxes: there text needs no escaping. `st.badge` changes brackets itself:
write `:blue-badge[…]` instead. Screen readers read the escapes in labels aloud, so keep such text out of labels.
"""

import re
from datetime import UTC, datetime, timedelta
from itertools import groupby
from zoneinfo import ZoneInfo

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
# Control characters, overrides of the writing direction, and halves of surrogate pairs.
_INVISIBLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

# Streamlit parses some patterns again after removing escapes, so each is split into two pieces.
_SEAM = re.compile(
    r"(?<=:)(?=[\w+/-])"  # :smile:, :material_home:, :streamlit:, http://
    r"|(?<=@)(?=.)"  # me@example.com
    r"|(?<=www)(?=\.)"  # www.example.com
    r"|(?<=-)(?=[->])|(?<=<)(?=[-=])|(?<=[>~])(?==)",  # --, ->, <-, <->, <=, >= and ~=, which become one character
    re.IGNORECASE,
)
_SEPARATOR = ":small[]"  # invisible: small type around no character

_UNITS = {"d": timedelta(days=1), "h": timedelta(hours=1), "min": timedelta(minutes=1), "s": timedelta(seconds=1)}


def plain(text: object) -> str:
    """Return Markdown that shows a text literally in one line, without links, images, icons, formulas or styles.

    The result may be part of other Markdown, but not of a code span. Runs of whitespace become one space, characters
    that cannot be shown become U+FFFD.
    """
    visible = _INVISIBLE.sub("\N{REPLACEMENT CHARACTER}", " ".join(str(text).split()))
    return _SEPARATOR.join(_PUNCTUATION.sub(r"\\\1", piece) for piece in _SEAM.split(visible))


def paragraphs(text: object) -> str:
    """Return Markdown that shows a text literally with its line breaks and paragraphs.

    The result must start on a new line. Labels have a single line; use `plain` for them.
    """
    blocks = groupby(str(text).splitlines(), key=lambda line: bool(line.strip()))
    return "\n\n".join("\\\n".join(map(plain, lines)) for has_text, lines in blocks if has_text)


def local_time(moment: datetime, timezone: str | None) -> str:
    """Return a time with its own time zone in the zone of a browser: `2026-05-09 16:32 CEST`.

    `timezone` is the name of the zone, as in `st.context.timezone`; UTC if it is None or unknown.
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone")
    try:
        zone = ZoneInfo(timezone) if timezone else UTC
    except (KeyError, ValueError, OSError):  # a browser may send any text
        zone = UTC
    try:
        local = moment.astimezone(zone)
    except OverflowError:  # near the limits of datetime
        local = moment
    name = local.tzname() or "UTC"  # some zones have only an offset, such as +03
    return f"{local:%Y-%m-%d %H:%M} {name if name[0].isalpha() else f'UTC{name}'}"


def ago(moment: datetime, now: datetime) -> str:
    """Return the elapsed time in the largest unit that fits: `3 min ago`. Both times have a time zone.

    Less than five seconds, or a time in the future (clocks may differ), is `just now`.
    """
    elapsed = now - moment
    for unit, length in _UNITS.items():
        if elapsed >= max(length, timedelta(seconds=5)):
            return f"{elapsed // length} {unit} ago"
    return "just now"
