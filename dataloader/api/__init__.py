"""The verbs: loads, checks, merges, reads and copies.

They open the source and hand it on; every decision is made in the plan. Each module is imported when one of its verbs
is first used: a load has no use for what compares and copies.
"""
