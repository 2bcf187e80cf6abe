"""Which configurations are tried, and which of them are trained to their end."""
