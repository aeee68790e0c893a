"""Courses, those who take them, and what they have reached."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from jobs.models.table import Created, FileKey, Key, Table


class Student(Table):
    """A user who learns."""

    __tablename__ = "students"

    id: Mapped[Key]
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), unique=True)
    is_active: Mapped[bool] = mapped_column(default=True, server_default="true")
    joined_at: Mapped[Created]


class Course(Table):
    """A course."""

    __tablename__ = "courses"

    id: Mapped[Key]
    title: Mapped[str]
    price_cents: Mapped[int] = mapped_column(default=0, server_default="0")


class Lesson(Table):
    """A part of a course."""

    __tablename__ = "lessons"
    __table_args__ = (UniqueConstraint("course_id", "position"),)

    id: Mapped[Key]
    course_id: Mapped[int] = mapped_column(ForeignKey("courses.id", ondelete="CASCADE"))
    position: Mapped[int]
    title: Mapped[str]


class Assignment(Table):
    """Work that a course asks for by a time."""

    __tablename__ = "assignments"

    id: Mapped[Key]
    course_id: Mapped[int] = mapped_column(ForeignKey("courses.id", ondelete="CASCADE"), index=True)
    title: Mapped[str]
    due_at: Mapped[datetime] = mapped_column(index=True)


class Enrolment(Table):
    """A student in a course."""

    __tablename__ = "enrolments"
    __table_args__ = (UniqueConstraint("student_id", "course_id"),)

    id: Mapped[Key]
    student_id: Mapped[int] = mapped_column(ForeignKey("students.id", ondelete="CASCADE"))
    course_id: Mapped[int] = mapped_column(ForeignKey("courses.id", ondelete="CASCADE"), index=True)
    percent: Mapped[int] = mapped_column(default=0, server_default="0")
    enrolled_at: Mapped[Created]
    active_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    stale: Mapped[bool] = mapped_column(default=False, server_default="false")


class LessonProgress(Table):
    """A lesson that a student has done."""

    __tablename__ = "progress"
    __table_args__ = (UniqueConstraint("enrolment_id", "lesson_id"),)

    id: Mapped[Key]
    enrolment_id: Mapped[int] = mapped_column(ForeignKey("enrolments.id", ondelete="CASCADE"))
    lesson_id: Mapped[int] = mapped_column(ForeignKey("lessons.id", ondelete="CASCADE"))
    done_at: Mapped[Created]


class Certificate(Table):
    """A certificate; a student has at most one per course that is not revoked."""

    __tablename__ = "certificates"
    __table_args__ = (
        Index(
            "certificates_valid", "student_id", "course_id", unique=True, postgresql_where=text("revoked_at IS NULL")
        ),
    )

    id: Mapped[Key]
    number: Mapped[str] = mapped_column(unique=True)
    student_id: Mapped[int] = mapped_column(ForeignKey("students.id", ondelete="CASCADE"))
    course_id: Mapped[int] = mapped_column(ForeignKey("courses.id", ondelete="CASCADE"))
    file_id: Mapped[FileKey]
    issued_at: Mapped[Created]
    revoked_at: Mapped[datetime | None]
    revoke_reason: Mapped[str | None]
