"""Streamlit pages over `study.analysis`."""
