"""The pages of the dashboard, one file each. Streamlit would look for pages of its own in a folder `pages`."""
