"""Results: what a study found, as labelled arrays, a summary and a table.

One file a kind of result, mirroring its study in ``gflow/studies``: a concrete subclass of
`gflow.results.base.Result` that says how the arrays and the summary follow from the study, what
the terminal's table shows, and what a sweep collects. The command line and the sweeps find it by
the name of its kind (`gflow.results.registry`), and need no edit.
"""
