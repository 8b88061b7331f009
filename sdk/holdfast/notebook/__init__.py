"""Views of server state for notebooks: cards, tables, the dashboard, the upload box. `holdfast.widgets` exports them.

Uses the clients and ipywidgets. A view shows the state of the server, and its buttons send requests. Begin reading in
`_card.py`.
"""
