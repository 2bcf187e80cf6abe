"""Who may look: anybody who reaches the page, or whoever an OpenID Connect provider knows, where one is configured."""

import streamlit as st

__all__ = ["require_sign_in"]


def require_sign_in() -> None:
    """Stop here until the reader has signed in, if Streamlit's secrets have a section `auth`."""
    try:
        is_wanted = "auth" in st.secrets
    except FileNotFoundError:  # no secrets at all
        return
    if not is_wanted:
        return
    if st.user.to_dict().get("is_logged_in", False):  # absent means no
        st.sidebar.button("Sign out", on_click=st.logout)
        return
    st.title("marl-study")
    st.write("Sign in to see the studies of this store.")
    st.button("Sign in", on_click=st.login, type="primary")
    st.stop()
