"""Orders and payments."""

from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from jobs import mail, providers
from jobs.analytics import generate_hourly_analytics
from jobs.invoices import generate_invoice
from jobs.lookups import Id, get, money
from jobs.mail import Email, Mailer
from jobs.models import Order, OrderLine, Payment, Product, User
from jobs.providers import Crm, PaymentProvider, Warehouse
from worker import Permanent, chain, group, injected, job
from worker.database import once_in


class OutOfStock(Permanent):
    """There is less in stock than was ordered."""


@job(queue="payments", max_tries=10, retry=providers.WHILE_AWAY)
async def process_payment(order_id: Id, session: AsyncSession = injected, provider: PaymentProvider = injected) -> str:
    """Charge an order; the charge's id.

    Never twice: the request has a key made of the order, and the provider returns the same charge for the same key. If
    the job is killed between the charge and the commit, the next run gets that charge again and records it.
    """
    order = await session.scalar(select(Order).where(Order.id == order_id).with_for_update())
    if order is None:
        order = await get(session, Order, order_id)
    paid = await session.scalar(select(Payment).where(Payment.order_id == order_id))
    if paid is not None:
        return paid.charge
    charge = await provider.charge(order.total_cents, f"order {order_id}", key=f"order:{order_id}")
    session.add(Payment(order_id=order_id, amount_cents=order.total_cents, charge=charge))
    order.status = "paid"
    return charge


@job(queue="orders")
async def reserve_stock(order_id: Id, session: AsyncSession = injected) -> int:
    """Take an order's products from stock, once; how many lines. All or none."""
    lines = (await session.scalars(select(OrderLine).where(OrderLine.order_id == order_id))).all()
    if await once_in(session, f"stock:{order_id}"):
        for line in lines:
            taken = await session.execute(
                update(Product)
                .where(Product.id == line.product_id, Product.stock >= line.quantity)
                .values(stock=Product.stock - line.quantity)
                .returning(Product.id)
            )
            if taken.first() is None:
                raise OutOfStock(f"product {line.product_id} of order {order_id}")
    return len(lines)


@job(queue="orders", max_tries=10, retry=providers.WHILE_AWAY)
async def tell_warehouse(order_id: Id, session: AsyncSession = injected, warehouse: Warehouse = injected) -> None:
    """Ask the warehouse to send an order; it acts on an order's key once."""
    lines = await session.execute(
        select(OrderLine.product_id, OrderLine.quantity).where(OrderLine.order_id == order_id)
    )
    wanted = [{"product_id": product, "quantity": quantity} for product, quantity in lines]
    await warehouse.post({"order_id": order_id, "lines": wanted}, key=f"order:{order_id}")


@job(queue="crm", max_tries=10, retry=providers.WHILE_AWAY)
async def sync_crm(user_id: Id, session: AsyncSession = injected, crm: Crm = injected) -> None:
    """Send a user's data to the CRM. It replaces what it had: a second run is harmless."""
    user = await get(session, User, user_id)
    await crm.post({"user_id": user_id, "name": user.name, "email": user.email}, key=f"user:{user_id}:{user.email}")


@job(queue="emails", max_tries=8, retry=mail.WHILE_AWAY)
async def send_order_confirmation(order_id: Id, session: AsyncSession = injected, mailer: Mailer = injected) -> bool:
    """Confirm an order to its user; once."""
    order = await get(session, Order, order_id)
    user = await get(session, User, order.user_id)
    values = {"name": user.name, "order": order.id, "amount": money(order.total_cents)}
    return await mailer.send(session, Email(user.email, f"Order {order.id}", "order", values, f"order:{order.id}"))


@job(queue="orders")
async def mark_order_failed(order_id: Id, failure: dict[str, Any], session: AsyncSession = injected) -> str:
    """Record that an order has failed, and which step of it. A second run changes nothing."""
    (await get(session, Order, order_id)).status = "failed"
    return str(failure["error"]["type"])


@job(queue="orders")
async def process_order(order_id: Id, session: AsyncSession = injected) -> str:
    """Start what an order brings: stock, payment, then invoice, warehouse, confirmation, CRM, analytics side by side.

    The workflow has the order's id, so a second run finds the one of the first. When a step fails for good, the order
    has failed.
    """
    order = await get(session, Order, order_id)
    flow = chain(
        reserve_stock.si(order_id=order_id),
        process_payment.si(order_id=order_id),
        group(
            generate_invoice.si(user_id=order.user_id, order_id=order_id),
            tell_warehouse.si(order_id=order_id),
            send_order_confirmation.si(order_id=order_id),
            sync_crm.si(user_id=order.user_id),
            generate_hourly_analytics.si(at=order.placed_at),
        ),
    )
    return (await flow.enqueue(id=f"order~{order_id}", on_error=mark_order_failed.s(order_id=order_id))).id
