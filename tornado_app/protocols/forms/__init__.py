"""Request bodies with a meaning: form fields, multipart parts and JSON text, decoded as the bytes arrive.

Pure. Begin reading in `decoder.py`.
"""
