"""Who may ask: keys, roles, names of the service; what every answer carries; what logs never hold."""

import argparse
import hashlib
import ipaddress
import logging

import pytest
import yaml
from serve_bundles import make_bundle
from serve_client import open_client

from artifact.errors import ConfigError
from pipeline.__main__ import main
from serve.__main__ import add_options
from serve.command import hosts_of
from serve.config import ServiceConfig, read_service_config
from serve.http import guard
from serve.http.app import create_app
from serve.http.guard import HEADERS, name_of
from serve.keys import ApiKey, find_key, make_key
from serve.limits import Limits
from serve.runtime import Runtime
from serve.settings import with_hosts

CLIENT, CLIENT_ENTRY = make_key("shop", "client")
ADMIN, ADMIN_ENTRY = make_key("operator", "admin")
KEYS = (CLIENT_ENTRY, ADMIN_ENTRY)
GETS = ("/", "/docs", "/openapi.json", "/info", "/metrics", "/v1/models")


@pytest.fixture(scope="module")
def engine(tmp_path_factory) -> Runtime:
    return Runtime.open(make_bundle(tmp_path_factory.mktemp("bundles") / "student"), threads=1)


def client_of(engine: Runtime, **config):
    return open_client(create_app({engine.name: engine}, engine.name, ServiceConfig(**config)))


def test_a_made_key_is_accepted_and_no_other():
    """Oracle: hashlib, and a key changed in one character; two keys are never the same."""
    assert hashlib.sha256(CLIENT.encode()).hexdigest() == CLIENT_ENTRY.sha256
    assert find_key(KEYS, CLIENT.encode()) == CLIENT_ENTRY
    assert find_key(KEYS, ADMIN.encode()) == ADMIN_ENTRY
    for wrong in (CLIENT[:-1], CLIENT + "x", CLIENT.upper(), "", CLIENT_ENTRY.sha256, "é"):
        assert find_key(KEYS, wrong.encode()) is None
    assert find_key((), CLIENT.encode()) is None
    assert len({make_key("a", "client")[0] for _ in range(50)}) == 50
    assert len(CLIENT) == len("understudy-") + 43  # 256 bits in base64


def test_every_entry_is_compared(monkeypatch):
    """Oracle: the comparisons counted: as many as there are keys, in constant time each, whichever one fits."""
    compared = []

    def compare(left: str, right: str) -> bool:
        compared.append(left)
        return left == right

    monkeypatch.setattr("serve.keys.hmac.compare_digest", compare)
    for presented in (CLIENT, ADMIN, "neither"):
        compared.clear()
        find_key(KEYS, presented.encode())
        assert compared == [key.sha256 for key in KEYS]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": f"Bearer {CLIENT}"}, 200),
        ({"authorization": f"bearer   {CLIENT} "}, 200),
        ({"authorization": f"Bearer {ADMIN}"}, 200),
        ({"x-api-key": CLIENT}, 200),
        ({"x-api-key": CLIENT, "authorization": "Bearer -"}, 200),
        ({"authorization": "Bearer "}, 401),
        ({"authorization": f"Bearer {CLIENT[:-1]}"}, 401),
        ({"authorization": f"Basic {CLIENT}"}, 401),
        ({"authorization": CLIENT}, 401),
        ({"authorization": f"Bearer {CLIENT_ENTRY.sha256}"}, 401),
        ({"x-api-key": ""}, 401),
        ({"cookie": f"key={CLIENT}"}, 401),
    ],
)
def test_keys_in_requests(engine, headers, status):
    """Oracle: a request is answered with a key of the config in one of two headers, and with nothing else."""
    with client_of(engine, api_keys=KEYS) as client:
        answer = client.post("/predict", {"inputs": "rain"}, **headers)
    assert answer.status_code == status
    assert (answer.headers.get("www-authenticate", "").startswith("Bearer")) == (status == 401)


def test_a_refusal_has_the_shape_of_its_family(engine):
    """Oracle: text-embeddings-inference's and OpenAI's shapes, and nothing of the key that came."""
    with client_of(engine, api_keys=KEYS) as client:
        bare = client.post("/embed", {"inputs": "rain"}, authorization="Bearer secret-guess")
        wrapped = client.post("/v1/embeddings", {"input": "rain"}, authorization="Bearer secret-guess")
        metrics = client.request("GET", "/metrics", headers={"x-api-key": CLIENT}).text
    assert bare.json() == {"error": "this API key is not accepted", "error_type": "Unauthorized"}
    told = {"message": "this API key is not accepted", "type": "invalid_request_error", "param": None}
    assert wrapped.json() == {"error": told | {"code": "invalid_api_key"}}
    assert 'understudy_requests_total{route="/embed",status="401"} 1.0' in metrics.splitlines()


def test_what_is_open_without_a_key(engine):
    """Oracle: the pages and health by default; what the config opens, for GET alone; all where there are no keys."""
    with client_of(engine, api_keys=KEYS) as client:
        opened = [path for path in GETS if client.get(path).status_code == 200]
        assert sorted(opened) == ["/", "/docs", "/openapi.json"]
        assert client.post("/", {"inputs": "rain"}).status_code == 401
    with client_of(engine, api_keys=KEYS, open_routes=()) as client:
        assert [client.get(path).status_code for path in ("/health", *GETS)] == [200] + [401] * len(GETS)
        assert client.get("/absent").status_code == 401
    with client_of(engine, api_keys=KEYS, open_routes=("/", "/metrics")) as client:
        assert [client.get(path).status_code for path in ("/", "/metrics", "/info")] == [200, 200, 401]
        assert client.post("/", {"inputs": "rain"}).status_code == 401
    with client_of(engine) as client:
        assert [client.get(path).status_code for path in ("/health", *GETS)] == [200] * 7
        assert client.post("/predict", {"inputs": "rain"}, authorization="Bearer -").status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200), ("localhost:3000", 200), ("LOCALHOST.", 200), ("127.0.0.1:3000", 200), ("[::1]:3000", 200),
        ("models.example", 200), ("attacker.example", 421), ("localhost.attacker.example", 421), ("", 421),
        ("127.0.0.1.attacker.example:3000", 421), ("attacker.example:localhost", 421), ("localhost@x", 421),
        ("::1", 421),
    ],
)  # fmt: skip
def test_names_of_the_service(engine, host, status):
    """Oracle: the names given, with any port; a page of another name that means this address is refused."""
    config = with_hosts(ServiceConfig(hosts=("models.example",)), hosts_of("127.0.0.1"))
    with open_client(create_app({engine.name: engine}, engine.name, config)) as client:
        for path in ("/", "/health", "/info"):
            assert client.request("GET", path, headers={"host": host}).status_code == status
        assert client.post("/predict", {"inputs": "rain"}, host=host).status_code == status


def test_the_default_address_is_loopback():
    """Oracle: the standard library's notion of loopback, of what the options give when none is written."""
    parser = argparse.ArgumentParser()
    add_options(parser)
    assert ipaddress.ip_address(parser.parse_args(["bundle"]).host).is_loopback


def test_hosts_are_checked_on_loopback_alone():
    """Oracle: no list for an address that others reach, so that any name is taken there unless some are listed."""
    assert hosts_of("0.0.0.0") == {}  # noqa: S104 - nothing is bound
    assert hosts_of("127.0.0.2")["UNDERSTUDY_HOSTS"] == "127.0.0.2,localhost,127.0.0.1,[::1]"
    assert hosts_of("::1")["UNDERSTUDY_HOSTS"].startswith("[::1],localhost")
    assert with_hosts(ServiceConfig(), {}).hosts is None
    assert [name_of(host) for host in ("a:1", "a", "[::1]:1", "[::1]", "a:")] == ["a", "a", "[::1]", "[::1]", "a"]


def test_every_answer_carries_the_headers(engine):
    """Oracle: the list, on answers, faults, pages and refusals alike; a policy in pages that no frame shows."""
    expected = {name.decode(): value.decode() for name, value in HEADERS}
    assert set(expected) >= {"x-content-type-options", "referrer-policy", "x-frame-options", "cache-control"}
    with client_of(engine, api_keys=KEYS, open_routes=("/", "/docs"), hosts=("here",)) as client:
        key = {"x-api-key": CLIENT}
        answers = [
            client.get("/"),
            client.get("/docs"),
            client.get("/info"),
            client.post("/predict", {"inputs": "rain"}, **key),
            client.post("/predict", b"{", **key),
            client.request("GET", "/absent", headers=key),
            client.request("GET", "/", headers={"host": "elsewhere"}),
        ]
    assert [answer.status_code for answer in answers] == [200, 200, 401, 200, 400, 404, 421]
    for answer in answers:
        assert expected.items() <= dict(answer.headers).items()
    for page in answers[:2]:
        assert "frame-ancestors 'none'" in page.headers["content-security-policy"]


def test_logs_hold_neither_texts_nor_keys(engine, caplog):
    """Oracle: the words of each request, looked for in all that was logged at any level by any logger."""
    secrets = ("jazzsecret", "Bearer", CLIENT, "wrong-key")
    with caplog.at_level(logging.DEBUG), client_of(engine, api_keys=KEYS, limits=Limits(characters=40)) as client:
        key = {"x-api-key": CLIENT}
        for body in (
            {"inputs": "jazzsecret"},
            {"inputs": ["jazzsecret"] * 1000},
            {"inputs": "jazzsecret" * 10},
            {"inputs": {"jazzsecret": 1}},
            {"inputs": "a", "model": "jazzsecret"},
            b'{"inputs": "jazzsecret',
        ):
            client.post("/predict", body, **key)
        client.post("/jazzsecret?jazzsecret=1", {"inputs": "jazzsecret"}, **key)
        client.post("/predict", {"inputs": "jazzsecret"}, authorization="Bearer wrong-key")
    logged = "\n".join(
        record.getMessage() for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))
    )
    assert not [secret for secret in secrets if secret in logged]


def test_config_of_keys(tmp_path):
    """Oracle: the faults of each file, with their place; a key that stands twice is one too many."""
    path = tmp_path / "service.yaml"
    for content, words in (
        ("api_keys: [{name: a, sha256: short}]", "api_keys.0.sha256"),
        ("api_keys: [{name: 'a b', sha256: " + "0" * 64 + "}]", "api_keys.0.name"),
        ("api_keys: [{name: a, sha256: '" + "0" * 64 + "', role: root}]", "api_keys.0.role"),
        ("api_keys: [{name: a, sha256: '" + "0" * 64 + "'}, {name: a, sha256: '" + "1" * 64 + "'}]", "a stands twice"),
        ("open_routes: [/predict]", "open_routes.0"),
    ):
        path.write_text(content)
        with pytest.raises(ConfigError, match=words):
            read_service_config(path)


def test_the_command_makes_a_key(tmp_path, capsys):
    """Oracle: stdout is the key, stderr is YAML that the config takes and that accepts it; a wrong name is exit 2."""
    assert main(["key", "operator", "--role", "admin"]) == 0
    captured = capsys.readouterr()
    key = captured.out.strip()
    assert key not in captured.err
    (tmp_path / "service.yaml").write_text(captured.err)
    config = read_service_config(tmp_path / "service.yaml")
    assert find_key(config.api_keys, key.encode()) == ApiKey(
        name="operator", role="admin", sha256=yaml.safe_load(captured.err)["api_keys"][0]["sha256"]
    )
    assert main(["key", "a b"]) == 2


def test_admin_needs_the_scope_that_the_guard_filled():
    """Oracle: no key in the scope, no admin, whatever the path was; it is the route that asks, and not a prefix."""
    with pytest.raises(guard.Problem, match="role admin"):
        guard.check_admin({}, KEYS)
    with pytest.raises(guard.Problem, match="role admin"):
        guard.check_admin({guard.KEY: CLIENT_ENTRY}, KEYS)
    assert guard.check_admin({guard.KEY: ADMIN_ENTRY}, KEYS) == ADMIN_ENTRY
