"""The run of a load: plan it, read and convert chunks, store them, report. `pipeline` is the place to begin reading.

The only package that sees sources and writers. It has no display of its own and no rule about types: it is told by the
plan, and tells the progress.
"""
