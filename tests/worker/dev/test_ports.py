"""Ports: taken before anything starts, and whose they are."""

import os
import re
import socket
import sys
from collections.abc import Iterator, Mapping

import pytest

from worker.dev.ports import PortError, Reserved, bind, holder, is_free, moved
from worker.settings import Settings

HOST = "127.0.0.1"


@pytest.fixture
def listening() -> Iterator[int]:
    """A port that this process listens on."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as the mail catcher does
        other.bind((HOST, 0))
        other.listen()
        yield other.getsockname()[1]


@pytest.mark.skipif(sys.platform != "linux", reason="who listens is found in /proc")
def test_taken_port_is_told_with_its_process_and_another(listening: int) -> None:
    with pytest.raises(PortError) as error:
        bind(HOST, listening, "make run")
    said = str(error.value)
    assert said.startswith(f"port {listening} is taken by process {os.getpid()} (")
    other = re.search(r"PORT=(\d+) make run$", said)
    assert other is not None
    assert is_free(int(other[1]))


def test_nobody_listens_is_another_process() -> None:
    with socket.socket() as other:
        other.bind((HOST, 0))
        assert holder(other.getsockname()[1]) == "another process"


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_address_of_another_machine_is_told(host: str) -> None:
    with pytest.raises(PortError, match=f"{host!r} cannot be listened on .*EMBARQ_HOST"):
        bind(host, 0, "make run")


def test_name_with_several_addresses_is_bound_to_those_that_there_are() -> None:
    bound = bind("localhost", 0, "make run")
    assert HOST in {each.getsockname()[0] for each in bound}
    for each in bound:
        each.close()


def test_reserved_port_is_refused_to_others_until_it_is_released(listening: int) -> None:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    reserved = Reserved(HOST, port, "make run")
    numbers = reserved.take()
    assert reserved.take() == numbers
    with socket.socket(fileno=os.dup(numbers[0])) as api:
        api.listen()
    assert not is_free(port)
    reserved.release()
    assert is_free(port)


def test_further_port_that_is_taken_gets_another_unless_it_was_chosen(listening: int) -> None:
    class WithMail(Settings):
        mail_port: int = listening

        @property
        def further_ports(self) -> Mapping[str, int]:
            return {"mail_port": self.mail_port}

    (found,) = moved(WithMail())
    assert (found.variable, found.taken) == ("EMBARQ_MAIL_PORT", listening)
    assert is_free(found.port)
    with pytest.raises(PortError, match=f"port {listening} of EMBARQ_MAIL_PORT is taken by"):
        moved(WithMail(mail_port=listening))
    assert moved(WithMail(mail_port=found.port)) == []
