"""The ports of `embarq dev`: bound before anything is started, or others in their place."""

import socket
from dataclasses import dataclass

from worker.core.variables import variable_of
from worker.settings import Settings
from worker.system.ports import PortError, bind, free_port, holder, is_free


class Reserved:
    """The API's port, which is bound before the API starts, and stays bound while that is restarted."""

    def __init__(self, host: str, port: int, command: str) -> None:
        self._place = (host, port, command)
        self._sockets: list[socket.socket] = []

    def take(self) -> list[int]:
        """Bind it, unless it is ours already; the descriptors of the sockets.

        Raises:
            PortError: another process has it.
        """
        self._sockets = self._sockets or bind(*self._place)
        return [each.fileno() for each in self._sockets]

    def release(self) -> None:
        """Close it, so that connections are refused at once."""
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
    """Free ports for this run in place of those that are taken, for the ports that the application has beside its own.

    Raises:
        PortError: a taken one was set explicitly.
    """
    found = []
    for field, port in settings.further_ports.items():
        if not is_free(port):
            variable = variable_of(type(settings), field)
            if field in settings.model_fields_set:
                raise PortError(f"port {port} of {variable} is taken by {holder(port)}: end that, or set {variable}")
            found.append(Moved(variable, port, free_port()))
    return found
