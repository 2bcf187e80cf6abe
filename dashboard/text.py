"""Escaping of text from the store wherever Streamlit renders Markdown.

Streamlit renders Markdown in `st.markdown`, `st.write`, captions, headings, messages, labels, help, values of metrics,
`st.table`, and options of radios, pills, segmented controls and select sliders. It does not in `st.dataframe`, charts,
`st.text`, `st.code`, and options of select boxes: there text needs no escaping. `st.badge` changes brackets itself:
write `:blue-badge[…]` instead. Screen readers read the escapes in labels aloud, so keep such text out of labels.
"""

import re

__all__ = ["paragraphs", "plain"]

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
# Control characters, overrides of the writing direction, and halves of surrogate pairs.
_INVISIBLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_INSTEAD = "\N{REPLACEMENT CHARACTER}"
# Streamlit parses some patterns again after removing escapes, so each is split into two pieces.
_SEAM = re.compile(
    r"(?<=:)(?=[\w+/-])"  # :smile:, :material_home:, :streamlit:, http://
    r"|(?<=@)(?=.)"  # me@example.com
    r"|(?<=www)(?=\.)"  # www.example.com
    r"|(?<=-)(?=[->])|(?<=<)(?=[-=])|(?<=[>~])(?==)",  # --, ->, <-, <->, <=, >= and ~=, which become one character
    re.IGNORECASE,
)
# Invisible separator: small type around no character.
_NOTHING = ":small[]"


def plain(text: object) -> str:
    """Return Markdown that shows a text literally in one line, without links, images, icons, formulas or styles.

    The result may be part of other Markdown, but not of a code span. Runs of whitespace become one space, characters
    that cannot be shown become U+FFFD.
    """
    shown = _INVISIBLE.sub(_INSTEAD, " ".join(str(text).split()))
    return _NOTHING.join(_PUNCTUATION.sub(r"\\\1", piece) for piece in _SEAM.split(shown))


def paragraphs(text: object) -> str:
    """Return Markdown that shows a text literally with its line breaks and paragraphs.

    The result must start on a new line. Labels have a single line; use `plain` for them.
    """
    blocks: list[list[str]] = [[]]
    for line in str(text).splitlines():
        if line.strip():
            blocks[-1].append(plain(line))
        else:
            blocks.append([])
    return "\n\n".join("\\\n".join(lines) for lines in blocks if lines)
