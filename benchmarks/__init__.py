"""What is claimed about speed, and how to repeat it."""
