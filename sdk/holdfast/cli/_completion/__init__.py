"""Completion for shells: what is offered, and how bash takes it.

Uses the sync client. Begin reading in `_offers.py`.
"""
