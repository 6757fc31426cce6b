"""What a failed build advises."""

from __future__ import annotations

import pytest

from agents.engine.builds import _remedy


@pytest.mark.parametrize(
    "line",
    [
        "npm error code SELF_SIGNED_CERT_IN_CHAIN",
        "npm error code UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
        "SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed'))",
        "curl: (60) SSL certificate problem: unable to get local issuer certificate",
    ],
)
def test_a_certificate_that_is_not_trusted_has_a_name(line: str) -> None:
    assert "--extra-ca" in _remedy(["Step 9/17", line])


def test_anything_else_is_in_the_log() -> None:
    assert "log" in _remedy(["E: Unable to locate package cowsayy"])
