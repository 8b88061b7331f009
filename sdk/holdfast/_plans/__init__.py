"""The parts that plans are made of: effects, and the retry policy. `holdfast.plans` exports them.

Uses `holdfast.errors` and calls; does no I/O. Begin reading in `effects.py`.
"""
