"""Each job of the platform on a real database, run twice where a second run must change nothing."""

import asyncio
import csv
import email
import email.policy
import io
import resource
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiosmtpd.controller import Controller
from PIL import Image
from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from jobs import (
    analytics,
    certificates,
    documents,
    emails,
    exports,
    fan_out,
    invoices,
    maintenance,
    messaging,
    notifications,
    orders,
    progress,
    reports,
    seed,
    users,
)
from jobs.cache import Cache
from jobs.lookups import Missing, now
from jobs.mail import Mailer, MailRefused, MailUnavailable
from jobs.models import (
    Analytics,
    Archive,
    Assignment,
    Certificate,
    Course,
    Credit,
    EmailSent,
    Enrolment,
    FilePart,
    Invoice,
    Lesson,
    LessonProgress,
    LoginSession,
    Message,
    Notification,
    Order,
    OrderLine,
    Payment,
    Product,
    Profile,
    StoredFile,
    Student,
    Token,
    User,
)
from jobs.providers import Crm, PaymentProvider, ProviderRefused, ProviderUnavailable, SmsProvider, Warehouse
from jobs.services import people
from jobs.storage import FileStore, Folder, InPostgres, whole
from tests.support import Kit, free_port
from worker import Context, JobDefinition, registry
from worker.database import Database
from worker.database.outbox import outbox_table
from worker.system.programs import postgres_program


class Inbox:
    """What a real SMTP server got."""

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []
        self.answer = "250 ok"
        self.recipient_answer = "250 ok"

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:
        envelope.rcpt_tos.append(address)
        return self.recipient_answer

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # aiosmtpd's name
        if self.answer.startswith("250"):
            self.messages.append(
                email.message_from_bytes(envelope.content, _class=EmailMessage, policy=email.policy.default)
            )
        return self.answer


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def mailer(inbox: Inbox) -> Iterator[Mailer]:
    port = free_port()
    controller = Controller(inbox, hostname="127.0.0.1", port=port)
    controller.start()
    yield Mailer(f"smtp://127.0.0.1:{port}", "Platform <platform@example.com>")
    controller.stop()


@pytest.fixture
def store(request: pytest.FixtureRequest, tmp_path: Path, migrated: AsyncEngine) -> FileStore:
    """Files in a folder, or in the database where a test is marked `wherever_files_lie`."""
    in_postgres = getattr(request, "param", "folder") == "postgres"
    return FileStore(InPostgres(Database(migrated)) if in_postgres else Folder(tmp_path), b"secret")


wherever_files_lie = pytest.mark.parametrize("store", ["folder", "postgres"], indirect=True)


class Desk:
    """Runs jobs directly, each in a transaction of its own, with the resources that they ask for."""

    def __init__(self, database: Database, resources: list[Any]) -> None:
        self.database = database
        self._resources: dict[type, Any] = {type(each): each for each in [database, *resources]}

    async def run(self, job: JobDefinition[..., Any], job_id: str = "j1", /, **arguments: Any) -> Any:
        context = Context(job_id=job_id, job=job.name)
        async with self.database.session() as session:
            injected = {
                name: session if kind is AsyncSession else self._resources[kind]
                for name, kind in job.schema.injected.items()
            }
            returned = job.invoke(context, (), job.schema.validate(arguments) | injected)
            return await returned

    async def twice(self, job: JobDefinition[..., Any], job_id: str = "j1", /, **arguments: Any) -> list[Any]:
        return [await self.run(job, job_id, **arguments) for _ in range(2)]

    async def count(self, table: Any) -> int:
        async with self.database.session() as session:
            return await session.scalar(select(func.count()).select_from(table)) or 0

    async def add(self, *rows: Any) -> None:
        async with self.database.session() as session:
            session.add_all(rows)


@pytest.fixture
async def desk(migrated: AsyncEngine, store: FileStore, mailer: Mailer, kit: Kit) -> AsyncIterator[Desk]:
    registry.bind(kit.client)
    yield Desk(Database(migrated), [store, mailer, Cache(kit.client.redis)])
    registry.bind(None)


async def content(desk: Desk, store: FileStore, file_id: int) -> bytes:
    async with desk.database.session() as session:
        return await store.read(session, await session.get_one(StoredFile, file_id))


async def put(desk: Desk, store: FileStore, place: str, data: bytes) -> None:
    """A file that was there before."""
    async with desk.database.session() as session:
        file = StoredFile(place=place, name=place, content_type="text/plain", size=len(data))
        session.add(file)
        await session.flush()
        await store.backend.write(session, file, whole(data))


async def student(desk: Desk, email: str = "ada@example.com", **fields: Any) -> tuple[User, Student]:
    user = User(name="Ada", email=email, **fields)
    await desk.add(user)
    made = Student(user_id=user.id)
    await desk.add(made)
    return user, made


async def enrolled(desk: Desk, **fields: Any) -> tuple[Student, Course, Enrolment]:
    _, learner = await student(desk)
    course = Course(title="Engines")
    await desk.add(course)
    enrolment = Enrolment(student_id=learner.id, course_id=course.id, **fields)
    await desk.add(enrolment)
    return learner, course, enrolment


async def test_emails_are_sent_once_under_their_keys(desk: Desk, inbox: Inbox) -> None:
    learner, course, _ = await enrolled(desk)
    user_id = learner.user_id
    assert await desk.twice(emails.send_welcome_email, user_id=user_id) == [True, False]
    assert await desk.twice(emails.send_password_reset_email, user_id=user_id, code="abc123") == [True, False]
    pair = {"student_id": learner.id, "course_id": course.id}
    assert await desk.twice(emails.send_enrollment_confirmation, **pair) == [True, False]
    plain = {"to": "bob@example.com", "subject": "Hi\r\nBcc: all@example.com", "body": "<b>Hello</b>"}
    assert await desk.twice(emails.send_email, **plain) == [True, False]
    assert [message["Subject"] for message in inbox.messages] == [
        "Welcome",
        "A new password",
        "You are enrolled in Engines",
        "Hi Bcc: all@example.com",
    ]
    page = inbox.messages[-1].get_body(("html",))
    assert page is not None
    assert "&lt;b&gt;Hello" in page.get_content()
    assert await desk.count(EmailSent) == 4


async def test_mail_server_that_is_away_or_refuses(desk: Desk, inbox: Inbox) -> None:
    user, _ = await student(desk)
    inbox.answer = "451 later"
    with pytest.raises(MailUnavailable):
        await desk.run(emails.send_welcome_email, user_id=user.id)
    inbox.answer = "550 no"
    with pytest.raises(MailRefused):
        await desk.run(emails.send_welcome_email, user_id=user.id)
    inbox.answer = "250 ok"
    inbox.recipient_answer = "450 greylisted"
    with pytest.raises(MailUnavailable, match="450 greylisted"):
        await desk.run(emails.send_welcome_email, user_id=user.id)
    inbox.recipient_answer = "550 no such mailbox"
    with pytest.raises(MailRefused, match="550 no such mailbox"):
        await desk.run(emails.send_welcome_email, user_id=user.id)
    inbox.recipient_answer = "250 ok"
    assert await desk.run(emails.send_welcome_email, user_id=user.id)
    with pytest.raises(Missing):
        await desk.run(emails.send_welcome_email, user_id=10**6)


@wherever_files_lie
async def test_certificate_is_made_once_and_only_for_the_completed(desk: Desk, inbox: Inbox, store: FileStore) -> None:
    learner, course, enrolment = await enrolled(desk)
    pair = {"student_id": learner.id, "course_id": course.id}
    assert await desk.run(certificates.generate_certificate, **pair) is None
    async with desk.database.session() as session:
        (await session.get_one(Enrolment, enrolment.id)).completed_at = now()
    first, second = await desk.twice(certificates.generate_certificate, **pair)
    assert first == second
    assert await desk.count(Certificate) == 1
    (message,) = inbox.messages
    (attached,) = message.iter_attachments()
    assert attached.get_content().startswith(b"%PDF")
    async with desk.database.session() as session:
        certificate_id = await session.scalar(select(Certificate.id))
    assert await desk.twice(certificates.revoke_certificate, certificate_id=certificate_id, reason="x") == [True, False]
    third = await desk.run(certificates.generate_certificate, **pair)
    assert third != first


async def test_certificate_job_that_dies_leaves_nothing_half_made(desk: Desk, inbox: Inbox) -> None:
    learner, course, _ = await enrolled(desk, completed_at=now())
    inbox.answer = "451 later"
    pair = {"student_id": learner.id, "course_id": course.id}
    with pytest.raises(MailUnavailable):
        await desk.run(certificates.generate_certificate, **pair)
    assert await desk.count(Certificate) == await desk.count(StoredFile) == 0
    inbox.answer = "250 ok"
    assert await desk.run(certificates.generate_certificate, **pair)


async def test_progress_is_reckoned_from_lessons(desk: Desk) -> None:
    learner, course, enrolment = await enrolled(desk)
    lessons = [Lesson(course_id=course.id, position=n, title="x") for n in range(3)]
    await desk.add(*lessons)
    await desk.add(LessonProgress(enrolment_id=enrolment.id, lesson_id=lessons[0].id))
    pair = {"student_id": learner.id, "course_id": course.id}
    assert await desk.twice(progress.recalculate_course_progress, **pair) == [33, 33]
    async with desk.database.session() as session:
        (await session.get_one(Enrolment, enrolment.id)).active_at = now() - timedelta(days=100)
    assert await desk.twice(progress.cleanup_stale_progress) == [1, 0]


async def test_users_profile_stats_and_credits(desk: Desk) -> None:
    user, _ = await student(desk)
    assert await desk.twice(users.create_user_profile, user_id=user.id) == [True, False]
    give = {"user_id": user.id, "amount": 10, "transaction_id": "t1"}
    assert await desk.twice(users.add_credits, **give) == [10, 10]
    assert await desk.run(users.add_credits, **(give | {"transaction_id": "t2"})) == 20
    numbers = {"enrolments": 0, "completed": 0, "orders": 0, "credits": 20}
    assert await desk.twice(users.update_user_stats, user_id=user.id) == [numbers, numbers]
    assert (await desk.count(Credit), await desk.count(Profile)) == (2, 1)


async def test_notifications(desk: Desk, kit: Kit) -> None:
    user, _ = await student(desk)
    bob, _ = await student(desk, "bob@example.com")
    assert await desk.twice(notifications.send_notification, user_id=user.id, message="hi") == [True, False]
    many = {"user_ids": [user.id, bob.id, 999_999], "title": "t", "message": "m"}
    assert [await desk.run(notifications.send_bulk_notifications, "j2", **many) for _ in range(2)] == [2, 0]
    assert await desk.count(Notification) == 3
    first, second = await desk.twice(notifications.broadcast, f"b-{kit.queue}", title="t", message="m")
    assert first == second
    assert [len((await kit.client.workflow(each)).steps) for each in first] == [3]


async def test_broadcast_to_more_users_than_a_group_takes(
    desk: Desk, kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    everybody = {"title": "t", "message": "m"}
    assert await desk.run(notifications.broadcast, f"none-{kit.queue}", **everybody) == []
    monkeypatch.setattr(fan_out, "MOST", 2)
    for n in range(5):
        await student(desk, f"user{n}@example.com")
    started = await desk.run(notifications.broadcast, f"b-{kit.queue}", **everybody)
    assert [len((await kit.client.workflow(each)).steps) for each in started] == [3, 3, 2]


async def order_of(desk: Desk, stock: int = 5) -> Order:
    user, _ = await student(desk)
    product = Product(title="Book", price_cents=1000, stock=stock)
    await desk.add(product)
    order = Order(user_id=user.id, total_cents=2000)
    await desk.add(order)
    await desk.add(OrderLine(order_id=order.id, product_id=product.id, quantity=2, price_cents=1000))
    return order


def provider(kind: Any, statuses: list[int], seen: list[str]) -> Any:
    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["Idempotency-Key"])
        return httpx.Response(statuses.pop(0) if statuses else 201, json={"id": f"ch_{seen[-1]}"})

    return kind(httpx.AsyncClient(transport=httpx.MockTransport(answer)), "http://provider.test")


async def test_payment_is_charged_under_one_key_and_recorded_once(desk: Desk) -> None:
    order = await order_of(desk)
    seen: list[str] = []
    own = Desk(desk.database, [provider(PaymentProvider, [503], seen)])
    with pytest.raises(ProviderUnavailable):
        await own.run(orders.process_payment, order_id=order.id)
    assert await own.twice(orders.process_payment, order_id=order.id) == [f"ch_order:{order.id}"] * 2
    assert seen == [f"order:{order.id}"] * 2
    assert await desk.count(Payment) == 1
    declined = Desk(desk.database, [provider(PaymentProvider, [402], [])])
    other = Order(user_id=order.user_id, total_cents=5)
    await desk.add(other)
    with pytest.raises(ProviderRefused):
        await declined.run(orders.process_payment, order_id=other.id)


async def test_stock_is_taken_once_and_never_below_nothing(desk: Desk) -> None:
    order = await order_of(desk, stock=3)
    assert await desk.twice(orders.reserve_stock, order_id=order.id) == [1, 1]
    async with desk.database.session() as session:
        assert await session.scalar(select(Product.stock)) == 1
        second = Order(user_id=order.user_id, total_cents=1)
        session.add(second)
        await session.flush()
        product = await session.scalar(select(Product.id))
        session.add(OrderLine(order_id=second.id, product_id=product, quantity=2, price_cents=1))
    with pytest.raises(orders.OutOfStock):
        await desk.run(orders.reserve_stock, order_id=second.id)
    seen: list[str] = []
    own = Desk(desk.database, [provider(Warehouse, [], seen)])
    await own.twice(orders.tell_warehouse, order_id=order.id)
    assert seen == [f"order:{order.id}"] * 2
    told: list[str] = []
    await Desk(desk.database, [provider(Crm, [], told)]).twice(orders.sync_crm, user_id=order.user_id)
    assert told == [f"user:{order.user_id}:ada@example.com"] * 2
    failure = {"job_id": "x", "error": {"type": "OutOfStock", "message": "", "traceback": None}}
    assert await desk.run(orders.mark_order_failed, order_id=order.id, failure=failure) == "OutOfStock"


async def test_order_starts_one_workflow_and_one_confirmation(desk: Desk, kit: Kit, inbox: Inbox) -> None:
    order = await order_of(desk)
    first, second = await desk.twice(orders.process_order, order_id=order.id)
    assert first == second == f"order~{order.id}"
    await kit.client.cancel_workflow(first)
    for kind in ("workflow", "nodes", "calls", "waits", "ends", "values", "causes"):
        await kit.client.redis.delete(f"embarq:{kind}:{first}")  # the next run of the tests has the same ids
    assert await desk.twice(orders.send_order_confirmation, order_id=order.id) == [True, False]
    assert inbox.messages[0]["Subject"] == f"Order {order.id}"


async def test_invoices_are_made_once(desk: Desk, inbox: Inbox, kit: Kit) -> None:
    order = await order_of(desk)
    of_order = {"user_id": order.user_id, "order_id": order.id}
    first, second = await desk.twice(invoices.generate_invoice, **of_order)
    assert first == second
    registration = await desk.twice(invoices.generate_invoice, user_id=order.user_id)
    month = await desk.twice(
        invoices.generate_monthly_invoice, user_id=order.user_id, month=now().date().replace(day=1)
    )
    assert len({first, *registration, *month}) == 3
    assert await desk.count(Invoice) == len(inbox.messages) == 3
    assert "20.00 €" in (inbox.messages[0].get_body(("plain",)) or EmailMessage()).get_content()
    assert await desk.run(invoices.generate_invoices, kit.queue) == 0  # nobody ordered in the last month


@wherever_files_lie
async def test_export_is_safe_to_open_and_streams(desk: Desk, store: FileStore) -> None:
    await student(desk, "x@example.com")
    async with desk.database.session() as session:
        session.add(User(name='=HYPERLINK("http://evil")', email="evil@example.com"))
        await session.flush()
        evil = await session.scalar(select(User.id).where(User.email == "evil@example.com"))
        session.add(Student(user_id=evil, is_active=False))
    made = await desk.run(exports.export_students_csv)
    rows = list(csv.reader(io.StringIO((await content(desk, store, made["file_id"])).decode("utf-8-sig"))))
    assert made["rows"] == 2
    assert rows[2][1] == '\'=HYPERLINK("http://evil")'
    assert (await desk.run(exports.export_students_csv, active_only=True))["rows"] == 1


@wherever_files_lie
async def test_reports_and_analytics(desk: Desk, store: FileStore, kit: Kit, inbox: Inbox) -> None:
    learner, _, _ = await enrolled(desk)
    report = await desk.run(reports.generate_student_report, student_id=learner.id)
    assert report["complete"]
    whole = await desk.run(reports.generate_report, "j2", user_id=learner.user_id)
    week = await desk.run(reports.generate_weekly_report)
    for made in (report, whole, week):
        assert (await content(desk, store, made["file_id"])).startswith(b"%PDF")
    numbers = {"users": 1, "enrolments": 1, "completed": 0, "lessons": 0, "orders": 0}
    assert await desk.run(reports.generate_hourly_report) == numbers
    assert await desk.twice(reports.send_digest, student_id=learner.id, week="2026-W1") == [True, False]
    assert await desk.twice(reports.send_weekly_digest, f"d-{kit.queue}") == [1, 1]


async def test_analytics_count_whole_hours_and_days(desk: Desk) -> None:
    hour = now().replace(minute=0, second=0, microsecond=0)
    day = hour.replace(hour=0)
    just_before = timedelta(microseconds=1)
    yesterday, hour_before = day - timedelta(days=1), hour - timedelta(hours=1)
    moments = [yesterday - just_before, yesterday, day - just_before, day, hour_before, hour]
    for number, created_at in enumerate(moments):
        await desk.add(User(name="x", email=f"{number}@example.com", created_at=created_at))
    daily = await desk.twice(analytics.generate_daily_analytics)
    hourly = await desk.twice(analytics.generate_hourly_analytics)
    this_hour = await desk.twice(analytics.generate_hourly_analytics, at=hour.isoformat())
    async with desk.database.session() as session:
        kept = {(row.period, row.begins_at): row.numbers for row in await session.scalars(select(Analytics))}
        created = (await session.scalars(select(User.created_at))).all()

    def users(since: datetime, length: timedelta) -> int:
        return sum(since <= each < since + length for each in created)

    for begins_at, length, period, told in (
        (yesterday, timedelta(days=1), "day", daily),
        (hour_before, timedelta(hours=1), "hour", hourly),
        (hour, timedelta(hours=1), "hour", this_hour),
    ):
        assert [each["users"] for each in told] == [users(begins_at, length)] * 2
        assert kept[period, begins_at] == told[0]
    assert len(kept) == 3


@wherever_files_lie
async def test_cleaning_up(desk: Desk, store: FileStore) -> None:
    user, _ = await student(desk, verified_at=now())
    old = now() - timedelta(days=40)
    await desk.add(
        LoginSession(user_id=user.id, last_seen_at=old),
        LoginSession(user_id=user.id, last_seen_at=now()),
        Token(user_id=user.id, kind="x", digest="a", expires_at=old),
        Token(user_id=user.id, kind="x", digest="b", expires_at=now() + timedelta(days=1)),
        User(name="never", email="never@example.com", created_at=old),
    )
    assert await desk.twice(maintenance.cleanup_old_sessions) == [1, 0]
    assert await desk.twice(maintenance.cleanup_expired_tokens) == [1, 0]
    assert await desk.twice(maintenance.cleanup_unverified_users) == [1, 0]
    made = await desk.run(exports.export_students_csv)
    async with desk.database.session() as session:
        file = await session.get_one(StoredFile, made["file_id"])
        file.expires_at = old
    assert await desk.twice(maintenance.cleanup_old_files) == [1, 0]
    with pytest.raises(FileNotFoundError, match=file.place):
        await anext(store.parts(file.place))
    assert await desk.count(FilePart) == 0


@wherever_files_lie
async def test_archive_moves_old_rows_into_files(desk: Desk, store: FileStore) -> None:
    await desk.add(
        Message(number="1", message="old", key="a", sent_at=now() - timedelta(days=100)),
        Message(number="1", message="new", key="b"),
    )
    first, second = await desk.twice(maintenance.monthly_archive)
    assert (first["messages"], second["messages"]) == (1, 0)
    assert (await desk.count(Message), await desk.count(Archive)) == (1, 1)
    async with desk.database.session() as session:
        (file_id,) = await session.scalars(select(StoredFile.id))
    assert b"old" in await content(desk, store, file_id)


async def program(name: str, *arguments: str) -> str:
    """Run a program of Postgres; what it printed."""
    process = await asyncio.create_subprocess_exec(
        str(postgres_program(name)), *arguments, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    return printed.decode().strip()


@wherever_files_lie
async def test_backup_restores(desk: Desk, store: FileStore, migrated: AsyncEngine, tmp_path: Path) -> None:
    await student(desk)
    file_id = await desk.run(maintenance.backup_database)
    dump = tmp_path / "dump"
    dump.write_bytes(await content(desk, store, file_id))
    target = migrated.url.set(drivername="postgresql", database="postgres").render_as_string(hide_password=False)
    name = f"restored_{free_port()}"
    copy = migrated.url.set(drivername="postgresql", database=name).render_as_string(hide_password=False)
    await program("psql", target, "-qc", f"CREATE DATABASE {name}")
    await program("pg_restore", "--no-owner", "-d", copy, str(dump))
    assert await program("psql", copy, "-Atc", "SELECT email FROM users") == "ada@example.com"


async def test_cache_and_reminders(desk: Desk, kit: Kit, inbox: Inbox) -> None:
    learner, course, _ = await enrolled(desk)
    assert await desk.twice(maintenance.warm_cache) == [1, 1]
    (cached,) = await Cache(kit.client.redis).get("courses")
    assert (cached["title"], cached["students"]) == ("Engines", 1)
    assignment = Assignment(course_id=course.id, title="Essay", due_at=now() + timedelta(hours=5))
    await desk.add(assignment)
    assert await desk.twice(maintenance.send_assignment_reminders, f"r-{kit.queue}") == [1, 1]
    pair = {"student_id": learner.id, "assignment_id": assignment.id}
    assert await desk.twice(maintenance.send_assignment_reminder, **pair) == [True, False]
    assert inbox.messages[0]["Subject"] == "Due soon: Essay"


async def test_sample_data_is_made_once(desk: Desk) -> None:
    assert await desk.twice(seed.seed_development) == [5, 0]
    assert await desk.count(Enrolment) == 5


async def test_template_message(desk: Desk) -> None:
    seen: list[str] = []
    own = Desk(desk.database, [provider(SmsProvider, [], seen)])
    call = {"number": "+15550100", "template": "welcome", "values": {"name": "Ada"}}
    assert await own.twice(messaging.send_template_message, **call) == ["Welcome, Ada!"] * 2
    assert (set(seen), await desk.count(Message)) == ({"job:j1"}, 1)
    with pytest.raises(messaging.TemplateProblem):
        await own.run(messaging.send_template_message, **(call | {"values": {}}))


@wherever_files_lie
async def test_images_documents_and_imports(desk: Desk, store: FileStore, tmp_path: Path) -> None:
    Image.new("RGB", (400, 200), "red").save(tmp_path / "image.png")
    people = "name,email\nAda,ADA@example.com\n,x@example.com\nBob,bob\nEve,eve@example.com\n"
    await put(desk, store, "big.png", (tmp_path / "image.png").read_bytes())
    await put(desk, store, "text.txt", b"one\ntwo #escape *me*\n")
    await put(desk, store, "people.csv", people.encode())
    resized = await desk.run(documents.resize_image, path="big.png", width=100, height=100)
    converted = await desk.run(documents.convert_document, path="text.txt")
    with Image.open(io.BytesIO(await content(desk, store, resized["file_id"]))) as opened:
        assert opened.size == (100, 50)
    assert (await content(desk, store, converted["file_id"])).startswith(b"%PDF")
    with pytest.raises(documents.Unreadable):
        await desk.run(documents.resize_image, path="text.txt", width=10, height=10)
    first, second = await desk.twice(documents.import_students, path="people.csv")
    assert first == {"new": 2, "known": 0, "wrong": [3, 4]}
    assert second == {"new": 0, "known": 2, "wrong": [3, 4]}


async def test_registration_and_its_jobs_are_one_commit(desk: Desk) -> None:
    async with desk.database.session() as session:
        await people.register_user(session, "Ada", "ada@example.com")
    assert (await desk.count(User), await desk.count(outbox_table)) == (1, 4)
    with pytest.raises(people.AddressTaken):
        async with desk.database.session() as session:
            await people.register_user(session, "Ada", "ada@example.com")
    async with AsyncSession(desk.database.engine) as session:
        await people.register_user(session, "Bob", "bob@example.com")
        await session.rollback()
    assert (await desk.count(User), await desk.count(outbox_table)) == (1, 4)


@pytest.mark.timeout(180)
async def test_export_of_many_students_takes_little_memory(desk: Desk) -> None:
    """100,000 students; the growth of this process' peak is what the export takes."""

    async with desk.database.session() as session:
        await session.execute(
            insert(User).from_select(
                ["name", "email"],
                select(
                    func.concat("Student ", func.generate_series(1, 100_000)),
                    func.concat("s", func.generate_series(1, 100_000), "@example.com"),
                ),
            )
        )
        await session.execute(insert(Student).from_select(["user_id"], select(User.id)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    made = await desk.run(exports.export_students_csv)
    assert made["rows"] == 100_000
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 60
