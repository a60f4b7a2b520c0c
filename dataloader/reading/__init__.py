"""The way back: a query becomes batches, and a frame. It sees no writer and no ledger.

`query` is what the caller asks for, `stream` the batches under way, `frames` what they become.
"""
