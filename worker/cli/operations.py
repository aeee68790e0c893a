"""What `embarq queue | schedule | workflow ...` do."""

from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict
from typing import Any, TypeVar

from worker.cli.run import client_for, run, start
from worker.client import Client
from worker.connecting import connected
from worker.core.errors import EmbarqError, ScheduleNotFound
from worker.core.schedule import Schedule
from worker.core.suggestions import did_you_mean
from worker.core.workflow import Workflow
from worker.definition.discovery import discover
from worker.definition.registry import registry
from worker.runtime.scheduler import Scheduler
from worker.settings import Settings

T = TypeVar("T")
Record = dict[str, Any]


class QueueNotFound(EmbarqError):
    """Nobody has used, declared or served a queue of this name."""


def list_queues() -> list[Record]:
    """Every queue that was ever used."""
    return [asdict(record) for record in _ask(Client.queues)]


def pause_queue(queue: str) -> bool:
    """Keep workers from taking jobs from it; False when it was paused already."""

    async def pause(client: Client, settings: Settings) -> bool:
        await _check_queue(client, settings, queue)
        return await client.pause_queue(queue)

    return _ask_with(connected, pause)


def resume_queue(queue: str) -> bool:
    """Let workers take jobs from it again; False when it was not paused."""

    async def resume(client: Client, settings: Settings) -> bool:
        changed = await client.resume_queue(queue)  # a paused queue may be known by nothing else any more
        if not changed:
            await _check_queue(client, settings, queue)
        return changed

    return _ask_with(connected, resume)


def purge_queue(queue: str) -> int:
    """Cancel all that waits in it; how many jobs those were."""

    async def purge(client: Client, settings: Settings) -> int:
        await _check_queue(client, settings, queue)
        return await client.purge_queue(queue)

    return _ask_with(connected, purge)


async def _check_queue(client: Client, settings: Settings, queue: str) -> None:
    """Refuse a name that is most likely misspelt: of a queue that holds nothing, and that nobody serves or declares.

    Raises:
        QueueNotFound: the queue is unknown.
    """
    known = {record.queue for record in await client.queues()}
    known |= {served for worker in await client.workers() for served in worker.queues}
    if queue in known:
        return
    discover(settings.jobs, registry)
    registry.route(settings.routes)
    known |= registry.queues | {name.partition(":")[0] for name in settings.queues}
    if queue not in known:
        raise QueueNotFound(f"there is no queue {queue!r}{did_you_mean(queue, known)}")


def list_schedules() -> list[Record]:
    """All schedules with their last and next runs."""

    async def found(client: Client) -> list[Record]:
        scheduler = Scheduler(client.schedules, registry)
        await scheduler.declare()
        return [_schedule_row(schedule) for schedule in await scheduler.list()]

    return _ask_knowing(found)


def pause_schedule(name: str) -> Record:
    """Stop firing it."""
    return _schedule_row(_with_schedule(name, lambda scheduler, _client: scheduler.pause(name)))


def resume_schedule(name: str) -> Record:
    """Fire it again, from its next time on."""
    return _schedule_row(_with_schedule(name, lambda scheduler, _client: scheduler.resume(name)))


def run_schedule(name: str) -> str:
    """Queue a run now; the job's id."""
    return _with_schedule(name, lambda scheduler, client: scheduler.run_now(name, client)).id


def _with_schedule(name: str, act: Callable[[Scheduler, Client], Awaitable[T]]) -> T:
    async def ask(client: Client) -> T:
        scheduler = Scheduler(client.schedules, registry)
        try:
            return await act(scheduler, client)
        except ScheduleNotFound as error:
            names = [schedule.record.name for schedule in await scheduler.list()]
            raise ScheduleNotFound(name, did_you_mean(name, names)) from error

    return _ask_knowing(ask)


def _schedule_row(schedule: Schedule) -> Record:
    record = schedule.record
    return {
        "name": record.name,
        "job": None if record.job == record.name else record.job,
        "when": record.times.text,
        "tz": record.tz if record.cron else None,
        "next_run": schedule.next_run,
        "last_run": schedule.last_run,
        "paused": schedule.paused,
    }


def find_workflow(workflow_id: str, wait: float, *, every_step: bool) -> Record:
    """A workflow as it is after `wait` seconds or at its end, with its steps or with how many are in which state."""
    return _workflow_record(_ask(lambda client: client.wait_for_workflow(workflow_id, wait)), every_step=every_step)


def _workflow_record(workflow: Workflow, *, every_step: bool) -> Record:
    record = asdict(workflow)
    if not every_step:
        record["steps"] = dict(Counter(step.state for step in workflow.steps))
    return record


def cancel_workflow(workflow_id: str) -> None:
    """Cancel all of it."""
    _ask(lambda client: client.cancel_workflow(workflow_id))


def retry_workflow(workflow_id: str) -> None:
    """Resume it from where it failed or was cancelled."""
    _ask(lambda client: client.retry_workflow(workflow_id))


Opening = Callable[[Settings], AbstractAsyncContextManager[Client]]


def _ask(question: Callable[[Client], Awaitable[T]]) -> T:
    """Run a query with a client alone."""
    return _ask_with(connected, lambda client, _settings: question(client))


def _ask_knowing(question: Callable[[Client], Awaitable[T]]) -> T:
    """Run a query with all jobs discovered."""
    return _ask_with(client_for, lambda client, _settings: question(client))


def _ask_with(opening: Opening, question: Callable[[Client, Settings], Awaitable[T]]) -> T:
    settings = start()

    async def ask() -> T:
        async with opening(settings) as client:
            return await question(client, settings)

    return run(ask())
