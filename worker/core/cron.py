"""When a schedule is due: cron fields in a time zone, or every so many seconds. Pure functions of times.

Cron expressions are read by cronsim, which follows Debian's cron, also across daylight saving changes: a job at a fixed
hour runs once on both days, an hourly one runs every hour.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from worker.core.errors import ArgumentProblem, InvalidSchedule

EPOCH = datetime.fromtimestamp(0, UTC)
SHORTEST = 0.1
LONGEST_EXPRESSION = 200  # characters
LONGEST_ZONE = 100
ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


def zone(name: str) -> ZoneInfo:
    """A time zone by its name, such as `Europe/Berlin`.

    Raises:
        InvalidSchedule: there is none.
    """
    if len(name) > LONGEST_ZONE:
        raise _invalid("tz", f"must have at most {LONGEST_ZONE} characters, not {len(name)}")
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise _invalid("tz", f"must be a time zone such as 'Europe/Berlin', not {name!r}") from None


@dataclass(frozen=True)
class Cron:
    """A cron expression in a time zone: `Cron("0 3 * * mon-fri", "Europe/Berlin")`. With six fields, the first is the
    second.

    Raises:
        InvalidSchedule: it cannot be read, has another number of fields, matches no date, or the zone is unknown.
    """

    expression: str
    tz: str = "UTC"

    def __post_init__(self) -> None:
        if len(self.expression) > LONGEST_EXPRESSION:
            raise _invalid("cron", f"must have at most {LONGEST_EXPRESSION} characters, not {len(self.expression)}")
        _ = self._zone
        if len(self._fields.split()) not in {5, 6}:
            raise _invalid("cron", f"must have five fields, or six with seconds first, unlike {self.expression!r}")
        try:
            # cronsim gives up after 50 years without a match, as for the 30th of February.
            next(CronSim(self._fields, datetime(2024, 1, 1, tzinfo=UTC)))
        except CronSimError as error:
            raise _invalid("cron", f"must be a cron expression, and {self.expression!r} is not: {error}") from error
        except StopIteration:
            raise _invalid("cron", f"must match some date, and {self.expression!r} matches none") from None

    @cached_property
    def _zone(self) -> ZoneInfo:
        return zone(self.tz)

    @cached_property
    def _fields(self) -> str:
        return ALIASES.get(self.expression, self.expression)

    def after(self, moment: datetime) -> Iterator[datetime]:
        """The times after a moment, in UTC, without end."""
        fields = self._fields.split()
        if len(fields) == 5:
            for found in CronSim(self._fields, moment.astimezone(self._zone)):
                yield found.astimezone(UTC)
            return
        # The minutes come from the other five fields: cronsim treats six otherwise than cron where clocks are changed.
        offsets = [timedelta(seconds=second) for second in sorted(CronSim(self._fields, moment).seconds)]
        before = moment.replace(second=0, microsecond=0) - timedelta(seconds=1)
        for found in CronSim(" ".join(fields[1:]), before.astimezone(self._zone)):
            minute = found.astimezone(UTC)
            yield from (at for at in (minute + offset for offset in offsets) if at > moment)

    @property
    def warning(self) -> str | None:
        """What may surprise people about it, if anything: cron takes either day where both are given."""
        # As in Debian's cron, and POSIX: the two day fields are joined by "or", unless one of them starts with an
        # asterisk. arq and Celery always join them by "and".
        day, _, weekday = self._fields.split()[-3:]
        if day.startswith("*") or weekday.startswith("*"):
            return None
        return (
            f"{self.expression!r} is due on each day {day} of the month and on each weekday {weekday}, as in cron; "
            "arq and Celery mean days that are both: give one, and let the job look at the other"
        )

    @property
    def text(self) -> str:
        """As people write it."""
        return self.expression


@dataclass(frozen=True)
class Every:
    """Every so many seconds, counted from the Unix epoch: all workers know the same times.

    Raises:
        InvalidSchedule: fewer than 0.1 seconds.
    """

    seconds: float

    def __post_init__(self) -> None:
        if not SHORTEST <= self.seconds <= 366 * 86400:
            raise _invalid("every", f"must be from {SHORTEST} s to a year, not {self.seconds}")

    def after(self, moment: datetime) -> Iterator[datetime]:
        """The times after a moment, in UTC, without end."""
        # Integer arithmetic on timedeltas: seconds as floats would drift apart between workers.
        period = timedelta(milliseconds=round(self.seconds * 1000))
        at = EPOCH + (moment - EPOCH) // period * period
        while True:
            at += period
            yield at

    @property
    def text(self) -> str:
        """As people write it."""
        return f"every {self.seconds:g} s"


Times = Cron | Every


def every(seconds: float) -> Every:
    """Every so many seconds, for `@schedule(every(30))`."""
    return Every(seconds)


def _invalid(field: str, message: str) -> InvalidSchedule:
    return InvalidSchedule([ArgumentProblem((field,), message)])
