"""A validator that stops in each list at its first wrong member.

Pydantic keeps an error per wrong value. For half a million of them, which fit into a megabyte of JSON, that takes a
second and half a gigabyte, all of it in one call that nothing can interrupt.
"""

from typing import Any

from pydantic import TypeAdapter
from pydantic_core import SchemaValidator

# The core schemas that validate each of many members by itself.
CONTAINERS = frozenset({"list", "set", "frozenset", "tuple", "dict"})
# Keys of a schema that hold data, not schemas.
OPAQUE = frozenset({"metadata", "serialization", "default", "expected", "config"})


def fail_fast(adapter: TypeAdapter[Any]) -> SchemaValidator:
    """The adapter's checks, with at most one problem per container. Pydantic models keep their own validators."""
    return SchemaValidator(_fail_fast(adapter.core_schema))


def _fail_fast(schema: Any) -> Any:
    if isinstance(schema, list | tuple):
        return type(schema)(_fail_fast(part) for part in schema)
    if not isinstance(schema, dict):
        return schema
    copy = {key: part if key in OPAQUE else _fail_fast(part) for key, part in schema.items()}
    if copy.get("type") in CONTAINERS:
        copy["fail_fast"] = True
    return copy
