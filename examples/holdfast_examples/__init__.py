"""Programs that use the SDK as anyone would: the tour of `make demo`, and the wire cutter that it cuts connections
with.

Uses the public names of `holdfast` only. Begin reading in `tour.py`.
"""
