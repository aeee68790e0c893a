"""Measurements beside plain arq; `make bench` runs them."""
