"""The shop's tables. `Order` is the queue of the work that is to be done on orders."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from sqlalchemy import ForeignKey, Numeric, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from holdfast.table import TaskMixin


class Base(DeclarativeBase):
    """What all tables of the shop share."""


class Customer(Base):
    """Somebody who orders."""

    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    card: Mapped[str] = mapped_column(String(20))


class Order(TaskMixin, Base):
    """An order, charged once by the service. The columns of the mixin say how far that is."""

    __tablename__ = "orders"
    order_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))
    total: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    polls: Mapped[int] = mapped_column(default=0)
    receipt: Mapped[str | None] = mapped_column(String(40))
    paid_at: Mapped[datetime | None]
    # Loaded with the order: the runner's instance is detached and can not load it later.
    customer: Mapped[Customer] = relationship(lazy="selectin")
