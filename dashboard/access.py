"""Access control: open by default, or sign-in through an OpenID Connect provider if one is configured."""

import streamlit as st

__all__ = ["require_sign_in"]


def require_sign_in() -> None:
    """Stop the page until the user has signed in, if Streamlit's secrets have a section `auth`."""
    try:
        is_wanted = "auth" in st.secrets
    except FileNotFoundError:  # there is no secrets file
        return
    if not is_wanted:
        return
    if st.user.to_dict().get("is_logged_in", False):
        st.sidebar.button("Sign out", on_click=st.logout)
        return
    st.title("marl-study")
    st.write("Sign in to see the studies of this store.")
    st.button("Sign in", on_click=st.login, type="primary")
    st.stop()
