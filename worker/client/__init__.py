"""Producers: who enqueues jobs, asks for them and waits for their ends."""

from worker.client.client import Client

__all__ = ["Client"]
