"""Orders, and the money in them. Amounts are cents."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from jobs.models.table import Created, FileKey, Key, Table, UserKey


class Product(Table):
    """Something that can be ordered."""

    __tablename__ = "products"
    __table_args__ = (CheckConstraint("stock >= 0", name="stock_is_there"),)

    id: Mapped[Key]
    title: Mapped[str]
    price_cents: Mapped[int]
    stock: Mapped[int] = mapped_column(default=0, server_default="0")


class Order(Table):
    """An order. status: placed, paid, shipped, or failed."""

    __tablename__ = "orders"

    id: Mapped[Key]
    user_id: Mapped[UserKey]
    status: Mapped[str] = mapped_column(default="placed", server_default="placed")
    total_cents: Mapped[int]
    placed_at: Mapped[Created]


class OrderLine(Table):
    """A product in an order."""

    __tablename__ = "order_lines"

    id: Mapped[Key]
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id", ondelete="CASCADE"), index=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"))
    quantity: Mapped[int]
    price_cents: Mapped[int]


class Payment(Table):
    """A charge; an order has at most one."""

    __tablename__ = "payments"

    id: Mapped[Key]
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id", ondelete="CASCADE"), unique=True)
    amount_cents: Mapped[int]
    charge: Mapped[str] = mapped_column(unique=True)
    paid_at: Mapped[Created]


class Invoice(Table):
    """An invoice for an order, for a registration, or of a month; `key` makes it once."""

    __tablename__ = "invoices"
    __table_args__ = (UniqueConstraint("number"),)

    id: Mapped[Key]
    number: Mapped[str]
    key: Mapped[str] = mapped_column(unique=True)
    user_id: Mapped[UserKey]
    total_cents: Mapped[int]
    file_id: Mapped[FileKey]
    issued_at: Mapped[Created]


class Credit(Table):
    """Credits given to a user under a transaction id, once."""

    __tablename__ = "credits"

    id: Mapped[Key]
    user_id: Mapped[UserKey]
    amount: Mapped[int]
    transaction_id: Mapped[str] = mapped_column(unique=True)
    given_at: Mapped[datetime]
