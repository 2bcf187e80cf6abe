"""Training of trials: a trainer for each device, its clients, and the stacks whose lanes the replicates train in."""
