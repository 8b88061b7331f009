"""Executors: where an attempt runs. A thread, the event loop, or an OS process; the driver inside is the same.

Uses `holdfast.work`; meets the journal only in the values of an attempt. Begin reading in `interface.py`, then
`driver.py`.
"""
