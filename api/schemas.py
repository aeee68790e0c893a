"""The bodies of the platform's endpoints, as pydantic models."""

from typing import Annotated

from pydantic import Field

from jobs.emails import Address
from jobs.lookups import Id
from jobs.messaging import PhoneNumber
from worker.http.schemas import Body, Words


class MessageBody(Body):
    """What the SMS stand-in takes, as a provider would."""

    to: PhoneNumber
    message: Annotated[str, Field(min_length=1, max_length=1600)]
    message_type: str = "text"


class ContactBody(Body):
    """`POST /contact`."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    number: PhoneNumber
    message: Annotated[str, Field(min_length=1, max_length=5000)]


class RegistrationBody(Body):
    """`POST /register`."""

    name: Words
    email: Address


class ResetBody(Body):
    """`POST /password-reset`."""

    email: Address


class EnrolmentBody(Body):
    """`POST /enrolments`."""

    student_id: Id
    course_id: Id


class CompletionBody(Body):
    """`POST /courses/{id}/complete`, with the course from the path."""

    student_id: Id
    course_id: Id


class OrderLineBody(Body):
    """A product in an order."""

    product_id: Id
    quantity: Annotated[int, Field(ge=1, le=1000)] = 1


class OrderBody(Body):
    """`POST /orders`."""

    user_id: Id
    lines: Annotated[list[OrderLineBody], Field(min_length=1, max_length=100)]
