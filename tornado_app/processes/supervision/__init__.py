"""Programs and what they start: found, stopped, continued and ended together, also when the server is gone.

Uses the operating system only. Begin reading in `descendants.py`.
"""
