"""The state of one server, kept current by one event stream while a view is open. Knows no widget.

Uses the client core, the plans and a driver of `_http`. Begin reading in `_feed.py`.
"""
