"""``python -m dataloader``: see `cli`."""

from dataloader.cli import main

main()
