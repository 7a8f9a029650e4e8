"""Who may use an endpoint: tokens, a proxy's header, signatures, and no page in a browser."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from durableq import DurableQ
from durableq.model.errors import InvalidInput
from durableq.serve import signatures
from durableq.serve.access import Access, read_keys
from durableq.serve.errors import ServiceError
from durableq.serve.wire.requests import Request
from tests.serve.actions import Recorder
from tests.serve.endpoint import Answered, Endpoint, endpoint

TOKEN = "a-token-of-sixteen-characters"
KEY, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
TARGET = {"X-Amz-Target": "AmazonSQS.SendMessage", "Content-Type": "application/x-amz-json-1.0"}
BODY = b'{"QueueUrl": "/000000000000/q", "MessageBody": "hi"}'
QUERY = "/000000000000/q?Action=SendMessage&MessageBody=a+b%2Fc~&Z=&A=%c3%a9"


def code_of(answered: Answered) -> str:
    return answered.headers.get("x-amzn-query-error", "").partition(";")[0]


def test_a_token_is_a_session_token_or_a_bearer(dq: DurableQ) -> None:
    with endpoint(dq, Recorder().operations, access=Access({TOKEN: "ada"})) as server:
        for given in (
            {"X-Amz-Security-Token": TOKEN},
            {"Authorization": f"Bearer {TOKEN}"},
            {"authorization": f"bearer  {TOKEN} "},
        ):
            assert server.ask("/", BODY, TARGET | given).status == 200
        linked = f"{QUERY}&X-Amz-Security-Token={TOKEN}"
        assert server.ask(linked).status == 200
        for wrong, code in (
            ({}, "MissingAuthenticationToken"),
            ({"Authorization": f"Basic {TOKEN}"}, "MissingAuthenticationToken"),
            ({"X-Amz-Security-Token": TOKEN[:-1]}, "AccessDenied"),
            ({"Authorization": "Bearer \xe9\xff"}, "AccessDenied"),
        ):
            refused = server.ask("/", BODY, TARGET | wrong)
            assert (refused.status, code_of(refused)) == (403, code)
        assert server.ask("/_durableq/peek?queue=q").status == 403
        assert server.ask("/health").status == 200


def test_the_header_of_a_proxy_must_be_there(dq: DurableQ) -> None:
    with endpoint(dq, Recorder().operations, access=Access(header="X-User")) as server:
        assert server.ask("/", BODY, TARGET | {"x-user": "ada"}).status == 200
        for wrong in ({}, {"X-User": " "}):
            refused = server.ask("/", BODY, TARGET | wrong)
            assert (refused.status, code_of(refused)) == (403, "AccessDenied")
    with pytest.raises(InvalidInput, match="is no name of an HTTP header"):
        Access(header="a b")
    with pytest.raises(InvalidInput, match="at least 16 characters"):
        Access({"short": "ada"})


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://localhost"}, {"Sec-Fetch-Site": "cross-site"}]
)
def test_a_page_in_a_browser_may_not_use_it(dq: DurableQ, headers: dict[str, str]) -> None:
    recorder = Recorder()
    with endpoint(dq, recorder.operations) as server:
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        refused = server.ask("/000000000000/q", b"Action=PurgeQueue", form | headers)
        assert (refused.status, recorder.calls) == (403, [])
        assert server.ask("/health", headers={"Sec-Fetch-Site": "none"}).status == 200


def signed(
    server: Endpoint, path: str, body: bytes | None, key: str = KEY, secret: str = SECRET
) -> tuple[str, dict[str, str]]:
    """Return the path and the headers of a request that botocore signs, by header or address."""
    is_link = body is None
    headers = {} if is_link else dict(TARGET)
    request = AWSRequest("GET" if is_link else "POST", server.url + path, headers, body)
    kind: Any = SigV4QueryAuth if is_link else SigV4Auth
    kind(Credentials(key, secret), "sqs", "eu-west-1").add_auth(request)
    made = request.prepare()
    return made.url.removeprefix(server.url), dict(made.headers)


def test_signatures_are_checked_where_keys_are_known(dq: DurableQ) -> None:
    recorder = Recorder()
    with endpoint(dq, recorder.operations, access=Access(keys={KEY: SECRET})) as server:
        for path, body in (("/", BODY), ("/000000000000/a%20b/..//q", BODY), (QUERY, None)):
            where, headers = signed(server, path, body)
            answered = server.ask(where, body, headers)
            assert answered.status == 200, answered
            assert recorder.last[1].region == "eu-west-1"
            changed = None if body is None else BODY.replace(b"hi", b"ho")
            where_to = where.replace("MessageBody=a", "MessageBody=o") if body is None else where
            refused = server.ask(where_to, changed, headers)
            assert refused.status == 403
            assert "SignatureDoesNotMatch" in refused.text + code_of(refused)
        calls = len(recorder.calls)
        for key, secret, code in (
            (KEY, "another", "SignatureDoesNotMatch"),
            ("AKIDUNKNOWN", SECRET, "InvalidClientTokenId"),
        ):
            where, headers = signed(server, "/", BODY, key, secret)
            refused = server.ask(where, BODY, headers)
            assert (refused.status, code_of(refused)) == (403, code)
        refused = server.ask("/", BODY, TARGET)
        assert (refused.status, code_of(refused)) == (403, "MissingAuthenticationToken")
        halved = {"Authorization": f"AWS4-HMAC-SHA256 Credential={KEY}/20260101/x/sqs/aws4_request"}
        refused = server.ask("/", BODY, TARGET | halved)
        assert (refused.status, code_of(refused)) == (400, "IncompleteSignature")
        assert len(recorder.calls) == calls


def test_a_signature_ends_with_its_time() -> None:
    headers = {"host": "localhost", "x-amz-target": "AmazonSQS.ListQueues"}
    request = AWSRequest("POST", "http://localhost/", headers, b"{}")
    SigV4Auth(Credentials(KEY, SECRET), "sqs", "eu-west-1").add_auth(request)
    sent = {name.lower(): value for name, value in request.prepare().headers.items()}
    given = Request("POST", "/", b"", headers | sent, b"{}")
    signature = signatures.parse(given)
    assert signature is not None
    now = datetime.now(UTC)
    signatures.check(given, signature, {KEY: SECRET}, now)
    for minutes in (-20, 20):
        with pytest.raises(ServiceError, match="Signature expired"):
            signatures.check(given, signature, {KEY: SECRET}, now + timedelta(minutes=minutes))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    header=st.text(max_size=30)
    | st.text("=,/ ;AbC09", max_size=60).map("AWS4-HMAC-SHA256 ".__add__),
    query=st.binary(max_size=60).map(b"X-Amz-Signature=".__add__) | st.binary(max_size=20),
    date=st.text(max_size=20),
)
def test_any_signature_is_refused_in_words(header: str, query: bytes, date: str) -> None:
    headers = {"authorization": header, "x-amz-date": date, "host": "x"}
    request = Request("POST", "/", query, headers, b"")
    with pytest.raises(ServiceError):
        Access(keys={KEY: SECRET}).check(request, signatures.parse(request))


def test_a_keys_file_has_a_key_and_its_secret_in_each_line(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# ours\n\n{KEY} {SECRET}\nother  word \n")
    assert read_keys(path) == {KEY: SECRET, "other": "word"}
    path.write_text("# none\n")
    with pytest.raises(InvalidInput, match="has no key"):
        read_keys(path)
    with pytest.raises(InvalidInput, match=r"The keys file .* cannot be read: No such file"):
        read_keys(tmp_path / "missing")


def test_a_get_without_a_signature_does_not_reach_the_server_by_a_public_name(
    dq: DurableQ,
) -> None:
    """A page may have pointed such a name at this machine, and its browser says no origin."""
    with endpoint(dq, Recorder().operations) as server:
        for host, status in (
            ("evil.example:4566", 403),
            ("evil.example", 403),
            ("localhost:4566", 200),
            ("q.localhost:4566", 200),
            ("queue:4566", 200),
            ("127.0.0.1:4566", 200),
            ("[::1]:4566", 200),
        ):
            assert server.ask(QUERY, headers={"Host": host}).status == status, host
            assert server.ask("/", BODY, TARGET | {"Host": host}).status == 200
        assert server.ask("/_durableq/peek?queue=q", headers={"Host": "evil.example"}).status == 403
    with endpoint(dq, Recorder().operations, access=Access({TOKEN: "ada"})) as server:
        linked = f"{QUERY}&X-Amz-Security-Token={TOKEN}"
        assert server.ask(linked, headers={"Host": "queue.example"}).status == 200
