"""Upload and download of folders, a few files at a time. Files that are equal already are skipped.

It may use the jobs of single files and `small_files`. `base` is where to begin.
"""
