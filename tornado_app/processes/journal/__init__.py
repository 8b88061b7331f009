"""The journal: the durable truth about processes, their queue, events and logs.

Uses SQLAlchemy Core. Every change is one transition in one transaction. Begin reading in `schema.py`, then
`transitions.py`.
"""
