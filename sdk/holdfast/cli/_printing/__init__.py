"""Records on a terminal, in a pipe and as JSON Lines.

Uses rich where it is a terminal. Begin reading in `_output.py`.
"""
