"""What the commands of `marl-study` do, by what they are for.

They import what they need when they run: `marl-study --help` is to be there at once.
"""
