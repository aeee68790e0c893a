"""Jobs written in the caller's database transaction: queued if it commits, and not at all if it does not. The pattern
is the transactional outbox (C. Richardson, "Microservices Patterns", 2018)."""

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Index, LargeBinary, Table, Text, func, insert, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from worker.broker.encoding import pack
from worker.broker.queue_store import NewJob
from worker.core.calls import Call, refusal
from worker.core.options import CALLBACKS
from worker.database import metadata
from worker.database.notices import notify_after_commit

outbox_table = Table(
    "embarq_outbox",
    metadata,
    Column("id", Text, primary_key=True),
    Column("nonce", Text, nullable=False),  # the request id, by the name that databases have for it
    Column("queue", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("delay_ms", BigInteger, nullable=False),
    Column("due_ms", BigInteger),
    Column("unique", Text, nullable=False),
    Column("durable", Boolean, nullable=False),
    Column("written_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("sent_at", DateTime(timezone=True)),
    Index("embarq_outbox_unsent", "written_at", postgresql_where=text("sent_at IS NULL")),
    Index("embarq_outbox_sent", "sent_at", postgresql_where=text("sent_at IS NOT NULL")),
)


async def put(session: AsyncSession | AsyncConnection, call: Call[Any]) -> str:
    """Write a call in the caller's transaction; the id that its job will have.

    A relay passes it to Redis after the commit, within milliseconds where one is running. A durable call stays on
    record until its job has ended, so that it is queued again if Redis loses it.

    Raises:
        InvalidOptions: the call has callbacks.
        InvalidArguments: it takes more bytes than the client of this process takes.
    """
    job = packed(call)
    row = {
        "id": job.id,
        "nonce": job.request_id,
        "queue": job.queue_key,
        "payload": job.payload,
        "delay_ms": job.delay_ms,
        "due_ms": job.due_ms,
        "unique": job.unique,
        "durable": call.options.get("durable", False),
    }
    await session.execute(insert(outbox_table).values(row))
    notify_after_commit(await connection_of(session))
    return job.id


def packed(call: Call[Any]) -> NewJob:
    """A call as it is queued after the commit; raises as `put`."""
    clash = next((name for name in CALLBACKS if name in call.options), None)
    if clash is not None:
        raise refusal(call, clash, "must not be given to enqueue_in: let the job start a workflow")
    return pack(call, call.definition.registry.max_arguments)


async def connection_of(session: AsyncSession | AsyncConnection) -> AsyncConnection:
    """The connection of the caller's transaction."""
    if isinstance(session, AsyncConnection):
        return session
    return await session.connection(bind_arguments={"clause": outbox_table})
