"""Programs and Jupyter kernels that work types run: started, found again, stopped and ended.

Uses `processes.supervision`. Begin reading in `program.py`.
"""
