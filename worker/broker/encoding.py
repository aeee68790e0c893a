"""From calls to what the broker queues: ids, payloads, keys of limits and uniqueness."""

import hashlib
import itertools
import os
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from msgspec.structs import fields

from worker.broker.queue_store import NewJob
from worker.broker.workflow_records import NewNode, NewWorkflow, NodeRecord
from worker.core import keys, wire
from worker.core.calls import Call
from worker.core.errors import ArgumentProblem, InvalidWorkflow
from worker.core.job import Priority
from worker.core.limits import limit_keys
from worker.core.options import EnqueueOptions
from worker.core.signature import Signature
from worker.core.workflow_graph import Graph, Node, WorkflowOptions

KEPT = 86400.0  # seconds that a workflow is kept after its end
UNIQUE = {"unique_for": "u", "debounce": "d", "throttle": "t"}
# The options of a call that travel with it, by their fields: those of the same name, times as milliseconds.
SENT = {
    name: field.name
    for field in fields(wire.CallOptions)
    if (name := field.name.removesuffix("_ms")) in EnqueueOptions.__annotations__
}
_sequence = itertools.count(int.from_bytes(os.urandom(4)))  # a random start: processes must not count alike


def new_id() -> str:
    """A unique id of 32 hexadecimal digits that sorts by time, then by order within this process. Laid out like UUIDv7
    (RFC 9562, 5.7), without its version bits: 48 bits of milliseconds, a 32-bit counter, 48 random bits."""
    return f"{time.time_ns() // 1_000_000:012x}{next(_sequence) & 0xFFFFFFFF:08x}{os.urandom(6).hex()}"


def milliseconds(value: float | timedelta | None) -> int | None:
    """Seconds, or a time between, as whole milliseconds."""
    if value is None:
        return None
    return int((value.total_seconds() if isinstance(value, timedelta) else value) * 1000)


def pack(call: Call[Any], most: int = wire.LARGEST) -> NewJob:
    """A call as the broker queues it.

    Raises:
        InvalidArguments: as JSON it takes more than `most` bytes.
    """
    request_id = new_id()
    declared, asked = call.definition.declared, call.options
    queue = queue_of(call)
    unique = _unique(call, declared)
    options = call_options(call, queue, unique="" if unique.startswith("u:") else unique)
    payload = wire.Payload(
        job=call.definition.name, kwargs=dict(call.arguments), options=options, request_id=request_id, enqueued_ms=0
    )
    delay_ms, due_ms = times_of(call)
    data = wire.dump_payload(payload, most)
    return NewJob(asked.get("id") or request_id, queue, request_id, data, delay_ms, due_ms, unique)


def queue_of(call: Call[Any]) -> str:
    """The sorted set of a call's queue and level."""
    declared, asked = call.definition.declared, call.options
    priority = Priority(asked.get("priority", declared.get("priority", Priority.NORMAL)))
    return keys.queue_key(asked.get("queue") or call.definition.queue, priority)


def times_of(call: Call[Any]) -> tuple[int, int | None]:
    """Delay and due time of a call in milliseconds."""
    run_at = call.options.get("run_at")
    due_ms = None if run_at is None else int(run_at.timestamp() * 1000)
    return milliseconds(call.options.get("delay")) or 0, due_ms


def call_options(call: Call[Any], queue: str, **more: Any) -> wire.CallOptions:
    """What a call asked for, and what is known besides: its place in a workflow, what makes it unique."""
    asked = {SENT[name]: _sent(SENT[name], value) for name, value in call.options.items() if name in SENT}
    limits = limit_keys(call.definition.name, call.definition.declared.get("limits", ()), call.arguments)
    return wire.CallOptions(**{**asked, "queue": queue, "limits": limits, **more})


def _sent(field: str, value: Any) -> Any:
    """An option as its field has it; of the times, only the life of a result may have no end."""
    if not field.endswith("_ms"):
        return value
    return wire.FOREVER_MS if value is None else milliseconds(value)


def _unique(call: Call[Any], declared: Mapping[str, Any]) -> str:
    """How a call is unique, as the enqueue script reads it; what the call asks for overrules the declaration."""
    sources: tuple[Mapping[str, Any], ...] = (call.options, declared)
    found = next(((mode, source[name]) for source in sources for name, mode in UNIQUE.items() if name in source), None)
    if found is None:
        return ""
    mode, seconds = found
    return f"{mode}:{seconds * 1000:.0f}:{call.definition.name}:{call.options.get('unique_key') or _digest(call)}"


def _digest(call: Call[Any]) -> str:
    arguments = wire.dumps(dict(sorted(call.arguments.items())))
    return hashlib.sha256(arguments).hexdigest()[:32]


def pack_workflow(
    graph: Graph, options: WorkflowOptions, single: str | None = None, most: int = wire.LARGEST
) -> NewWorkflow:
    """A compiled workflow as Redis keeps it. `single`: the id of the one job that it is about, which is its own too.

    Raises:
        InvalidArguments: a step's arguments do not fit its job, or take more than `most` bytes.
        InvalidWorkflow: a step cannot be placed.
    """
    request_id = new_id()
    workflow_id = single or options.get("id") or request_id
    nodes = [_pack_node(graph, number, workflow_id, single, most) for number in range(len(graph.nodes))]
    return NewWorkflow(
        id=workflow_id,
        request_id=request_id,
        on_failure=options.get("on_failure", "stop"),
        last=graph.last,
        required=graph.required,
        keep_ms=int(options.get("keep", KEPT) * 1000),
        nodes=nodes,
    )


def _pack_node(graph: Graph, number: int, workflow_id: str, single: str | None, most: int) -> NewNode:
    node = graph.nodes[number]
    if node.call is None:
        return NewNode(NodeRecord(members=node.members, after=node.after, then=tuple(node.then)), node.waits)
    takes = _takes(node, node.call)
    call: Call[Any] = Call(node.call.definition, node.call.given(takes), node.call.options)
    for limit in call.definition.declared.get("limits", ()):
        if takes and limit.by == takes:
            raise _misplaced(node.call, f"its limit must not be by {takes!r}, which is known only when it starts")
    queue = queue_of(call)
    place = {"workflow": workflow_id, "node": number, "input_name": takes, "is_handler": node.is_handler}
    payload = wire.Payload(
        job=call.definition.name,
        kwargs=dict(call.arguments),
        options=call_options(call, queue, input_node=node.after if takes else None, **place),
        request_id=new_id(),
        enqueued_ms=0,
    )
    delay_ms, due_ms = times_of(call)
    record = NodeRecord(
        job_id=single if single and number == graph.last else f"{workflow_id}{keys.MARK}{number}",
        job=call.definition.name,
        queue_key=queue,
        delay_ms=delay_ms or None,
        due_ms=due_ms,
        after=node.after,
        then=tuple(node.then),
        handlers=node.failed,
        is_handler=node.is_handler,
        is_callback=node.is_callback,
    )
    return NewNode(record, node.waits, wire.dump_payload(payload, most))


def _takes(node: Node, call: Signature[Any]) -> str:
    unique = next((name for name in (*UNIQUE, "id") if name in call.options), None)
    if unique is not None and (node.after is not None or unique != "id"):
        raise _misplaced(call, f"must not have the option {unique}, which is for jobs outside of workflows")
    if call.immutable or (node.after is None and not node.is_handler):
        return ""
    takes = call.takes()
    if not takes:
        raise _misplaced(call, "must have an argument left for the result before it, or be made with .si()")
    return takes


def _misplaced(call: Signature[Any], reason: str) -> InvalidWorkflow:
    return InvalidWorkflow([ArgumentProblem((call.definition.name,), reason)])
