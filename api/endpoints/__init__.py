"""The platform's own endpoints, and the stand-ins of development."""
