"""Logs of a running system, for people and for machines."""
