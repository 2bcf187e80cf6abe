"""Pages of the dashboard, one file each. The folder is not named `pages` because Streamlit would load it itself."""
