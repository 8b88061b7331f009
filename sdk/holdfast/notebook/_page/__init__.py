"""Widgets whose views send and fetch files, and the kernel's answers to them.

The view runs in the page (`holdfast/web/`) and asks; the kernel answers on threads, so that a busy cell does not delay
it. Uses `holdfast.calls`, `holdfast.plans` and the driver of `_feed`. Begin reading in `_widget.py`.
"""
