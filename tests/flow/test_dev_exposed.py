"""`embarq dev` where other machines reach it: nobody is served without the key of the run."""

import re
import signal
import time
from pathlib import Path

import httpx
import pytest

from tests.support import free_port, start_embarq

LIMIT = 60


@pytest.mark.timeout(180)
def test_key_is_made_and_told(servers: Path) -> None:
    port, log = free_port(), servers / "exposed.log"
    environment = {"PORT": str(port), "EMBARQ_DATA_DIR": str(servers / "exposed"), "REDIS_URL": "", "DATABASE_URL": ""}
    process = start_embarq("dev", log=log, EMBARQ_HOST="0.0.0.0", **environment)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=40) as http:
            deadline = time.monotonic() + LIMIT
            while not serves(http):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            told = re.search(r"Bearer ([\w-]{20,})`", log.read_text())
            assert told is not None, log.read_text()
            body = {"job": "send_bulk_messages", "args": {"numbers": ["+15550100"], "message": "hello"}}
            assert http.post("/api/v1/jobs", json=body).status_code == 401
            http.headers["Authorization"] = f"Bearer {told[1]}"
            where = http.post("/api/v1/jobs", json=body).headers["Location"]
            job = http.get(where, params={"wait": 30}).json()
            assert job["result"] == {"sent": 1, "refused": []}  # the worker reaches the stand-in without a key
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def serves(http: httpx.Client) -> bool:
    try:
        return http.get("/health/ready").status_code == 200
    except httpx.TransportError:
        return False
