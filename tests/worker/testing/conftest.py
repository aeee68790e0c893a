"""The kit's own fixtures, on the servers of this suite and with a registry for each test."""

import pytest

from worker import Registry


@pytest.fixture(scope="session")
def embarq_redis_url(redis_url: str) -> str:
    return redis_url


@pytest.fixture
def embarq_registry(registry: Registry) -> Registry:
    return registry
