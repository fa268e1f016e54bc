"""Somebody else has written into the tables."""

from tests.sql.core.damage import Damage
from tests.sql.mysql.harness import MariadbHarness


class TestDamage(Damage):
    harness = MariadbHarness
