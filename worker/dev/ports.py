"""The ports of `embarq dev`: taken before anything is started, or others in their place."""

import socket
from dataclasses import dataclass

from worker.core.variables import variable_of
from worker.settings import Settings
from worker.system.ports import PortError, bind, free_port, holder, is_free


class Reserved:
    """The API's port, which is taken before the API is there, and stays taken while that is restarted."""

    def __init__(self, host: str, port: int, command: str) -> None:
        self._place = (host, port, command)
        self._sockets: list[socket.socket] = []

    def take(self) -> list[int]:
        """Take it, unless it is ours already; the numbers of the sockets.

        Raises:
            PortError: another process has it.
        """
        self._sockets = self._sockets or bind(*self._place)
        return [each.fileno() for each in self._sockets]

    def release(self) -> None:
        """Give it free: whoever connects is told at once that nobody is there."""
        for each in self._sockets:
            each.close()
        self._sockets = []


@dataclass(frozen=True, slots=True)
class Moved:
    """A port that is taken, the variable that sets it, and a free one in its place."""

    variable: str
    taken: int
    port: int


def moved(settings: Settings) -> list[Moved]:
    """Ports for this run in place of those that are taken, of the ones that the application has beside its own.

    Raises:
        PortError: one is taken that somebody has set.
    """
    found = []
    for field, port in settings.further_ports.items():
        if not is_free(port):
            variable = variable_of(type(settings), field)
            if field in settings.model_fields_set:
                raise PortError(f"port {port} of {variable} is taken by {holder(port)}: end that, or set {variable}")
            found.append(Moved(variable, port, free_port()))
    return found
