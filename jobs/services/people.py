"""Accounts."""

import hashlib
import secrets
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from jobs.emails import RESET_MINUTES, send_password_reset_email, send_welcome_email
from jobs.invoices import generate_invoice
from jobs.lookups import now
from jobs.models import Student, Token, User
from jobs.orders import sync_crm
from jobs.users import create_user_profile
from worker import EmbarqError


class AddressTaken(EmbarqError):
    """A user has this address already."""


async def register_user(session: AsyncSession, name: str, email: str) -> tuple[int, int]:
    """Write a user and student; welcome e-mail, profile, invoice and CRM follow the commit. Both ids.

    Raises:
        AddressTaken: the address is known.
    """
    made = insert(User).values(name=name, email=email.lower()).on_conflict_do_nothing().returning(User.id)
    user_id = (await session.execute(made)).scalar()
    if user_id is None:
        raise AddressTaken(f"the address must be new, and {email} has an account")
    student = Student(user_id=user_id)
    session.add(student)
    await session.flush()
    await send_welcome_email.enqueue_in(session, user_id)
    await create_user_profile.enqueue_in(session, user_id)
    await generate_invoice.enqueue_in(session, user_id)
    await sync_crm.enqueue_in(session, user_id)
    return user_id, student.id


async def request_password_reset(session: AsyncSession, email: str) -> None:
    """Send a code to the address, if a user has it; the answer does not reveal whether one does."""
    user_id = await session.scalar(select(User.id).where(User.email == email.lower()))
    if user_id is None:
        return
    code = secrets.token_urlsafe(16)
    digest = hashlib.sha256(code.encode()).hexdigest()
    expires = now() + timedelta(minutes=RESET_MINUTES)
    session.add(Token(user_id=user_id, kind="password_reset", digest=digest, expires_at=expires))
    await send_password_reset_email.enqueue_in(session, user_id, code)
