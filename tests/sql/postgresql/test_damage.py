"""Somebody else has written into the tables."""

from tests.sql.core.damage import Damage
from tests.sql.postgresql.harness import PostgresHarness


class TestDamage(Damage):
    harness = PostgresHarness
