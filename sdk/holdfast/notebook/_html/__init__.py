"""Views as HTML and as text. Pure; everything that comes from a server is escaped.

Uses `holdfast.wire`. Begin reading in `_appearance.py`.
"""
