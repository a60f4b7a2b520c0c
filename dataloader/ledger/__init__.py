"""Exactly-once bookkeeping: what is committed of each load, by whom, and whether the source is still the same.

It knows checkpoints, not chunks: nothing here reads a source or writes a row of the target. All of it runs in the
caller's transaction.
"""
