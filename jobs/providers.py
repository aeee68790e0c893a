"""Clients of outside services over HTTP. Each request has an idempotency key: the service acts on a key once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from worker import EmbarqError, Permanent, RetryPolicy

PROVIDER_TIMEOUT = 10.0


class MessageRefused(EmbarqError):
    """The provider will not send this message, now or later."""


class ProviderRefused(Permanent):
    """The service refused the request, and would again."""


class ProviderUnavailable(EmbarqError):
    """The service did not answer, or said that it cannot serve now; the same request may be sent again."""


# For jobs that act through a service: retried while it is unavailable.
WHILE_AWAY = RetryPolicy(on=(ProviderUnavailable,), delay=1.0, cap=300.0)


@dataclass(frozen=True, slots=True)
class Service:
    """A service at a URL."""

    http: httpx.AsyncClient
    url: str

    async def post(self, body: Mapping[str, Any], *, key: str) -> dict[str, Any]:
        """Send a request; the answer's JSON object.

        Raises:
            ProviderRefused: the service answered 4xx.
            ProviderUnavailable: it answered 5xx or 429, or not at all.
        """
        try:
            answer = await self.http.post(self.url, json=body, headers={"Idempotency-Key": key})
        except httpx.TransportError as error:
            raise ProviderUnavailable(f"{self.url} does not answer: {error!r}") from error
        if answer.status_code >= 500 or answer.status_code == 429:
            raise ProviderUnavailable(f"{self.url} answered {answer.status_code}")
        if answer.is_error:
            raise ProviderRefused(f"{answer.status_code}: {answer.text[:200]}")
        told = answer.json() if answer.content else {}
        return told if isinstance(told, dict) else {}


class SmsProvider(Service):
    """Sends text messages."""

    __slots__ = ()

    async def send(self, to: str, message: str, message_type: str, *, key: str) -> None:
        """Send one message.

        Raises:
            MessageRefused: the provider answered 4xx.
            ProviderUnavailable: it answered 5xx or 429, or not at all.
        """
        try:
            await self.post({"to": to, "message": message, "message_type": message_type}, key=key)
        except ProviderRefused as error:
            raise MessageRefused(str(error)) from error


class PaymentProvider(Service):
    """Charges money."""

    __slots__ = ()

    async def charge(self, amount_cents: int, reference: str, *, key: str) -> str:
        """Charge an amount; the charge's id, the same for the same key.

        Raises:
            ProviderRefused: the payment was declined.
            ProviderUnavailable: try again.
        """
        told = await self.post({"amount_cents": amount_cents, "reference": reference}, key=key)
        return str(told["id"])


class Crm(Service):
    """Knows customers."""

    __slots__ = ()


class Warehouse(Service):
    """Packs and sends what was ordered."""

    __slots__ = ()
