"""`python -m worker.cli` is the command `embarq`."""

from worker.cli import main

main()
