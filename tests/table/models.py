"""Models of a user's."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import ClassVar

from sqlalchemy import DateTime, Engine, ForeignKey, Numeric, String
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column, relationship

from holdfast.table import TaskMixin


class Base(DeclarativeBase):
    """The user's declarative base."""


class Customer(Base):
    """No task: a row that orders refer to."""

    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))


class Order(TaskMixin, Base):
    """A task with a text key and business columns."""

    __tablename__ = "orders"
    order_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    receipt: Mapped[str | None] = mapped_column(String(100))
    tries: Mapped[int] = mapped_column(default=0)
    total: Mapped[Decimal | None] = mapped_column(Numeric(10, 2))
    paid_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    #: Named like a parameter of the handle.
    delay: Mapped[str | None] = mapped_column(String(20))
    code: Mapped[str | None] = mapped_column(String(20), unique=True)
    customer_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"))
    customer: Mapped[Customer | None] = relationship(lazy="selectin")


class Line(TaskMixin, Base):
    """A task with a composite key, and columns of other names."""

    __tablename__ = "lines"
    __task_columns__: ClassVar[Mapping[str, str]] = {"task_state": "status", "task_error": "last_error"}
    order_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    status_note: Mapped[str | None] = mapped_column(String(100))


class Mail(TaskMixin, Base):
    """A task whose key the database makes, with the seed's words in its column."""

    __tablename__ = "mails"
    __task_words__ = "seed"
    id: Mapped[int] = mapped_column(primary_key=True)
    address: Mapped[str | None] = mapped_column(String(100))
    sent: Mapped[int] = mapped_column(default=0)


class Bill(TaskMixin, MappedAsDataclass, Base):
    """A task that is a dataclass too."""

    __tablename__ = "bills"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    amount: Mapped[int] = mapped_column(default=0)


async def create_all(engine: Engine | AsyncEngine) -> None:
    """Make the tables."""
    if isinstance(engine, AsyncEngine):
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
    else:
        Base.metadata.create_all(engine)
