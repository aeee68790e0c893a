"""What needs fresh environments: `make test-install`. Packages come from where pip is told to look."""
