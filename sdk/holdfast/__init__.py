"""Holdfast: long processes and big transfers that can be paused, resumed and cancelled."""
