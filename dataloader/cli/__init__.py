"""The command line: `commands` are what can be run, `options` what can be passed, `output` what is printed.

It calls `api` like any program; what it calls does not know it. `words` puts its options' names into messages.
"""

from dataloader.cli.commands import main

__all__ = ["main"]
