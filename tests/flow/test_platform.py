"""The learning platform end to end: API and worker as processes, stand-ins for everybody outside."""

import asyncio
import base64
import json
import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiosmtpd.smtp import SMTP
from sqlalchemy import func, select, text
from sqlalchemy import table as named
from sqlalchemy.ext.asyncio import AsyncEngine

from jobs.models import (
    Certificate,
    Course,
    EmailSent,
    Enrolment,
    Order,
    Payment,
    Product,
    StoredFile,
    Student,
    User,
)
from tests.support import eventually, free_port, start_embarq
from worker.database import Database
from worker.dev import private_redis


@dataclass
class Platform:
    """The running service, as a client sees it, and its database."""

    http: httpx.AsyncClient
    database: Database
    start_worker: Callable[..., "subprocess.Popen[bytes]"]
    worker: "subprocess.Popen[bytes]"

    async def post(self, path: str, body: dict[str, Any], expected: int) -> dict[str, Any]:
        answer = await self.http.post(f"/api/v1{path}", json=body)
        assert answer.status_code == expected, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def kept(self, service: str) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = (await self.http.get(f"/stand-ins/{service}")).json()["messages"]
        return messages

    async def mail(self, to: str, subject: str) -> dict[str, Any]:
        async def found() -> dict[str, Any] | None:
            mails = await self.kept("mail")
            return next((each for each in mails if to in each["to"] and subject in each["subject"]), None)

        return await eventually(found, 30)

    async def result(self, queued: dict[str, Any]) -> Any:
        job = (await self.http.get(queued["links"]["self"], params={"wait": 30}, timeout=40)).json()
        assert job["state"] == "succeeded", job
        return job["result"]

    async def add(self, *rows: Any) -> None:
        async with self.database.session() as session:
            session.add_all(rows)


@pytest.fixture
async def platform(migrated: AsyncEngine, tmp_path: Path) -> AsyncIterator[Platform]:
    port = free_port()
    with private_redis(tmp_path / "redis") as redis_url:
        environment = {
            "REDIS_URL": redis_url,
            "DATABASE_URL": migrated.url.render_as_string(hide_password=False),
            "PORT": str(port),
            "EMBARQ_MAIL_PORT": str(free_port()),
            "EMBARQ_DATA_DIR": str(tmp_path / "data"),
            "EMBARQ_LEASE": "1",
        }

        def start(*command: str, **more: str) -> "subprocess.Popen[bytes]":
            return start_embarq(*command, log=tmp_path / f"{command[0]}.log", **environment, **more)

        processes = [start("api")]

        def start_worker(**more: str) -> "subprocess.Popen[bytes]":
            processes.append(start("worker", "-Q", "*", "--no-schedules", **more))
            return processes[-1]

        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
                await eventually(lambda: ready(http), 30)
                yield Platform(http, Database(migrated), start_worker, start_worker())
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(40)


async def ready(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/health/ready")).status_code == 200
    except httpx.TransportError:
        return False


async def register(platform: Platform, email: str = "ada@example.com") -> tuple[int, int]:
    made = await platform.post("/register", {"name": "Ada Lovelace", "email": email}, 201)
    return made["user_id"], made["student_id"]


@pytest.mark.timeout(180)
async def test_registration_brings_mail_invoice_and_crm(platform: Platform) -> None:
    user_id, _ = await register(platform)
    welcome = await platform.mail("ada@example.com", "Welcome")
    assert "Hello Ada Lovelace" in welcome["text"]
    invoice = await platform.mail("ada@example.com", "Invoice I-")
    assert re.fullmatch(r"I-\d{4}-\d{6}\.pdf", invoice["attachments"][0])
    (told,) = await eventually(lambda: platform.kept("crm"), 30)
    assert (told["user_id"], told["email"]) == (user_id, "ada@example.com")
    await platform.post("/register", {"name": "Ada again", "email": "ADA@example.com"}, 409)
    await platform.post("/register", {"name": "", "email": "nobody"}, 422)


@pytest.mark.timeout(180)
async def test_enrolment_completion_and_certificate(platform: Platform) -> None:
    _, student_id = await register(platform)
    course = Course(title="Analytical Engines")
    await platform.add(course)
    pair = {"student_id": student_id, "course_id": course.id}
    await platform.post("/enrolments", pair, 201)
    await platform.post("/enrolments", pair, 200)
    await platform.mail("ada@example.com", "You are enrolled in Analytical Engines")
    done = await platform.post(f"/courses/{course.id}/complete", {"student_id": student_id}, 200)
    assert done["certificate"] is True
    mail = await platform.mail("ada@example.com", "Your certificate")
    async with platform.database.session() as session:
        certificate = (await session.scalars(select(Certificate))).one()
    assert mail["attachments"] == [f"{certificate.number}.pdf"]
    assert certificate.number in mail["text"]
    assert (await platform.post(f"/courses/{course.id}/complete", {"student_id": student_id}, 200))[
        "certificate"
    ] is False
    again = await platform.post("/jobs", {"job": "generate_certificate", "args": pair}, 202)
    assert await platform.result(again) == certificate.number
    assert sum("certificate" in each["subject"] for each in await platform.kept("mail")) == 1
    revoked = await platform.post(f"/certificates/{certificate.id}/revoke", {"reason": "a mistake"}, 202)
    assert await platform.result(revoked) is True
    await platform.post("/enrolments", {"student_id": student_id, "course_id": 999_999}, 404)


@pytest.mark.timeout(180)
async def test_export_is_at_its_link_until_that_expires(platform: Platform) -> None:
    for n in range(3):
        await register(platform, f"student{n}@example.com")
    result = await platform.result(await platform.post("/exports/students", {"active_only": True}, 202))
    assert result["rows"] == 3
    answer = await platform.http.get(result["link"])
    assert answer.headers["Content-Disposition"] == 'attachment; filename="students.csv"'
    lines = answer.content.decode("utf-8-sig").splitlines()
    assert lines[0] == "id,name,email,active,joined"
    assert len(lines) == 4
    assert (await platform.http.get(result["link"].replace("until=", "until=9"))).status_code == 403
    assert (await platform.http.get(result["link"][:-1])).status_code == 403


async def placed_order(platform: Platform) -> int:
    user_id, _ = await register(platform)
    product = Product(title="Textbook", price_cents=4900, stock=3)
    await platform.add(product)
    body = {"user_id": user_id, "lines": [{"product_id": product.id, "quantity": 2}]}
    order_id: int = (await platform.post("/orders", body, 201))["order_id"]
    return order_id


async def workflow_of(platform: Platform, order_id: int) -> dict[str, Any]:
    async def there() -> dict[str, Any] | None:
        answer = await platform.http.get(f"/api/v1/workflows/order~{order_id}", params={"wait": 60}, timeout=70)
        found: dict[str, Any] = answer.json()
        return found if answer.status_code == 200 else None

    return await eventually(there, 30)


@pytest.mark.timeout(180)
async def test_order_is_charged_once_although_the_provider_fails_twice(platform: Platform) -> None:
    answer = await platform.http.post("/stand-ins/payment/trouble", json={"statuses": [503, 503]})
    assert answer.status_code == 200
    order_id = await placed_order(platform)
    workflow = await workflow_of(platform, order_id)
    assert workflow["state"] == "succeeded", workflow["error"]
    (charge,) = await platform.kept("payment")
    assert charge["amount_cents"] == 9800
    async with platform.database.session() as session:
        assert (await session.scalars(select(Payment.order_id))).all() == [order_id]
        assert (await session.scalars(select(Order.status))).all() == ["paid"]
        assert (await session.scalars(select(Product.stock))).all() == [1]
    await platform.mail("ada@example.com", f"Order {order_id}")
    (wanted,) = await platform.kept("warehouse")
    assert wanted["lines"][0]["quantity"] == 2


@asynccontextmanager
async def deadly_provider(victim: Callable[[], int], charged: list[str]) -> AsyncIterator[str]:
    """A payment provider that charges, and at the first charge kills who asked before it answers."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        await reader.readexactly(int(head.split("content-length:")[1].split("\r\n")[0]))
        charged.append(head.split("idempotency-key:")[1].split("\r\n")[0].strip())
        if len(charged) == 1:
            os.kill(victim(), signal.SIGKILL)
        else:
            body = json.dumps({"id": f"ch_{charged[-1]}"}).encode()
            writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/charges"


@pytest.mark.timeout(180)
async def test_worker_killed_between_charge_and_commit_charges_once(platform: Platform) -> None:
    platform.worker.terminate()
    platform.worker.wait(40)
    charged: list[str] = []
    workers: list[subprocess.Popen[bytes]] = []
    async with deadly_provider(lambda: workers[0].pid, charged) as url:
        workers.append(platform.start_worker(EMBARQ_PAYMENT_URL=url))
        order_id = await placed_order(platform)
        await asyncio.to_thread(workers[0].wait, 60)
        workers.append(platform.start_worker(EMBARQ_PAYMENT_URL=url))
        workflow = await workflow_of(platform, order_id)
    assert workflow["state"] == "succeeded", workflow["error"]
    assert charged == [f"order:{order_id}"] * 2  # one key: one charge at the provider
    async with platform.database.session() as session:
        assert (await session.scalars(select(Payment.charge))).all() == [f"ch_order:{order_id}"]
        assert (await session.scalars(select(Order.status))).all() == ["paid"]


class DeadlyMailServer:
    """Takes e-mails, and at the first one kills who sent it before it answers."""

    def __init__(self, victim: Callable[[], int]) -> None:
        self._victim = victim
        self.messages: list[EmailMessage] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # aiosmtpd's name
        self.messages.append(message_from_bytes(envelope.content, _class=EmailMessage, policy=policy.default))
        if len(self.messages) == 1:
            os.kill(self._victim(), signal.SIGKILL)
        return "250 ok"


@asynccontextmanager
async def killed_at_the_first_mail(platform: Platform) -> AsyncIterator[DeadlyMailServer]:
    """Workers whose mail server kills the first of them; the second comes when the first has died."""
    platform.worker.terminate()
    await asyncio.to_thread(platform.worker.wait, 40)
    workers: list[subprocess.Popen[bytes]] = []
    server, port = DeadlyMailServer(lambda: workers[0].pid), free_port()
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: SMTP(server, loop=loop), "127.0.0.1", port)
    url = f"smtp://127.0.0.1:{port}"

    async def follow() -> None:
        await asyncio.to_thread(workers[0].wait, 60)
        workers.append(platform.start_worker(EMBARQ_SMTP_URL=url))

    workers.append(platform.start_worker(EMBARQ_SMTP_URL=url))
    following = asyncio.create_task(follow())
    try:
        yield server
    finally:
        await following
        listening.close()


@pytest.mark.timeout(180)
async def test_welcome_killed_half_way_is_on_record_once(platform: Platform) -> None:
    async with killed_at_the_first_mail(platform) as server:
        job = {"job": "send_welcome_email", "args": {"user_id": await a_user(platform)}}
        assert await platform.result(await platform.post("/jobs", job, 202)) is True
        assert await platform.result(await platform.post("/jobs", job, 202)) is False
    assert len(server.messages) == 2  # the mail server had the first one when the worker died
    assert len({message["Message-ID"] for message in server.messages}) == 1  # and can tell that it is the same
    async with platform.database.session() as session:
        assert len((await session.scalars(select(EmailSent.id))).all()) == 1


async def a_user(platform: Platform) -> int:
    user = User(name="Ada", email="ada@example.com")
    await platform.add(user)
    return user.id


@pytest.mark.timeout(180)
async def test_certificate_killed_half_way_is_made_once(platform: Platform) -> None:
    student, course = Student(user_id=await a_user(platform)), Course(title="Engines")
    await platform.add(student, course)
    await platform.add(Enrolment(student_id=student.id, course_id=course.id, completed_at=datetime.now(UTC)))
    async with killed_at_the_first_mail(platform) as server:
        job = {"job": "generate_certificate", "args": {"student_id": student.id, "course_id": course.id}}
        number = await platform.result(await platform.post("/jobs", job, 202))
        assert await platform.result(await platform.post("/jobs", job, 202)) == number
    assert len(server.messages) == 2
    async with platform.database.session() as session:
        assert (await session.scalars(select(Certificate.number))).all() == [number]
        assert (await session.scalars(select(StoredFile.name))).all() == [f"{number}.pdf"]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("table", ["credits", "profiles"])
async def test_row_of_a_job_killed_half_way_is_there_once(platform: Platform, table: str) -> None:
    """The table is locked, so that the job is killed between its first statement and its commit."""
    user_id = await a_user(platform)
    credits_job = {"job": "add_credits", "args": {"user_id": user_id, "amount": 5, "transaction_id": "t1"}}
    job = credits_job if table == "credits" else {"job": "create_user_profile", "args": {"user_id": user_id}}
    async with platform.database.session() as session:
        await session.execute(text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
        queued = await platform.post("/jobs", job, 202)

        async def stuck() -> bool:
            async with platform.database.session() as other:
                waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
                return bool((await other.execute(waiting)).scalar_one())

        await eventually(stuck, 30)
        platform.worker.send_signal(signal.SIGKILL)
        platform.worker.wait(10)
    platform.start_worker()
    await platform.result(queued)
    again = await platform.result(await platform.post("/jobs", job, 202))
    assert again == (5 if table == "credits" else False)
    async with platform.database.session() as session:
        assert await session.scalar(select(func.count()).select_from(named(table))) == 1


@pytest.mark.timeout(180)
async def test_declined_payment_fails_the_order(platform: Platform) -> None:
    await platform.http.post("/stand-ins/payment/trouble", json={"statuses": [402]})
    order_id = await placed_order(platform)
    workflow = await workflow_of(platform, order_id)
    assert (workflow["state"], workflow["error"]["type"]) == ("failed", "ProviderRefused")

    async def failed() -> bool:
        async with platform.database.session() as session:
            return (await session.scalars(select(Order.status))).all() == ["failed"]

    await eventually(failed, 20)
    assert await platform.kept("payment") == []


@pytest.mark.timeout(180)
async def test_history_over_http(platform: Platform) -> None:
    for n in range(3):
        body = {"job": "echo", "args": {"value": f"needle {n}"}, "options": {"tags": ["seen"], "result_ttl": 0}}
        await platform.result(await platform.post("/jobs", body, 202))

    async def listed() -> dict[str, Any] | None:
        answer = await platform.http.get("/api/v1/jobs", params={"tag": "seen", "limit": 2})
        found: dict[str, Any] = answer.json()
        return found if len(found["jobs"]) == 2 else None

    page = await eventually(listed, 30)
    rest = (await platform.http.get("/api/v1/jobs", params={"tag": "seen", "cursor": page["next"]})).json()
    assert [job["args"]["value"] for job in page["jobs"] + rest["jobs"]] == ["needle 2", "needle 1", "needle 0"]
    assert rest["next"] is None
    found = (await platform.http.get("/api/v1/jobs", params={"text": "needle 1", "state": "succeeded"})).json()
    assert [job["args"]["value"] for job in found["jobs"]] == ["needle 1"]
    assert (await platform.http.get("/api/v1/jobs", params={"state": "nonsense"})).status_code == 422
    bare = base64.urlsafe_b64encode(b"2026-01-01T00:00:00 x").decode()
    for cursor in ("nonsense", bare):
        assert (await platform.http.get("/api/v1/jobs", params={"cursor": cursor})).status_code == 422
    assert (await platform.http.get("/api/v1/jobs", params={"since": "2020-01-01"})).status_code == 422


async def test_what_postgres_would_not_take_is_refused(platform: Platform) -> None:
    large = 2**40
    await platform.post("/register", {"name": "a\0b", "email": "a@example.com"}, 422)
    await platform.post("/register", {"name": "a", "email": "a\0@example.com"}, 422)
    await platform.post("/enrolments", {"student_id": large, "course_id": 1}, 422)
    await platform.post(f"/courses/{large}/complete", {"student_id": 1}, 422)
    await platform.post("/orders", {"user_id": large, "lines": [{"product_id": 1}]}, 422)
    for where, status in (
        ("/api/v1/jobs/a%00b", 404),
        ("/api/v1/jobs?text=%00", 422),
        ("/api/v1/jobs?queue=a%00", 422),
        (f"/api/v1/files/{large}?until=9&signature=%C3%A9", 403),
        (f"/api/v1/files/1?until={'9' * 5000}&signature=x", 422),
        ("/api/v1/files/1?until=later&signature=x", 422),
    ):
        assert (await platform.http.get(where)).status_code == status, where


@pytest.mark.timeout(180)
async def test_pipelines_reports_and_broadcast(platform: Platform) -> None:
    user_id, student_id = await register(platform)
    started = await platform.result(await platform.post("/calculate", {"items": [1, 2, 3]}, 202))
    workflow = (await platform.http.get(f"/api/v1/workflows/{started}", params={"wait": 30}, timeout=40)).json()
    assert workflow["result"] == 14
    body = {"text": "one two two", "user_id": user_id}
    started = await platform.result(await platform.post("/process", body, 202))
    workflow = (await platform.http.get(f"/api/v1/workflows/{started}", params={"wait": 30}, timeout=40)).json()
    assert workflow["result"] == "3 words, 2 different; most frequent: two (2), one (1)"
    report = await platform.result(await platform.post(f"/students/{student_id}/report", {}, 202))
    assert (await platform.http.get(report["link"])).content.startswith(b"%PDF")
    (started,) = await platform.result(await platform.post("/broadcast", {"title": "Hi", "message": "All"}, 202))
    workflow = (await platform.http.get(f"/api/v1/workflows/{started}", params={"wait": 30}, timeout=40)).json()
    assert workflow["result"] == [True]
    await platform.post("/password-reset", {"email": "ada@example.com"}, 202)
    await platform.post("/password-reset", {"email": "nobody@example.com"}, 202)
    assert "code" in (await platform.mail("ada@example.com", "A new password"))["text"]


@pytest.mark.timeout(180)
async def test_worker_killed_between_mail_and_commit_sends_no_second_certificate(platform: Platform) -> None:
    """A stopped and killed worker's certificate is finished by the next one, under the same number."""
    _, student_id = await register(platform)
    course = Course(title="Engines")
    await platform.add(course)
    await platform.post("/enrolments", {"student_id": student_id, "course_id": course.id}, 201)
    await platform.post(f"/courses/{course.id}/complete", {"student_id": student_id}, 200)
    platform.worker.send_signal(signal.SIGKILL)
    platform.worker.wait(10)
    platform.start_worker()
    await platform.mail("ada@example.com", "Your certificate")
    await eventually(lambda: certified(platform))  # the e-mail goes out before the commit
    async with platform.database.session() as session:
        files = (await session.scalars(select(StoredFile.name).where(StoredFile.name.startswith("C-")))).all()
    (number,) = await certified(platform)
    assert files == [f"{number}.pdf"]


async def certified(platform: Platform) -> Sequence[str]:
    async with platform.database.session() as session:
        return (await session.scalars(select(Certificate.number))).all()
