"""Views by a browser module of our own, which changes the page in place from small patches.

Uses anywidget and the appearances of `_html`. Begin reading in `_view.py`; the module is `holdfast/web/views/`.
"""
