"""Ports of `embarq dev`: taken before anything starts, or others in their place."""

import os
import socket
from collections.abc import Mapping

import pytest

from worker.dev.ports import Reserved, moved
from worker.settings import Settings
from worker.system.ports import PortError, is_free

HOST = "127.0.0.1"


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
