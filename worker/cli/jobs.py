"""What `embarq enqueue | job | why | cancel` do."""

from dataclasses import asdict
from typing import Any

from worker.cli.run import client_for, run, start
from worker.connecting import connected
from worker.core.errors import UnknownJob
from worker.core.job import Job, State
from worker.core.options import check_client_options
from worker.core.suggestions import did_you_mean
from worker.definition.definitions import JobDefinition
from worker.definition.registry import registry


def enqueue(name: str, arguments: dict[str, Any], options: dict[str, Any], wait: float) -> Job:
    """Queue a job; returns it as it is after `wait` seconds or at its end."""
    settings = start()

    async def ask() -> Job:
        async with client_for(settings) as client:
            call = _definition(name).call_with(arguments, check_client_options(name, options))
            handle = await client.enqueue(call)
            return await client.wait_for(handle.id, wait)

    return run(ask())


def _definition(name: str) -> JobDefinition[..., Any]:
    try:
        return registry.get(name)
    except UnknownJob as error:
        raise UnknownJob(name, did_you_mean(name, registry.names)) from error


def has_succeeded(job: Job) -> bool:
    """Whether it succeeded."""
    return job.state is State.SUCCEEDED


def find(job_id: str, wait: float) -> Job:
    """A job as it is after `wait` seconds or at its end."""
    settings = start()

    async def ask() -> Job:
        async with connected(settings) as client:
            return await client.wait_for(job_id, wait)

    return run(ask())


def why(job_id: str) -> list[dict[str, Any]]:
    """The reasons why a job waits."""
    settings = start()

    async def ask() -> list[dict[str, Any]]:
        async with connected(settings) as client:
            return [asdict(reason) for reason in await client.why(job_id)]

    return run(ask())


def cancel(job_id: str) -> Job:
    """Cancel a job; returns it as it is when it has ended, or when it should have."""
    settings = start()

    async def ask() -> Job:
        async with connected(settings) as client:
            await client.cancel(job_id)
            return await client.wait_for(job_id, settings.cancel_grace + 1)

    return run(ask())
