"""The release before."""

from worker import job


@job()
async def greet(name: str) -> str:
    """Greet."""
    return f"Hello {name}"
