"""Parts that work types with a database share: statements, CSV text, tables, paging by key.

Uses SQLAlchemy and `holdfast.work`. Begin reading in `databases.py`.
"""
