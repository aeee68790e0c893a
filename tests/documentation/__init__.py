"""Tests of what is printed: every code block of README and docs."""
