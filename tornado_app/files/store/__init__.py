"""Where files live: the interface, and its implementations.

Only the composition root names an implementation. Begin reading in `interface.py`.
"""
