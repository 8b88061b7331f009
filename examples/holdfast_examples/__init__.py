"""Example programs: the tour of `make demo`, and the TCP proxy with which it breaks connections.

Uses the public names of `holdfast` only. Begin reading in `tour.py`.
"""
