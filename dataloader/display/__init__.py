"""What is seen of a load: its state, and the views of it in a terminal, a log, Jupyter and marimo.

A view is given a state and draws it: nothing here knows sources, databases or the load itself. IPython, ipywidgets and
marimo are imported here and in `magics` only, and only once a view needs them.
"""
