"""Descriptions of fields: the strings below them in the source.

Pydantic can read them when a class is created (`use_attribute_docstrings`), but all configurations together would take
longer to import then than they do without, in every process. They are read here when they are needed.
"""

import ast
import inspect
import textwrap
from itertools import pairwise

from pydantic import BaseModel

__all__ = ["field_docstrings"]


def field_docstrings(model: type[BaseModel]) -> dict[str, str]:
    """Return the docstrings of the fields of a model by field, also of inherited fields."""
    docstrings: dict[str, str] = {}
    for owner in reversed(model.__mro__):
        if issubclass(owner, BaseModel) and owner is not BaseModel:
            docstrings |= _own_docstrings(owner)
    return {name: text for name, text in docstrings.items() if name in model.model_fields}


def _own_docstrings(owner: type) -> dict[str, str]:
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
    docstrings = {}
    for statement, following in pairwise(getattr(definition, "body", [])):
        match statement, following:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                docstrings[name] = inspect.cleandoc(text)
    return docstrings
