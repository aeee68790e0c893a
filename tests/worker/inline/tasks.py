"""Jobs of the default registry, as an application has them."""

from worker import job


@job()
async def inline_double(number: int) -> int:
    return number * 2
