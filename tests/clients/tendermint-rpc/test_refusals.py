"""What is no request, or asks for what is not there, by hand: status and code are CometBFT 0.38's."""

import base64
import http.client
import json

import clusters
import pytest


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with clusters.ledger(tmp_path_factory.mktemp("ledger"), "--nodes", "1") as cluster:
        yield cluster


@pytest.fixture()
def connection(cluster):
    connection = http.client.HTTPConnection(cluster.hosts(), timeout=20)
    yield connection
    connection.close()


@pytest.fixture()
def ask(connection):
    def ask(method, path, body=None):
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read()

    return ask


def call(method, params, name=1):
    return json.dumps({"jsonrpc": "2.0", "id": name, "method": method, "params": params})


def error(answer):
    status, body = answer
    told = json.loads(body)
    return status, told["error"]["code"], told["error"].get("data", "")


@pytest.mark.parametrize("body", ["{", "[1", '"text"', '{"id": {}}', '{"id": 1, "method": 7}'])
def test_what_is_no_request(ask, body):
    assert error(ask("POST", "/", body))[:2] == (500, -32700)


def test_a_method_that_is_not_there(ask):
    status, body = ask("POST", "/", call("no_such", {}, "a name"))
    answer = json.loads(body)
    assert (status, answer["id"], answer["error"]["code"]) == (200, "a name", -32601)
    assert ask("GET", "/no_such")[0] == 404
    assert ask("POST", "/status/more", call("status", {}))[0] == 404


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("block", {"height": 1}),
        ("block", {"height": "one"}),
        ("block", ["1", "2"]),
        ("block", "1"),
        ("broadcast_tx_sync", {"tx": "not base64!"}),
        ("abci_query", {"data": "0g"}),
        ("abci_query", {"data": "abc"}),
        ("tx", {"hash": "AA==", "prove": "yes"}),
    ],
)
def test_parameters_that_are_none(ask, method, params):
    status, code, data = error(ask("POST", "/", call(method, params)))
    assert (status, code) == (200, -32602)
    assert data.startswith("error converting json params to arguments: ")


@pytest.mark.parametrize("path", ["/abci_query?data=0xzz", "/block?height=one", "/tx?hash=0xabc", "/block?height=%"])
def test_parameters_in_a_uri_that_are_none(ask, path):
    status, code, data = error(ask("GET", path))
    assert (status, code) == (500, -32602)
    assert data.startswith("error converting http params to arguments: ")


@pytest.mark.parametrize("query", ["app.key=", "= 1", "a.b = 'x' OR a.c = 'y'", "a.b = 'never ends", "x" * 513])
def test_queries_that_are_none(ask, query):
    for method in ("tx_search", "block_search"):
        assert error(ask("POST", "/", call(method, {"query": query})))[:2] == (200, -32603)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/block?height=0", "height must be greater than 0, but got 0"),
        ("/block?height=-5", "height must be greater than 0, but got -5"),
        ("/block?height=9223372036854775807", "must be less than or equal to the current blockchain height"),
        ("/blockchain?minHeight=-1", "heights must be non-negative"),
        ("/tx?hash=0x00", "tx (00) not found"),
        ("/validators?page=2", "page should be within [1, 1] range, given 2"),
        ('/tx_search?query="tx.height>0"&order_by="up"', "expected order_by to be either `asc` or `desc` or empty"),
        ("/genesis_chunked?chunk=1", "there are 0 chunks, 1 is invalid"),
    ],
)
def test_what_is_not_there(ask, path, said):
    status, code, data = error(ask("GET", path.replace('"', "%22")))
    assert (status, code) == (500, -32603)
    assert said in data


def test_a_body_that_is_too_large(connection):
    # The length alone says so; a client that sends all of it may see a reset instead of the answer.
    connection.putrequest("POST", "/")
    connection.putheader("Content-Length", str(1 << 30))
    connection.endheaders()
    answer = connection.getresponse()
    status, code, data = error((answer.status, answer.read()))
    assert (status, code, data) == (400, -32600, "error reading request body: http: request body too large")


def test_transactions_that_are_too_large(ask):
    tx = base64.b64encode(b"k=" + b"v" * (1 << 20)).decode()
    status, code, data = error(ask("POST", "/", call("broadcast_tx_sync", {"tx": tx})))
    assert (status, code, data) == (200, -32603, "Tx too large. Max size is 1048576, but got 1048578")


def test_batches(ask):
    calls = [json.loads(call("health", {}, at)) for at in range(3)] + [{"jsonrpc": "2.0", "method": "health"}]
    status, body = ask("POST", "/", json.dumps(calls))
    assert (status, [one["id"] for one in json.loads(body)]) == (200, [0, 1, 2]), "what has no id is not answered"
    too_many = [json.loads(call("health", {}, at)) for at in range(101)]
    assert error(ask("POST", "/", json.dumps(too_many)))[:2] == (200, -32600)
    assert ask("POST", "/", "[]") == (200, b"")


def test_a_page_of_another_site(connection):
    connection.request("GET", "/status", headers={"Origin": "http://elsewhere.example"})
    assert connection.getresponse().status == 403
