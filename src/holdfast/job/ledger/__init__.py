"""The ledger: the rules of Holdfast on state in memory. `ledger.py` is the place to start."""

from holdfast.job.ledger.decide import decide, execute
from holdfast.job.ledger.folding import fold
from holdfast.job.ledger.ledger import Ledger
from holdfast.job.ledger.validate import Fault, canonical, validate

__all__ = ["Fault", "Ledger", "canonical", "decide", "execute", "fold", "validate"]
