"""`python -m embarq` is the command `embarq`."""

from worker.cli import main

if __name__ == "__main__":
    main()
