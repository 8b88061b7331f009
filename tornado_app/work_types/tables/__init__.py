"""Helpers for work types with a database: statements, CSV text, tables, keyset pagination.

Uses SQLAlchemy and `holdfast.work`. Begin reading in `databases.py`.
"""
