"""Printing of records: on a terminal, in a pipe, and as JSON Lines.

Uses rich on a terminal. Begin reading in `_output.py`.
"""
