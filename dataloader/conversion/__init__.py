"""What becomes of values: types, the rule for each pair of types, casts, checks, inference, and what is refused.

Arrow arrays in, Arrow arrays out: nothing here knows a connection, a plan or where the rows come from. What happens to
a pair of types is decided in `rules`, and nowhere else.
"""
