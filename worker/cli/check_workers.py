"""`embarq worker --check`: whether live workers serve the queues, for the health checks of containers."""

from collections.abc import Sequence

from worker.broker.inspect import WorkerRecord
from worker.broker.queue_selection import ALL_QUEUES, Service, serving
from worker.cli import show
from worker.cli.queue_names import queue_names
from worker.cli.run import run, start
from worker.connecting import connected


def check(queues: str | None, *, as_json: bool) -> int:
    """Print what was found; the exit code: 0 where every queue is served, or with `*` where any worker lives, else 1.
    The queues are those of the settings where none are given."""
    settings = start()
    asked = Service.read(settings.queues if queues is None else queue_names(queues))

    async def live() -> Sequence[WorkerRecord]:
        async with connected(settings) as client:
            return await client.workers()

    workers = run(live())
    unserved = unserved_queues(asked, workers)
    healthy = not unserved
    if as_json:
        records = [{"id": each.id, "host": each.host, "pid": each.pid, "queues": each.queues} for each in workers]
        show.json_of({"healthy": healthy, "unserved": unserved, "workers": records})
    elif healthy:
        print(f"{len(workers)} live workers serve {', '.join(asked.queues)}")
    else:
        print(f"no live worker serves {', '.join(unserved)}")
    return 0 if healthy else 1


def unserved_queues(asked: Service, workers: Sequence[WorkerRecord]) -> list[str]:
    """Those of the queues that no live worker serves; `*` where all are meant and no worker lives."""
    if asked.serves_all:
        return [] if any(worker.queues for worker in workers) else [ALL_QUEUES]
    return [queue for queue in asked.queues if not serving(workers, queue)]
