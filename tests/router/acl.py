"""The least that a user of the router must be allowed, as docs/sticky.md gives it."""

from typing import Final

MINIMAL: Final = (
    "on >secret ~sf:* resetchannels -@all +ping +info +hello +evalsha +script|load +get +set +del "
    "+pexpire +pttl +hget +hset +hdel +hgetall +zadd +zrange +zscore +zrem +time"
)
