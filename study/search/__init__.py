"""The search: which configurations are trained, and which of them up to the full budget."""
