"""The seed's endpoints, exactly as they were written: statuses 200, 400, 404 and 500 only.

Uses the same services as `/v1`. Begin reading in `base.py`.
"""
