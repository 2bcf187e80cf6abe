"""Models out of the store, checked, and what is made with them."""
