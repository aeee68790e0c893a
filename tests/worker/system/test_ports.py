"""Ports: whose they are, and what is said of one that cannot be taken."""

import os
import re
import socket
import sys

import pytest

from worker.system.ports import PortError, bind, holder, is_free

HOST = "127.0.0.1"


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
    with pytest.raises(PortError, match=f"EMBARQ_HOST must be an address of this machine, not {host!r}"):
        bind(host, 0, "make run")


def test_name_with_several_addresses_is_bound_to_those_that_there_are() -> None:
    bound = bind("localhost", 0, "make run")
    assert HOST in {each.getsockname()[0] for each in bound}
    for each in bound:
        each.close()
