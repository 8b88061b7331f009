"""HTTP in, a call of a service, HTTP out. Nothing is decided here.

Uses the services of `files` and `processes`, `protocols` and `server`. Begin reading in `base.py`;
`openapi/operation.py` says how a method declares its answers.
"""
