"""Streamlit page that shows texts in every element that reads Markdown. Run by `test_text_in_browser`.

Arguments: a JSON list of texts. With `?raw`, one element shows them unescaped.
"""

import json
import sys

import streamlit as st

from dashboard.text import paragraphs, plain

PLACES = {
    "markdown": st.markdown,
    "html": lambda text: st.markdown(text, unsafe_allow_html=True),
    "among": lambda text: st.markdown(f":tada: **{text}** $x$ :blue-badge[{text}]"),
    "caption": st.caption,
    "heading": lambda text: st.subheader(text, anchor=False),
    "message": lambda text: st.error(f"Look: {text}"),
    "button": lambda text: st.button(text, key=f"button {text}"),
    "label": lambda text: st.checkbox(text, key=f"label {text}"),
    "metric": lambda text: st.metric(text, text),
    "expander": st.expander,
    "option": lambda text: st.radio("Options", [text], key=f"option {text}", label_visibility="collapsed"),
    "cell": lambda text: st.table([{"column": text}]),
    "lines": st.markdown,
}

if __name__ == "__main__":
    raw = "raw" in st.query_params
    for place in ["markdown"] if raw else PLACES:
        for number, text in enumerate(json.loads(sys.argv[1])):
            with st.container(key=f"place-{place}-{number}"):
                PLACES[place](text if raw else paragraphs(text) if place == "lines" else plain(text))
    st.text("That is all.")
