"""The service's tables."""

from jobs.models.commerce import Credit, Invoice, Order, OrderLine, Payment, Product
from jobs.models.learning import Assignment, Certificate, Course, Enrolment, Lesson, LessonProgress, Student
from jobs.models.messaging import EmailSent, Message, Notification
from jobs.models.people import LoginSession, Profile, Token, User, UserStats
from jobs.models.records import Analytics, Archive, FilePart, StoredFile
from jobs.models.table import Table

__all__ = [
    "Analytics",
    "Archive",
    "Assignment",
    "Certificate",
    "Course",
    "Credit",
    "EmailSent",
    "Enrolment",
    "FilePart",
    "Invoice",
    "Lesson",
    "LessonProgress",
    "LoginSession",
    "Message",
    "Notification",
    "Order",
    "OrderLine",
    "Payment",
    "Product",
    "Profile",
    "StoredFile",
    "Student",
    "Table",
    "Token",
    "User",
    "UserStats",
]
