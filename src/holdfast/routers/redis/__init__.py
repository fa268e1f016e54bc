"""Links and states in Redis 6 or newer, or Valkey: one script per verb, one slot per user."""

from holdfast.routers.redis.executor import RedisExecutor, open_redis

__all__ = ["RedisExecutor", "open_redis"]
