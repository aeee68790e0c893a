"""Sample data for development."""

from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from jobs.lookups import now
from jobs.models import Assignment, Course, Enrolment, Lesson, Product, Student, User
from worker import injected, job

PEOPLE = ("Ada Lovelace", "Alan Turing", "Grace Hopper", "Katherine Johnson", "Edsger Dijkstra")
COURSES = ("Algorithms", "Databases", "Distributed systems")
LESSONS = 4
PRODUCTS = (("Textbook", 4900), ("Notebook", 350), ("Mug", 1200))


@job(unique_for=60)
async def seed_development(session: AsyncSession = injected) -> int:
    """Write sample users, courses and products where there are no users; how many users. A second run finds them."""
    if (await session.execute(select(User.id).limit(1))).first():
        return 0
    users = [User(name=name, email=f"{name.split()[0].lower()}@example.com", verified_at=now()) for name in PEOPLE]
    courses = [Course(title=title, price_cents=9900) for title in COURSES]
    session.add_all(
        [*users, *courses, *(Product(title=title, price_cents=price, stock=100) for title, price in PRODUCTS)]
    )
    await session.flush()
    students = [Student(user_id=user.id) for user in users]
    for course in courses:
        session.add_all(Lesson(course_id=course.id, position=n, title=f"Part {n}") for n in range(1, LESSONS + 1))
        session.add(Assignment(course_id=course.id, title=f"Essay on {course.title}", due_at=now() + timedelta(days=7)))
    session.add_all(students)
    await session.flush()
    session.add_all(Enrolment(student_id=each.id, course_id=courses[0].id, active_at=now()) for each in students)
    return len(users)
