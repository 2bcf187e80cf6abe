"""The rows of a table as its parts hold them: only what is asked for becomes a data frame."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

__all__ = ["PartId", "TableRows"]

PartId = tuple[str, str]
"""Name of a part, and what the store said of it, which is another one when an object of that name is replaced."""


class TableRows:
    """All rows of a table, in the order in which they were written. It never changes.

    Args:
        parts: their rows by what they are known by, in order.
    """

    def __init__(self, parts: Mapping[PartId, pa.Table]) -> None:
        self.parts = dict(parts)

    def __len__(self) -> int:
        return sum(map(len, self.parts.values()))

    def frame(self, columns: Sequence[str] | None = None, is_wanted: np.ndarray | None = None) -> pd.DataFrame:
        """Rows as a data frame. Types are the same whichever rows are wanted, but whole numbers with gaps are floats.

        Args:
            columns: which; those that no part has are left out. All by default.
            is_wanted: for each row whether it is; all by default.
        """
        if not self.parts:
            return pd.DataFrame()
        chosen, schemas, begin = [], set(), 0
        for part in self.parts.values():
            found = part if columns is None else part.select([name for name in columns if name in part.column_names])
            if is_wanted is not None:
                wanted = is_wanted[begin : begin + len(part)]
                found = found if wanted.all() else found.filter(pa.array(wanted)) if wanted.any() else found.slice(0, 0)
            begin += len(part)
            if len(found) or found.schema not in schemas:  # without rows it has a say in the types
                chosen.append(found)
                schemas.add(found.schema)
        # Merged before pandas sees them: a column that is empty in one part has its type from the others.
        return pa.concat_tables(chosen, promote_options="permissive").to_pandas()
