"""Endpoints of the server itself: links, the contract, health and metrics, and the proof of its identity.

They hold no user data, so they answer without a token, but for the metrics. Begin reading in `index.py`.
"""
