"""A study as one page of pictures: one file a picture, and the page that puts them together.

Each picture is a function of the study's `Material` that gives a `Picture`, or raises `MissingError` with the reason
why it cannot be drawn. What a picture shows is computed by a function of its own, so that it can be had as numbers.
"""
