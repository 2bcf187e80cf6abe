import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.text import paragraphs, plain

# Patterns that Streamlit replaces after Markdown is parsed, in the text without escapes.
LATE = re.compile(
    r":[\w+-]+:|https?://|www\.|\w@\w|(?:^|\s)(?:<->|->|<-|--|>=|<=|~=)(?:\s|$)", re.IGNORECASE | re.ASCII
)
TEXTS = st.one_of(
    st.text(),
    st.text(alphabet=" \n\tab1:;*_`#$[](){}<>|~+-=.!/\\&@^'\""),
    st.lists(
        st.sampled_from([":smile:", ":material/home:", "https://", "www.", "a@b.co", "<->", "--", ">=", " ", "x", "\n"])
    ).map("".join),
)


def pieces(markdown):
    """Return the text parts that a Markdown parser finds."""
    return [re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", piece) for piece in re.split(r"(?<!:):small\[\]", rest(markdown))]


def rest(markdown):
    """Return the text without escaped colons, so that every remaining colon is part of a directive."""
    return markdown.replace(r"\:", "\0")


def shown(markdown):
    return "".join(pieces(markdown)).replace("\0", ":")


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("", ""),
        ("quickstart 3", "quickstart 3"),
        ("a_b*c", r"a\_b\*c"),
        ("1. [x](y)", r"1\. \[x\]\(y\)"),
        (":smile:", r"\::small[]smile\:"),
        ("http://a", r"http\::small[]\/\/a"),
        ("WWW.a", r"WWW:small[]\.a"),
        ("a@b", r"a\@:small[]b"),
        ("a -> b", r"a \-:small[]\> b"),
        ("a <-> b", r"a \<:small[]\-:small[]\> b"),
        ("a <= b", r"a \<:small[]\= b"),
        ("a >= b", r"a \>:small[]\= b"),
        ("a ~= b", r"a \~:small[]\= b"),
        ("loss: 3", r"loss\: 3"),
        ("  two\r\n\n lines\t", "two lines"),
        ("\\", "\\\\"),
        ("a\0b\x1b[0m", "a\ufffdb\ufffd\\[0m"),
        ("evil\u202egpj.exe", "evil\ufffdgpj\\.exe"),
        ("half \ud83d", "half \ufffd"),
        ("Čeština 日本 😀", "Čeština 日本 😀"),
        (None, "None"),
    ],
)
def test_text_is_escaped_as_markdown(text, markdown):
    assert plain(text) == markdown


@given(TEXTS)
def test_rendered_markdown_equals_the_text(text):
    markdown = plain(text)
    without = re.sub(r"\\[!-/:-@\[-`{-~]", "", markdown).replace(":small[]", "")
    assert not re.search(r"[!-/:-@\[-`{-~]", without)
    expected = re.sub(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", "\ufffd", " ".join(text.split()))
    assert shown(markdown) == expected


@given(TEXTS)
def test_no_part_of_the_text_becomes_a_link_icon_or_arrow(text):
    for piece in pieces(plain(text)):
        assert not LATE.search(piece.replace("\0", ":"))


@given(TEXTS)
def test_escaped_text_can_be_embedded_in_a_sentence(text):
    markdown = plain(text)
    assert not markdown.startswith(":")
    assert not markdown.endswith(("]", ":small[]")) or markdown.endswith("\\]")
    assert markdown == markdown.strip()
    assert "\n" not in markdown
    markdown.encode()


def test_paragraphs_keep_lines_and_blank_lines():
    text = "\n\n*first*\r\nsecond:\\\n \t \n\n  - third\n\n"
    assert paragraphs(text) == "\\*first\\*\\\nsecond\\:\\\\\n\n\\- third"


@given(TEXTS)
def test_paragraphs_render_single_lines_like_plain(text):
    joined = " ".join(re.split(r"\\\n|\n\n", paragraphs(text)))
    assert shown(joined) == shown(plain(text))
