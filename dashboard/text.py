"""Text that somebody wrote, shown as the characters it is wherever Streamlit reads Markdown.

Streamlit reads Markdown in `st.markdown`, `st.write`, captions, headings, messages, labels, help, values of metrics,
`st.table`, and options of radios, pills, segmented controls and select sliders. It does not in `st.dataframe`, charts,
`st.text`, `st.code`, and options of select boxes: there text goes as it is. `st.badge` changes brackets on its own:
write `:blue-badge[…]` instead. Of a label that a text stands in, a screen reader hears the escapes; put it beside.
"""

import re

__all__ = ["paragraphs", "plain"]

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
# What no reader sees, turns the direction of what follows, or cannot be sent: control characters, overrides of the
# direction of writing, halves of surrogate pairs.
_INVISIBLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_INSTEAD = "\N{REPLACEMENT CHARACTER}"
# Streamlit looks for some things again after Markdown is read, where escapes are gone: they have to be in two pieces.
_SEAM = re.compile(
    r"(?<=:)(?=[\w+/-])"  # :smile:, :material_home:, :streamlit:, http://
    r"|(?<=@)(?=.)"  # me@example.com
    r"|(?<=www)(?=\.)"  # www.example.com
    r"|(?<=-)(?=[->])|(?<=<)(?=[-=])|(?<=[>~])(?==)",  # --, ->, <-, <->, <=, >= and ~=, which become one character
    re.IGNORECASE,
)
# Divides a text into pieces and shows nothing: small type around no character.
_NOTHING = ":small[]"


def plain(text: object) -> str:
    """Markdown that shows a text as it is, in one line: no link, picture, icon, formula, style or tag comes of it.

    It may stand among other Markdown, but in no code span. Whitespace, line breaks among it, shows as one space; what
    cannot be shown, as U+FFFD.
    """
    shown = _INVISIBLE.sub(_INSTEAD, " ".join(str(text).split()))
    return _NOTHING.join(_PUNCTUATION.sub(r"\\\1", piece) for piece in _SEAM.split(shown))


def paragraphs(text: object) -> str:
    """The same with its line breaks; empty lines divide paragraphs. It has to begin a line of its own.

    Labels have one line: there `plain` is right.
    """
    blocks: list[list[str]] = [[]]
    for line in str(text).splitlines():
        if line.strip():
            blocks[-1].append(plain(line))
        else:
            blocks.append([])
    return "\n\n".join("\\\n".join(lines) for lines in blocks if lines)
