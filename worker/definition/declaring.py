"""The options of `@job(...)`, checked where it is declared: each error says what to write instead."""

import inspect
from collections.abc import Mapping
from typing import Any, cast

from worker.core import wire
from worker.core.errors import DefinitionError
from worker.core.limits import ConcurrencyLimit, RateLimit
from worker.core.options import EnqueueOptions, check_options
from worker.core.retries import RetryPolicy
from worker.core.suggestions import did_you_mean
from worker.definition.definitions import JobOptions
from worker.definition.places import place_of

OF_THE_JOB = JobOptions.__annotations__.keys() - EnqueueOptions.__annotations__.keys()  # not options of a call
LIMITS = (RateLimit, ConcurrencyLimit)


def check_declared(declared: Mapping[str, Any]) -> JobOptions:
    """The options of a job, with several aliases and limits as tuples.

    Raises:
        DefinitionError: one is unknown, of a wrong kind, or contradicts another.
        InvalidOptions: one is out of range.
    """
    _refuse_unknown(declared)
    checked = {**declared}
    check_options(str(declared.get("name", "@job")), {k: v for k, v in declared.items() if k not in OF_THE_JOB})
    if "aliases" in declared:
        checked["aliases"] = _several(declared["aliases"], str, "aliases", 'aliases=("old_name",)')
    if "limits" in declared:
        checked["limits"] = _several(declared["limits"], LIMITS, "limits", 'limits=[RateLimit("100/m")]')
    if not isinstance(declared.get("retry", RetryPolicy()), RetryPolicy):
        raise DefinitionError(
            f"@job(retry={declared['retry']!r}) must be like retry=RetryPolicy(...); max_tries=5 says how often"
        )
    if not isinstance(declared.get("process", False), bool):
        raise DefinitionError(f"@job(process={declared['process']!r}) must be True or False")
    for name in (declared.get("name", "@job"), *checked.get("aliases", ())):
        _check_name(name)
    _check_times(declared)
    return cast(JobOptions, checked)


def check_function(function: Any) -> None:
    """Refuse what cannot be a job.

    Raises:
        DefinitionError: it is not a function, or one that yields.
    """
    if isinstance(function, str):
        raise DefinitionError(f"@job must be given its options by name: @job(name={function!r})")
    if not (inspect.isfunction(function) or inspect.ismethod(function) or inspect.isbuiltin(function)):
        raise DefinitionError(f"@job must stand above a function, `async def` or `def`, not above {function!r}"[:300])
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise DefinitionError(f"job {function.__name__!r} ({place_of(function)}) must return its result, not yield")


def _refuse_unknown(declared: Mapping[str, Any]) -> None:
    for name in declared:
        if name in JobOptions.__annotations__:
            continue
        if name in EnqueueOptions.__annotations__:
            raise DefinitionError(
                f"@job has no option {name!r}: give it to a call, as in send.options({name}=...).enqueue(...)"
            )
        hint = did_you_mean(name, JobOptions.__annotations__) or f": it takes {', '.join(JobOptions.__annotations__)}"
        raise DefinitionError(f"@job has no option {name!r}{hint}")


def _several(given: Any, kind: type | tuple[type, ...], option: str, example: str) -> tuple[Any, ...]:
    """One or several of a kind as a tuple."""
    each = (given,) if isinstance(given, kind) else given
    if not isinstance(each, list | tuple | set | frozenset) or not all(isinstance(one, kind) for one in each):
        raise DefinitionError(f"@job({option}={given!r}) must be like {example}")
    return tuple(each)


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not 0 < len(name) <= wire.LONGEST_NAME:
        shown = repr(name)[: wire.LONGEST_NAME]
        raise DefinitionError(f"a job's name must have 1 to {wire.LONGEST_NAME} characters: {shown}")


def _check_times(declared: Mapping[str, Any]) -> None:
    soft, hard = declared.get("soft_timeout"), declared.get("timeout")
    if soft is not None and hard is not None and soft > hard:
        raise DefinitionError(f"@job(soft_timeout={soft:g}, timeout={hard:g}): the soft limit must be the shorter one")
