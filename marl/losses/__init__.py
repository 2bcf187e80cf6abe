"""The terms of the objective, each a function of the latents of one model."""
