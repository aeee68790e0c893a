"""The development environment: private servers, and everything in one terminal."""

from worker.dev.postgres import postgres_for, private_postgres
from worker.dev.redis import private_redis, redis_for, redis_program, wheel_redis_program
from worker.dev.servers import EmbeddedError

__all__ = [
    "EmbeddedError",
    "postgres_for",
    "private_postgres",
    "private_redis",
    "redis_for",
    "redis_program",
    "wheel_redis_program",
]
