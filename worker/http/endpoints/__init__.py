"""A module per resource of the API."""
