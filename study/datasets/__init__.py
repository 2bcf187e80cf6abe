"""Sets of sounds in the store: prepared once from what a user has, read by every trainer."""
