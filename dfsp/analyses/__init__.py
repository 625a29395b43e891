"""One chapter for each further question that the notebooks ask."""
