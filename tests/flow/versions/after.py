"""The release after: one more argument, which is required."""

from worker import job


@job()
async def greet(name: str, language: str) -> str:
    """Greet in a language."""
    return f"{language}: {name}"
