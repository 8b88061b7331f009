"""The state of a server, kept current by one event stream for as long as a view is open. Knows no widget.

Uses the plans and a driver of `_http`. Begin reading in `_feed.py`.
"""
