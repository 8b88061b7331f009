"""Views of the widgets that every front end has, where a browser module of our own can't be used.

Uses ipywidgets and the HTML of `_html`. Begin reading in `_card.py`.
"""
