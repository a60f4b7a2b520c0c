"""What comes in: frames, Arrow data, rows, streams and files, each as a Source of record batches.

pandas is known here (and to `reading` and `report`); databases and writers are not.
"""
