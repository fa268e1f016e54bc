"""The embedded store: everything in one folder, durable before it is answered. `store.py` is the place to start."""

from holdfast.stores.journal.options import JournalOptions
from holdfast.stores.journal.recovery import Recovered
from holdfast.stores.journal.store import JournalHealth, JournalStore, open_journal

__all__ = ["JournalHealth", "JournalOptions", "JournalStore", "Recovered", "open_journal"]
