"""Certificates for servers and nodes under test, made by ``openssl``."""

from __future__ import annotations

import subprocess
from pathlib import Path


def make_certificates(directory: Path, *, user: str = "node") -> None:
    """Write ``ca``, ``other`` (an authority that nobody trusts), ``server`` and ``node``.

    Each is a ``.pem`` beside its ``.key``. ``user``: whom the node's certificate names, as servers
    that take it for a login read it.
    """
    for name in ("ca", "other"):
        _openssl(
            directory, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem",
        )  # fmt: skip
    for name, subject, host in (("server", "localhost", "localhost"), ("node", user, "node")):
        (directory / f"{name}.ext").write_text(f"subjectAltName=DNS:{host}\n")
        _openssl(
            directory, "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={subject}",
            "-keyout", f"{name}.key", "-out", f"{name}.csr",
        )  # fmt: skip
        _openssl(
            directory, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-days", "2", "-extfile", f"{name}.ext", "-out", f"{name}.pem",
        )  # fmt: skip


def _openssl(directory: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=directory, check=True, capture_output=True)
