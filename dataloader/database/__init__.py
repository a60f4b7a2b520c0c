"""The database: engines and sessions, what its catalog says, the DDL, locks, and the driver's errors in our words.

A driver is touched here and in `writers` only, and only under the watchdog. Nothing here knows where the rows come from
or what a load has done so far.
"""
