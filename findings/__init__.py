"""Which published findings hold here: from stores to CSVs to the tables of docs/findings.md."""
