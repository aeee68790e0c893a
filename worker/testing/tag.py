"""What separates one test's jobs from all others on the same Redis: queues, limits and unique keys of its own."""

import hashlib
import re
from dataclasses import dataclass, replace

import msgspec

from worker.broker.queue_store import NewJob
from worker.broker.workflow_records import NewNode, NewWorkflow
from worker.core import keys, wire
from worker.core.limits import held_keys
from worker.testing.ids import Ids

_SHORT_NAME = re.compile(r"[A-Za-z0-9_.-]{1,80}")


@dataclass(frozen=True, slots=True)
class Tag:
    """A word that is added to the names of what a test creates; for ids see `worker.testing.ids`."""

    text: str

    def queue(self, name: str) -> str:
        """The test's own queue of a name; a name that is too long with the tag is replaced by its digest."""
        short = name if _SHORT_NAME.fullmatch(name) else hashlib.sha256(name.encode()).hexdigest()[:32]
        return f"{self.text}-{short}"

    def queue_key(self, key: str) -> str:
        """The same of a queue's level."""
        name, priority = keys.parse_queue_key(key)
        return keys.queue_key(self.queue(name), priority)

    def job(self, new: NewJob, ids: Ids) -> NewJob:
        """A job for the test's own queue."""
        unique = self._key(new.unique)
        if new.id == new.request_id:
            ids.keep(new.id)
        payload = self._payload(new.payload, unique)
        return replace(new, id=ids.own(new.id), queue_key=self.queue_key(new.queue_key), payload=payload, unique=unique)

    def workflow(self, new: NewWorkflow, ids: Ids) -> NewWorkflow:
        """A workflow whose jobs go to the test's own queues."""
        if new.id == new.request_id:
            ids.keep(new.id)
        own = ids.own(new.id)
        return replace(new, id=own, nodes=[self._node(node, own, ids) for node in new.nodes])

    def _node(self, node: NewNode, workflow_id: str, ids: Ids) -> NewNode:
        if node.record.queue_key is None or node.record.job_id is None:
            return node
        queue_key = self.queue_key(node.record.queue_key)
        record = msgspec.structs.replace(node.record, job_id=ids.own(node.record.job_id), queue_key=queue_key)
        return replace(node, record=record, payload=self._payload(node.payload, "", workflow_id))

    def _payload(self, data: bytes, unique: str, workflow_id: str | None = None) -> bytes:
        """A payload with the test's own queue, uniqueness and limits. Rate limits are left out: they would make tests
        wait for each other, and for the clock."""
        payload = read_payload(data)
        options = msgspec.structs.replace(
            payload.options,
            queue=self.queue_key(payload.options.queue or keys.QUEUE),
            unique=unique if payload.options.unique else "",
            workflow=workflow_id,
            limits=tuple(self._key(limit) for limit in held_keys(payload.options.limits)),
        )
        return wire.dump_payload(msgspec.structs.replace(payload, options=options), keys.PAYLOAD_BYTES)

    def _key(self, key: str) -> str:
        """A key of uniqueness, `mode:number:what`, or of a limit, `c:number:number:what`, for this test alone; if that
        is too long with the tag, `what` is replaced by its digest."""
        if not key:
            return ""
        *head, what = key.split(":", 3 if key.startswith("c:") else 2)
        if len(key.encode()) + 1 + len(self.text) > keys.UNIQUE_BYTES:
            what = hashlib.sha256(what.encode()).hexdigest()[:32]
        return ":".join([*head, f"{what}@{self.text}"])


def read_payload(data: bytes) -> wire.Payload:
    """A payload that has not been queued: without its times."""
    return wire.loads(data[:-1] + b',"et":0}', wire.Payload)
