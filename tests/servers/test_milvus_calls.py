"""What is said when a call of a Milvus server fails, without a server."""

import pytest

from embcli.errors import StoreError
from embcli.servers import Address
from embcli.servers.milvus_calls import Calls, _credentials, too_large

URL = "milvus://ann:s3cret@host/c?token=t0ken&database=gone"


class Refusal(Exception):
    """As gRPC raises them."""

    def __init__(self, said):
        self._said = said

    def details(self):
        return self._said


def told(error, cause=None, answered=True):
    calls = Calls.__new__(Calls)
    calls.address, calls._was_answered = Address.parse(URL), answered
    calls._secrets = ["s3cret", "t0ken"]
    with pytest.raises(StoreError) as caught, calls.told():
        raise error from cause
    return caught.value


@pytest.mark.parametrize(
    ("error", "cause", "message"),
    [
        (
            Exception("Fail connecting, server unavailable"),
            Refusal("auth check failure"),
            "refused",
        ),
        (Exception("server unavailable"), Refusal("missing authorization in header"), "refused"),
        (Exception("permission deny: ann cannot CreateCollection"), None, "no permission"),
        (Exception("database not found[database=gone]"), None, "no database 'gone'"),
        (Exception("disk quota exceeded"), None, "no room left"),
        (Refusal("failed to connect\nto all addresses"), None, "does not answer any more"),
        (Exception("Deadline Exceeded"), None, "does not answer any more"),
        (Exception("strange: s3cret\n\nt0ken"), None, r"strange: \*\*\* \*\*\*"),
    ],
)
def test_failures_are_told_in_one_line_without_passwords(error, cause, message):
    with pytest.raises(StoreError, match=message) as caught:
        raise told(error, cause)
    said = caught.value.message
    assert said.startswith("milvus://ann:***@host/c?token=***&database=gone: ")
    assert "\n" not in said
    assert "s3cret" not in said
    assert "t0ken" not in said


def test_a_server_that_is_busy_is_waited_for(monkeypatch):
    """Lite answers nobody while it does what one that was killed had asked for."""

    class Client:
        def __getattr__(self, name):
            return lambda *_, timeout: timeout

    calls = Calls.__new__(Calls)
    calls._client, calls._timeout, calls._was_answered = Client(), 10.0, False
    # What has never answered may be something else.
    assert calls("get_server_version") == 10
    calls._was_answered = True
    assert (calls("describe_collection"), calls("query")) == (30, 60)
    monkeypatch.setenv("EMBCLI_TIMEOUT", "120")
    assert (calls("describe_collection"), calls("query"), calls("flush")) == (120, 120, 3600)
    assert "EMBCLI_TIMEOUT" in told(Exception("Deadline Exceeded")).hint
    assert "EMBCLI_TIMEOUT" not in told(Refusal("failed to connect")).hint


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("Deadline Exceeded", "gives no answer: no Milvus server"),
        ("failed to connect: Failed parsing HTTP/2", "does not answer as one does: no Milvus"),
        ("Tls handshake failed: SSL_ERROR_SSL", "no TLS there"),
    ],
)
def test_a_first_contact_that_fails_says_nothing_of_what_was_written(reason, message):
    unavailable = Exception("Fail connecting to server, server unavailable")
    caught = told(unavailable, Refusal(reason), answered=False)
    assert message in caught.message
    assert "written" not in caught.hint


@pytest.mark.parametrize(
    ("url", "token"),
    [
        ("milvus://host/c", "ann:of ann"),
        ("milvus://bob@host/c", "bob:of ann"),
        ("milvus://bob:x%2Fy@host/c", "bob:x/y"),
        ("milvus://bob:@host/c", "bob:"),
        ("milvus://host/c?token=abc", "abc"),
    ],
)
def test_who_asks_is_said_by_the_url_or_else_by_the_environment(url, token):
    known = {"MILVUS_USER": "ann", "MILVUS_PASSWORD": "of ann"}
    sent, secrets = _credentials(Address.parse(url), known)
    assert sent == token
    assert sent.partition(":")[2] in (*secrets, "")
    plain = _credentials(Address.parse(url), {"MILVUS_USER": "", "MILVUS_TOKEN": ""})[0]
    said = {"ann:of ann": "", "bob:of ann": "bob:"}
    assert plain == said.get(token, token)


def test_a_token_of_the_environment_goes_before_a_user_of_it():
    known = {"MILVUS_TOKEN": "ann:s3", "MILVUS_USER": "bob", "MILVUS_PASSWORD": "x"}
    address = Address.parse("milvus://host/c")
    assert _credentials(address, known) == ("ann:s3", ["ann:s3", "s3"])
    assert _credentials(Address.parse("milvus://eve:y@host/c"), known) == ("eve:y", ["y"])


def test_answers_that_are_too_large_are_known():
    assert too_large(StoreError("grpc: received message larger than max (9 vs. 4)"))
    assert too_large(StoreError("query results exceed the limit size"))
    assert not too_large(StoreError("Deadline Exceeded"))
