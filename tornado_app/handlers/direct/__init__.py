"""Answers to small, frequent requests, given below RequestHandler.

A request that is out of the ordinary in any way goes on to the handlers, as if nothing had been here: so nothing is
refused here, but for what comes up while a body is written. Both ways call the same guards, services and protocols.
Begin reading in `delegate.py`; `endpoints.py` has one function for each kind of request.
"""
