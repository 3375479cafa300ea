"""Certificates, made with openssl."""

import ssl
import subprocess
from pathlib import Path

from tests.support.waiting import WITHIN_S


class Authority:
    """An authority of its own, whose certificate is `certificate`."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self.certificate = folder / f"{name}.pem"
        self._key = folder / f"{name}.key"
        self.openssl("req", "-x509", *self._new(self._key), "-subj", f"/CN={name}", "-out", str(self.certificate))

    def trusting(self) -> ssl.SSLContext:
        """What a client of a server with a certificate of this authority has."""
        return ssl.create_default_context(cafile=str(self.certificate))

    def issue(self, name: str, kind: str = "ec") -> tuple[Path, Path]:
        """A certificate for `name` at 127.0.0.1, and its key: ec, rsa or ed25519."""
        key, request, certificate = (self._folder / f"{name}.{suffix}" for suffix in ("key", "csr", "pem"))
        extensions = self._folder / "extensions"
        extensions.write_text("subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
        self.openssl("req", *self._new(key, kind), "-subj", f"/CN={name}", "-out", str(request))
        signed_by = ("-CA", str(self.certificate), "-CAkey", str(self._key), "-CAcreateserial")
        made = ("-in", str(request), "-out", str(certificate), "-extfile", str(extensions))
        self.openssl("x509", "-req", *made, *signed_by, "-days", "2")
        return certificate, key

    @staticmethod
    def _new(key: Path, kind: str = "ec") -> tuple[str, ...]:
        of_kind = {"ec": ("ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"), "rsa": ("rsa:2048",)}.get(kind, (kind,))
        return ("-newkey", *of_kind, "-nodes", "-keyout", str(key))

    @staticmethod
    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=WITHIN_S)
