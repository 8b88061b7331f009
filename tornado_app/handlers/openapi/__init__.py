"""The contract: declared at each method, checked when a request is read, published as OpenAPI 3.1 and shown at `/docs`.

Uses the wire structs and the problem catalogue. Begin reading in `operation.py`.
"""
