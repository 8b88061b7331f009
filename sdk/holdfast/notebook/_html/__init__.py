"""Views as HTML and as text, and widgets of which a saved notebook keeps that HTML.

All but `_saved.py` is pure; everything that comes from a server is escaped. Uses `holdfast.wire`. Begin reading in
`_appearance.py`.
"""
