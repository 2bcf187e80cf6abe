"""The published findings, checked: from stores to CSVs to the tables of docs/findings.md."""
