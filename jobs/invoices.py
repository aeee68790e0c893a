"""Invoices."""

from datetime import date, timedelta

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from jobs import mail
from jobs.fan_out import fan_out
from jobs.lookups import Id, day, get, money, now
from jobs.mail import Attachment, Email, Mailer
from jobs.models import Invoice, Order, OrderLine, Product, StoredFile, User
from jobs.pdf import keep_pdf
from jobs.storage import FileStore
from worker import Context, injected, job, schedule

Line = tuple[str, int, int]  # title, quantity, price in cents
WELCOME: Line = ("Account", 1, 0)


async def invoice(
    session: AsyncSession, store: FileStore, mailer: Mailer, user: User, key: str, lines: list[Line]
) -> str:
    """The number of the invoice under this key, made and mailed if it was not there. One commit with its caller's."""
    await session.execute(text("SELECT pg_advisory_xact_lock(hashtext(:key))"), {"key": f"invoice:{key}"})
    found = await session.scalar(select(Invoice).where(Invoice.key == key))
    if found is None:
        found = await _make(session, store, user, key, lines)
    file = await get(session, StoredFile, found.file_id or 0)
    attached = (Attachment(file.name, file.content_type, await store.read(session, file)),)
    values = {"name": user.name, "number": found.number, "amount": money(found.total_cents)}
    await mailer.send(
        session, Email(user.email, f"Invoice {found.number}", "invoice", values, f"invoice:{key}", attached)
    )
    return found.number


async def _make(session: AsyncSession, store: FileStore, user: User, key: str, lines: list[Line]) -> Invoice:
    issued = now()
    total = sum(quantity * price for _, quantity, price in lines)
    made = Invoice(number=f"pending:{key}", key=key, user_id=user.id, total_cents=total)
    session.add(made)
    await session.flush()
    made.number = f"I-{issued.year}-{made.id:06}"
    shown = [
        {"title": title, "quantity": quantity, "price": money(price), "amount": money(quantity * price)}
        for title, quantity, price in lines
    ]
    values = {
        "number": made.number,
        "date": day(issued),
        "name": user.name,
        "email": user.email,
        "lines": shown,
        "total": money(total),
    }
    made.file_id = (await keep_pdf(session, store, "invoice", values, f"{made.number}.pdf")).id
    return made


@job(queue="invoices", max_tries=8, retry=mail.WHILE_AWAY)
async def generate_invoice(
    user_id: Id,
    order_id: Id | None = None,
    session: AsyncSession = injected,
    store: FileStore = injected,
    mailer: Mailer = injected,
) -> str:
    """Make and mail the invoice of an order, or of a registration; its number. A second run finds it."""
    user = await get(session, User, user_id)
    if order_id is None:
        return await invoice(session, store, mailer, user, f"registration:{user_id}", [WELCOME])
    lines = await session.execute(
        select(Product.title, OrderLine.quantity, OrderLine.price_cents)
        .join(Product, Product.id == OrderLine.product_id)
        .where(OrderLine.order_id == order_id)
        .order_by(OrderLine.id)
    )
    return await invoice(session, store, mailer, user, f"order:{order_id}", [tuple(line) for line in lines])  # type: ignore[misc]  # three columns


@job(queue="invoices", max_tries=8, retry=mail.WHILE_AWAY)
async def generate_monthly_invoice(
    user_id: Id,
    month: date,
    session: AsyncSession = injected,
    store: FileStore = injected,
    mailer: Mailer = injected,
) -> str:
    """Make and mail a user's invoice of a month over its orders; its number. A second run finds it."""
    user = await get(session, User, user_id)
    following = (month + timedelta(days=32)).replace(day=1)
    orders = await session.execute(
        select(Order.id, Order.total_cents).where(
            Order.user_id == user_id, Order.placed_at >= month, Order.placed_at < following
        )
    )
    lines: list[Line] = [(f"Order {number}", 1, total) for number, total in orders]
    return await invoice(session, store, mailer, user, f"month:{user_id}:{month:%Y-%m}", lines)


@schedule("0 6 1 * *")
@job(queue="invoices")
async def generate_invoices(ctx: Context, session: AsyncSession = injected) -> int:
    """Start the invoices of the last month, a job for each user who ordered; how many. A second run starts none."""
    first = now().date().replace(day=1)
    month = (first - timedelta(days=1)).replace(day=1)
    ordered = select(Order.user_id).where(Order.placed_at >= month, Order.placed_at < first).group_by(Order.user_id)
    ids = (await session.scalars(ordered.order_by(func.min(Order.id)))).all()
    steps = (generate_monthly_invoice.s(user_id=each, month=month.isoformat()) for each in ids)
    await fan_out(steps, f"{ctx.job_id}.invoices")
    return len(ids)
