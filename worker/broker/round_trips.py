"""A worker's round trips to Redis: it settles and claims, waits for work, and says which claims it has heard of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import structlog
from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from worker.broker import scripts
from worker.broker.availability import TROUBLE, raise_ours, unavailable_when_away
from worker.broker.exchange import Ack, Claim, Claimed, ClaimRequest, Ended
from worker.broker.pool import Command, Pool
from worker.broker.scripts import Argument, Script
from worker.core import keys, wire

logger = structlog.stdlib.get_logger("embarq.broker")

HELD_IDS_STEPPED_OVER = 1000  # due ids that plain arq workers hold, which stay at the head of a shared queue
FIELDS_PER_CLAIM = 7
UNTIL_FOREVER = -1


@dataclass(frozen=True, slots=True)
class Request:
    """A script with what a command has behind its name: the number of its keys, these, its arguments."""

    script: Script
    tail: Sequence[Argument]


class RoundTrips:
    """What each job of a worker takes. Every method raises `BrokerUnavailable` when Redis cannot serve it."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._pool = cast(Pool, redis.connection_pool)

    async def exchange(
        self,
        acks: Sequence[Ack],
        claim: ClaimRequest | None,
        unheard: tuple[str, Sequence[int]] = ("", ()),
    ) -> tuple[list[bool], Claim | None]:
        """Settle what has run and claim what is due, in one round trip.

        `unheard`: a worker, and the numbers of its claims whose answers it did not get: their jobs are given back.
        Returns per outcome whether it was stored (False: the lease was lost), and the claim if asked for, or None
        where only the claim failed. An outcome that Redis cannot store is logged, and counts as not stored.
        """
        requests: list[Request] = []
        worker, numbers = unheard
        if acks:
            requests.append(finish_request(acks, worker))
        if numbers:
            requests.append(Request(scripts.GIVE_BACK, (0, worker, *numbers)))
        if claim is not None:
            requests.append(claim_request(claim))
        answers = await self._run_together(requests)
        if isinstance(answers[-1], Exception):  # what was settled is settled; the next claim tells what is wrong
            claim = None
        stored = []
        for ack, answer in zip(acks, answers[0] if acks else (), strict=True):
            stored.append(bool(answer) if isinstance(answer, int) else _not_stored(ack, answer))
        return stored, None if claim is None else read_claim(claim, answers[-1])

    async def _run_together(self, requests: Sequence[Request]) -> list[Any]:
        """Per script its answer or its error, after sending again those that the server had forgotten. Each is atomic
        by itself. Where the first one failed, its error is raised."""
        try:
            answers = await self._pool.ask(*[("EVALSHA", each.script.sha, *each.tail) for each in requests])
            for place, answer in enumerate(answers):
                if isinstance(answer, NoScriptError):
                    again = requests[place]
                    answers[place] = await scripts.load_and_run(self._redis, again.script, again.tail)
            if isinstance(answers[0], Exception):
                raise answers[0]
        except TROUBLE as error:
            raise_ours(error)
        return answers

    async def heard(self, worker: str, number: int) -> None:
        """Acknowledge the answer of a claim: the jobs that it brought count as started."""
        try:
            (answer,) = await self._pool.ask(("DEL", f"{keys.CLAIMED}{worker}:{number}"))
            if isinstance(answer, Exception):
                raise answer
        except TROUBLE as error:
            raise_ours(error)

    async def wait_for_token(
        self, connection: Redis, wake_keys: Sequence[str], seconds: float, claim: ClaimRequest | None
    ) -> tuple[str | None, Claim | None]:
        """Wait for a token on a connection that may block; a claim, if given, is made the moment the wait ends.

        The claim follows BLPOP in the same pipeline: Redis runs the next command of a connection only when the blocking
        one has been answered, so an idle worker gets a job in one round trip.

        Returns the list that the token was in (None: none came), and what was claimed (None: nothing was asked for, or
        the server did not know the script).
        """
        commands: list[Command] = [("BLPOP", *wake_keys, seconds)]
        if claim is not None:
            request = claim_request(claim)
            commands.append(("EVALSHA", request.script.sha, *request.tail))
        try:
            token, *claimed = await cast(Pool, connection.connection_pool).ask(*commands)
            for answer in (token, *claimed):
                if isinstance(answer, Exception) and not isinstance(answer, NoScriptError):
                    raise answer
        except TROUBLE as error:
            raise_ours(error)
        taken = None if token is None else token[0].decode()
        if claim is None or isinstance(claimed[0], NoScriptError):
            return taken, None
        return taken, read_claim(claim, claimed[0])

    async def pass_on(self, token: str) -> None:
        """Leave a token in its list, for another worker."""
        with unavailable_when_away():
            await self._redis.execute_command("RPUSH", token, "1")

    async def break_off(self, client_id: int) -> bool:
        """End the wait of a blocked connection (CLIENT UNBLOCK, which answers BLPOP as its timeout would); False when
        it is not blocked."""
        with unavailable_when_away():
            return bool(await self._redis.client_unblock(client_id))


def _not_stored(ack: Ack, answer: bytes) -> bool:
    logger.error("outcome of a job cannot be stored", job_id=ack.claimed.id, reason=answer.decode(errors="replace"))
    return False


def finish_request(acks: Sequence[Ack], worker: str = "") -> Request:
    """What the finish script takes. `worker`: whose jobs they are, where that is known already."""
    arguments: list[Argument] = [0, worker or acks[0].claimed.worker]
    for ack in acks:
        claimed, outcome = ack.claimed, ack.outcome
        arguments += (claimed.id, claimed.queue_key, claimed.token, claimed.tries)
        if isinstance(outcome, Ended):
            arguments += (outcome.state.value, outcome.result, life(outcome.ttl_ms))
        else:
            arguments += ("release" if outcome.released else "retry", outcome.record, outcome.delay_ms)
        trace = outcome.trace if isinstance(outcome, Ended) else b""
        has_more = trace or ack.limits or ack.durable or ack.workflow is not None
        arguments.append(_also(ack) if has_more else b"")
    return Request(scripts.FINISH, arguments)


def _also(ack: Ack) -> bytes:
    """What else belongs to an outcome, as the script reads it; empty for most."""
    outcome = ack.outcome
    also: dict[str, object] = {"l": ack.limits}
    if isinstance(outcome, Ended):
        if ack.workflow is not None:
            also |= {"w": ack.workflow, "n": ack.node, "r": outcome.value.decode()}
        if outcome.trace:
            also["t"] = outcome.trace.decode()
    if ack.durable:
        also["d"] = ack.durable
    return wire.dumps(also)


def life(ttl_ms: int | None) -> int:
    """A result's life in the script's terms: at least a minute where it is kept at all, so that a repeated enqueue or
    ack is recognised as one."""
    if ttl_ms is None:
        return UNTIL_FOREVER
    return 0 if ttl_ms <= 0 else min(max(ttl_ms, keys.TOMBSTONE_MS), keys.MOST_MS)


def claim_request(claim: ClaimRequest) -> Request:
    """What the claim script takes."""
    modes = (int(claim.lowest_first), int(claim.suspects))
    arguments = (claim.worker, claim.number, claim.lease_ms, claim.limit, HELD_IDS_STEPPED_OVER, *modes)
    return Request(scripts.CLAIM, (len(claim.queue_keys), *claim.queue_keys, *arguments))


def read_claim(request: ClaimRequest, answer: list[Any]) -> Claim:
    """What the claim script returns."""
    now, next_due = int(answer[0]), int(answer[1])
    token = f"{keys.TOKEN}{request.worker}:{request.number}"
    jobs = []
    for start in range(4, len(answer), FIELDS_PER_CLAIM):
        job_id, queue, payload, tries, lost, aborted, alone = answer[start : start + FIELDS_PER_CLAIM]
        place = job_id.decode(), queue.decode(), token, payload
        jobs.append(Claimed(*place, tries, lost, bool(aborted), now, bool(alone)))
    return Claim(jobs, None if next_due < 0 else max(0, next_due - now) / 1000, bool(answer[2]), answer[3])
