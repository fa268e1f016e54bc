"""How a journal store is kept."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from holdfast.errors import ConfigError
from holdfast.wal import Options

_MIB: Final = 1024 * 1024


class JournalOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of `open_journal`; all have a default.

    snapshot_interval: seconds that lie at least between two snapshots, 0.1 and more; 0 makes none. snapshot_bytes: a
    snapshot is made when the journal has grown by this much since the last one, and by half of its size. segment_bytes,
    reserve_segments, paranoid, allow_network: as in `wal.Options`. freeze: keep what was recovered out of the garbage
    collector's sight (`gc.freeze`, for the whole process), which spares a large store pauses of tens of milliseconds.
    """

    snapshot_interval: float = 2.0
    snapshot_bytes: int = 16 * _MIB
    segment_bytes: int = 16 * _MIB
    reserve_segments: int = 2
    paranoid: bool = False
    allow_network: bool = False
    freeze: bool = True

    def __post_init__(self) -> None:
        faults = []
        if self.snapshot_interval != 0 and not 0.1 <= self.snapshot_interval <= 86_400:
            faults.append(f"snapshot_interval: expected 0 or 0.1 to 86400 seconds, found {self.snapshot_interval}")
        if self.snapshot_bytes < 0:
            faults.append(f"snapshot_bytes: expected 0 or more bytes, found {self.snapshot_bytes}")
        if faults:
            raise ConfigError("the journal's options are wrong", faults)

    @property
    def log(self) -> Options:
        """Those that concern the durable log. Raises ConfigError for one that can not be."""
        return Options(
            segment_bytes=self.segment_bytes,
            reserve_segments=self.reserve_segments,
            paranoid=self.paranoid,
            allow_network=self.allow_network,
        )


def options_of(given: dict[str, Any]) -> JournalOptions:
    """Return the options with these names. Raises ConfigError for a name that does not exist or a value that can not be."""
    known = JournalOptions.__struct_fields__
    unknown = [f"{name}: no such option" for name in given if name not in known]
    if unknown:
        raise ConfigError(f"the journal's options are wrong (there are {', '.join(known)})", unknown)
    try:
        options = msgspec.convert(given, JournalOptions)
    except msgspec.ValidationError as error:
        raise ConfigError("the journal's options are wrong", [str(error)]) from error
    options.log.capacity  # noqa: B018  # makes the log's options, which check themselves
    return options
