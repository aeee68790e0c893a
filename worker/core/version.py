"""The version of what is installed."""

from importlib import metadata


def version() -> str:
    """As the package was installed; `unknown` where it only lies in the path."""
    try:
        return metadata.version("embarq")
    except metadata.PackageNotFoundError:
        return "unknown"
