"""What an earlier step of its workflow hands to a job."""

from typing import Any

from worker.broker.workflow_store import WorkflowStore
from worker.core import wire
from worker.core.errors import MalformedPayload, WorkflowDamaged, WorkflowNotFound


async def read_input(workflow_store: WorkflowStore, options: wire.CallOptions) -> dict[str, Any]:
    """It, by the name of the argument that it becomes; nothing for a job of no workflow.

    Raises:
        BrokerUnavailable: it cannot be read now.
        WorkflowNotFound, WorkflowDamaged: it never can.
    """
    if options.workflow is None or not options.input_name:
        return {}
    if options.input_node is None:
        value = await workflow_store.cause(options.workflow, options.node or 0)
    else:
        value = await workflow_store.value(options.workflow, options.input_node)
    if value is None:
        raise WorkflowNotFound(options.workflow)
    try:
        return {options.input_name: wire.loads(value, object)}
    except MalformedPayload as error:
        raise WorkflowDamaged(options.workflow, error) from error
