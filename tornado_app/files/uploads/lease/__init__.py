"""Leases: who may write to an upload. One holder at a time, and the newest request wins.

Knows no upload and no writer. Begin reading in `interface.py`; `fairness.py` says how long a holder may go on.
"""
