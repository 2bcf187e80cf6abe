"""Streamlit pages over `study.results`."""
