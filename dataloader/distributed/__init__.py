"""Loads by the processes of a cluster: each partition is a shard, which a worker loads as any process would.

Here is how work is handed to Dask and Ray, and how their reports become one. How rows are stored is not known here.
"""
