"""Processes: started once for an id, run in attempts, paused, resumed and cancelled, across crashes.

Uses `holdfast.work`, `holdfast.wire` and `problems`; knows no handler. Begin reading in `states.py`, then `service.py`.
"""
