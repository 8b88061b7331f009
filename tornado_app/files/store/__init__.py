"""File stores: the interface, the optional powers, and the implementations.

Only the composition root names an implementation. Begin reading in `interface.py`.
"""
