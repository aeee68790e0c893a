"""Connections to Redis over TLS, as far as no server is needed."""

import os
from pathlib import Path

from worker.broker.opening import QuickTlsConnection


def context_of(**options: object) -> object:
    return QuickTlsConnection(ssl_check_hostname=True, **options).ssl_context


def test_connections_with_the_same_rules_share_what_they_verify_with(tmp_path: Path) -> None:
    authorities = tmp_path / "ca.pem"
    authorities.touch()
    assert context_of() is context_of()
    named = context_of(ssl_ca_certs=str(authorities))
    assert named is context_of(ssl_ca_certs=str(authorities)) is not context_of()
    assert context_of(ssl_cert_reqs="none") is not context_of()


def test_files_that_are_replaced_are_read_again(tmp_path: Path) -> None:
    authorities = tmp_path / "ca.pem"
    authorities.touch()
    before = context_of(ssl_ca_certs=str(authorities))
    os.utime(authorities, ns=(1, 1))
    assert context_of(ssl_ca_certs=str(authorities)) is not before
    authorities.unlink()
    context_of(ssl_ca_certs=str(authorities))  # it is missed when a connection is made
