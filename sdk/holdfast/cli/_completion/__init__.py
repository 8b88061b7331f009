"""Completion for shells: the values offered, and the script for bash.

Uses the sync client. Begin reading in `_offers.py`.
"""
