"""Report of a study as one HTML page: `figures.py` draws the figures, `page.py` fills the template `page.html.j2`."""
