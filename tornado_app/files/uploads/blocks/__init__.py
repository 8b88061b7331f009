"""Uploads by blocks: several requests at once write whole blocks into their places, in any order.

Uses the uploads service, the leases and the store's power `TakesBlocks`. Begin reading in `service.py`; `body.py` is
the body of one request, `session.py` the lease that all share, `sources.py` what the server has already.
"""
