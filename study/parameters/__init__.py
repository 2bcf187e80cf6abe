"""Which parameters of the space matter, and how."""
