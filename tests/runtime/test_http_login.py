"""Logins of HTTP cameras: Digest and Basic when asked, nothing unasked, clear words for the rest."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import chain, islice, repeat

import cv2
import numpy as np
import pytest

from definitions.login_camera import LoginCamera
from sspcab_edge.errors import SourceError
from sspcab_runtime.sources.camera_address import camera_address
from sspcab_runtime.sources.http_auth import Challenge, answer, read_challenges
from sspcab_runtime.sources.live import open_stream
from sspcab_runtime.sources.streams import StreamOptions

pytest.importorskip("av", reason="PyAV is not installed: no cameras")

USER, PASSWORD = "ädmin", 'p@ss:/#w "ö"\\'
IMAGE = cv2.imencode(".jpg", np.full((16, 16, 3), 90, np.uint8))[1].tobytes()
BODY = b"--part\r\nContent-Type: image/jpeg\r\n\r\n" + IMAGE + b"\r\n"


@contextmanager
def camera(*challenges: str, stale: int = 0) -> Iterator[LoginCamera]:
    made = LoginCamera(challenges, USER, PASSWORD, BODY)
    made.stale = stale
    with closing(made):
        yield made


def frames(uri: str, user: str | None = USER, password: str = PASSWORD) -> int:
    """How many frames come until the stream ends."""
    options = StreamOptions(open_s=2.0, read_s=2.0, user=user, password=password)
    with closing(open_stream(camera_address(uri), options)) as stream:
        reading = iter(stream)
        next(reading)
        return 1


DIGESTS = [
    'Digest realm="c", nonce="NONCE"',
    'Digest realm="a \\"quoted\\" realm", nonce="NONCE", qop="auth", algorithm=MD5, opaque="o"',
    'Digest realm="c", nonce="NONCE", qop="auth", algorithm="md5"',
    'Digest realm="c", nonce="NONCE", qop="auth,auth-int", algorithm=MD5-sess',
    'Digest realm="c", nonce="NONCE", algorithm=MD5-sess',
    'Digest realm="c", nonce="NONCE", qop="auth-int", algorithm=SHA-256',
    'Digest realm="c", nonce="NONCE", qop="auth", algorithm=SHA-256-sess, charset=UTF-8',
    'Digest realm="c", nonce="NONCE", qop="auth", algorithm=SHA-256, charset=UTF-8, userhash=true',
    'Digest  qop=auth , stale=FALSE,nonce=NONCE,realm=c',
]  # fmt: skip


@pytest.mark.parametrize("challenge", DIGESTS)
def test_digest_is_answered_when_asked(challenge: str) -> None:
    with camera(challenge) as made:
        assert frames(made.uri) == 1
    assert made.logins[0] is None
    assert len(made.logins) == 2


def test_basic_only_where_nothing_else_is_offered() -> None:
    with camera('Basic realm="c"') as made:
        assert frames(made.uri) == 1
    assert made.logins[0] is None
    for challenges in (['Basic realm="c"', DIGESTS[1]], [f'Basic realm="c", {DIGESTS[1]}'], DIGESTS[1::-1]):
        with camera(*challenges) as made:
            assert frames(made.uri) == 1
        assert [login and login.split()[0] for login in made.logins] == [None, "Digest"]


def test_the_strongest_digest_is_taken() -> None:
    offered = [
        'Digest realm="c", nonce="NONCE", qop="auth", algorithm=' + one for one in ("MD5", "SHA-256", "X")
    ]
    with camera(*offered) as made:
        assert frames(made.uri) == 1
    assert "algorithm=SHA-256" in str(made.logins[1])


def test_a_stale_nonce_is_renewed_once() -> None:
    with camera(DIGESTS[1], stale=1) as made:
        assert frames(made.uri) == 1
        assert len(made.logins) == 3
        made.stale = 99
        with pytest.raises(SourceError, match="401"):
            frames(made.uri)
        assert len(made.logins) == 6


def test_what_is_refused_is_said() -> None:
    with camera(DIGESTS[1]) as made:
        with pytest.raises(SourceError, match=r"video\?channel=1 wants a user and a password \(401\)"):
            frames(made.uri, user=None)
        with pytest.raises(SourceError, match=r"refuses this user or this password \(401\)") as caught:
            frames(made.uri, password="wrong-secret")
        assert "secret" not in str(caught.value)
        assert len(made.logins) == 3
    with camera('Digest realm="c", nonce="NONCE", algorithm=FOO', 'Basic realm="c"') as made:
        with pytest.raises(SourceError, match="wants a login by Digest with FOO, expected one of"):
            frames(made.uri)
        assert made.logins == [None]
    with (
        camera("NTLM", "Negotiate") as made,
        pytest.raises(SourceError, match="by negotiate, ntlm, expected"),
    ):
        frames(made.uri)
    with camera() as made, pytest.raises(SourceError, match="expected Digest or Basic"):
        frames(made.uri)


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_examples_of_rfc_7616(algorithm: str, response: str) -> None:
    offered = read_challenges(
        [
            f'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={algorithm}, '
            'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", '
            'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
        ]
    )
    cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
    given = answer(offered, "GET", "/dir/index.html", "Mufasa", "Circle of Life", cnonce).decode()
    assert f'response="{response}"' in given
    assert 'username="Mufasa"' in given
    assert "qop=auth, nc=00000001" in given


def test_the_example_with_a_hashed_user() -> None:
    """RFC 7616, section 3.9.2, as erratum 4897 corrects it."""
    text = (
        'Digest realm="api@example.org", qop="auth", algorithm=SHA-512-256, '
        'nonce="5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK", '
        'opaque="HRPCssKJSGjCrkzDg8OhwpzCiGPChXYjwrI2QmXDnsOS", charset=UTF-8'
    )
    cnonce = "NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v"
    for more, user in (
        (", userhash=true", 'username="793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b"'),
        ("", "username*=UTF-8''J%C3%A4s%C3%B8n%20Doe"),
    ):
        given = answer(
            read_challenges([text + more]), "GET", "/doe.json", "Jäsøn Doe", "Secret, or not?", cnonce
        )
        assert user in given.decode()
        assert 'response="3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5"' in given.decode()


def test_challenges_as_servers_write_them() -> None:
    header = 'Newauth realm="apps", type=1, title="Login to \\"apps\\"", Basic realm="simple"'
    assert read_challenges([header]) == (
        Challenge("newauth", {"realm": "apps", "type": "1", "title": 'Login to "apps"'}),
        Challenge("basic", {"realm": "simple"}),
    )
    assert read_challenges(["NTLM TlRMTVNTUAAB==, Basic", ",,=", 'Digest realm="open']) == (
        Challenge("ntlm", {}),
        Challenge("basic", {}),
        Challenge("digest", {"realm": "open"}),
    )


@contextmanager
def trickle(begin: bytes, then: bytes) -> Iterator[str]:
    """A server that answers with some bytes, and then with others for ever, a byte at a time."""
    listening = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(4096)
            try:
                connection.sendall(begin)
                for byte in chain.from_iterable(repeat(then)):
                    if stop.wait(0.02):
                        return
                    connection.sendall(bytes([byte]))
            except OSError:
                return

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/video"
    finally:
        stop.set()
        thread.join()
        listening.close()


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A server that answers one request with these bytes, and hangs up."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/video"
    finally:
        thread.join()
        listening.close()


PARTS = b"".join(b"--part\r\nContent-Type: image/jpeg\r\n\r\n" + IMAGE + b"\r\n" for _ in range(3))
CHUNKS = b"".join(b"1\r\n%c\r\n" % byte for byte in PARTS) + b"0\r\n\r\n"
TYPE = b"Content-Type: multipart/x-mixed-replace"


@pytest.mark.parametrize(
    "answer",
    [
        TYPE + b"; boundary=part\r\n\r\n" + PARTS,
        b'CONTENT-TYPE: Multipart/X-Mixed-Replace;Boundary = "an other"\r\n\r\n' + PARTS,
        TYPE + b"; boundary=--part\r\nConnection: keep-alive\r\n\r\n" + PARTS,
        b"Content-Type: multipart/x-mixed-replace\r\nTransfer-Encoding: chunked\r\n\r\n"
        + CHUNKS
        + b"0\r\n\r\n",
        b"Content-Type: application/octet-stream\r\n\r\n" + PARTS,
        b"\r\n" + PARTS,
    ],
)
def test_answers_in_many_dialects(answer: bytes) -> None:
    with answering(b"HTTP/1.1 200 OK\r\n" + answer) as uri:
        stream = open_stream(camera_address(uri), StreamOptions(open_s=2.0, read_s=2.0))
        with closing(stream):
            reading = iter(stream)
            assert [(frame.width, frame.height) for frame in islice(reading, 3)] == [(16, 16)] * 3
            with pytest.raises(SourceError, match="video ended"):
                next(reading)
            assert stream.bad == 0


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            b"200 OK\r\nContent-Type: image/jpeg\r\n\r\n" + IMAGE,
            "gives one image (image/jpeg), expected a stream",
        ),
        (b"200 OK\r\nContent-Type: text/html\r\n\r\n<html>", "gives 'text/html', expected multipart/x-mixed"),
        (
            b"302 Found\r\nLocation: http://a:Zx9geheim@b/\r\n\r\n",
            "answers 302, expected 200, and redirects are",
        ),
        (b"200 OK\r\n\r\n" + b"no image " * 200_000, "sends no JPEG images"),
    ],
)
def test_answers_that_are_refused(answer: bytes, words: str) -> None:
    with answering(b"HTTP/1.1 " + answer) as uri, pytest.raises(SourceError, match=re.escape(words)):
        next(iter(open_stream(camera_address(uri), StreamOptions(open_s=2.0, read_s=2.0))))


OK = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=part\r\n"


@pytest.mark.parametrize(
    ("begin", "then", "words"),
    [
        (b"", b"H", "cannot be opened: no answer in time"),
        (b"HTTP/1.1 200 OK\r\n", b"A: b\r\n", "cannot be opened: no answer in time"),
        (OK + b"\r\n" + BODY, BODY[:-40] + b"\0", "gave no whole image within 0.5 s"),
        (OK + b"\r\n", b"--part\r\n", "gave no whole image within 0.5 s"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0", "gave no whole image within 0.5 s"),
    ],
)
def test_a_camera_that_trickles_is_given_up(begin: bytes, then: bytes, words: str) -> None:
    started = time.monotonic()
    options = StreamOptions(open_s=0.5, read_s=0.5)
    with (
        trickle(begin, then) as uri,
        pytest.raises(SourceError, match=words),
        closing(open_stream(camera_address(uri), options)) as stream,
    ):
        list(stream)
    assert time.monotonic() - started < 5
