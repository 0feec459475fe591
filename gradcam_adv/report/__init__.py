"""The report of a run: prose, tables as text, figures, the page; and comparisons of two runs."""
