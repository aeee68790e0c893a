"""Orders."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from jobs.lookups import get
from jobs.models import Order, OrderLine, Product, User
from jobs.orders import process_order


async def place_order(session: AsyncSession, user_id: int, lines: Sequence[tuple[int, int]]) -> int:
    """Write an order of (product, quantity) lines; all that it brings follows the commit. Its id.

    Raises:
        Missing: the user or a product does not exist.
    """
    await get(session, User, user_id)
    wanted = [(await get(session, Product, product), quantity) for product, quantity in lines]
    order = Order(user_id=user_id, total_cents=sum(product.price_cents * quantity for product, quantity in wanted))
    session.add(order)
    await session.flush()
    for product, quantity in wanted:
        session.add(
            OrderLine(order_id=order.id, product_id=product.id, quantity=quantity, price_cents=product.price_cents)
        )
    await process_order.options(durable=True).enqueue_in(session, order.id)
    return order.id
