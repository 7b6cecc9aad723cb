"""The packager: it sends the samples of the mp4 files; what it cannot read whole and of one version is an error."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.chain import ladder
from tests.chain.client import Response, fetch, fetch_at_once
from tests.chain.ladder import LADDER, PACKAGED, RENDITIONS
from tests.chain.packager import Packager
from tests.chain.signing import Bucket, Signing
from tests.faults.server import Connection, Request, ScriptedS3, Step, answer, close, first, reset
from tests.s3 import EmbeddedS3

BUCKET = "private"
REASON = Packager.missing() or ladder.missing()

pytestmark = [pytest.mark.chain, pytest.mark.skipif(bool(REASON), reason=REASON)]


@pytest.fixture(scope="module")
def files() -> dict[str, Path]:
    return ladder.made()


@pytest.fixture(scope="module")
def film(files: dict[str, Path]) -> bytes:
    """The smallest rendition."""
    return files[f"{LADDER}/180p.mp4"].read_bytes()


@pytest.fixture(scope="module")
def s3() -> Iterator[EmbeddedS3]:
    with EmbeddedS3([BUCKET]) as server:
        ladder.upload(server, BUCKET)
        yield server


@pytest.fixture(scope="module")
def httpd(s3: EmbeddedS3) -> Iterator[Signing]:
    server = Signing("gateway", Bucket.of(s3, BUCKET))
    with server:
        yield server
    assert server.unexpected == []


@pytest.fixture
def packager(httpd: Signing) -> Iterator[Packager]:
    """One that reads from the signing virtual host, without a cache."""
    with Packager(f"http://127.0.0.1:{httpd.signing_port}/bucket/") as program:
        yield program


def urls_of(packager: Packager, name: str, kind: str) -> list[str]:
    """The init segment and the segments that a playlist names."""
    folder = f"/{LADDER}/{name}"
    playlist = fetch(packager.port, f"{folder}/{kind}.m3u8")
    assert playlist.status == 200, playlist
    text = playlist.body.decode()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [f"{folder}/{url}" for url in (*re.findall(r'#EXT-X-MAP:URI="(.+)"', text), *lines)]


def whole(packager: Packager, urls: list[str]) -> bytes:
    """What is at these URLs, one after the other."""
    found = [fetch(packager.port, url) for url in urls]
    assert {response.status for response in found} == {200}
    return b"".join(response.body for response in found)


def samples(file: Path, stream: str) -> list[tuple[int, int, int, str]]:
    """The samples of a track: presentation time, duration, size, and MD5."""
    command = ["ffmpeg", "-v", "error", "-i", str(file), "-map", f"0:{stream}", "-c", "copy", "-f", "framemd5", "-"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    lines = [line.split(",") for line in done.stdout.splitlines() if not line.startswith("#")]
    return [(int(line[2]), int(line[3]), int(line[4]), line[5].strip()) for line in lines]


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_segments_have_the_samples_of_the_file(
    packager: Packager, files: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    for rendition in RENDITIONS:
        made = tmp_path / "made.mp4"
        made.write_bytes(whole(packager, urls_of(packager, rendition.name, kind)))
        expected = samples(files[f"{LADDER}/{rendition.name}.mp4"], kind[0])
        found = samples(made, kind[0])
        # ffmpeg 5 does not apply the edit list of a fragmented file to sound: all of it is later by the priming of AAC.
        shift = found[0][0] - expected[0][0]
        assert shift in ({0} if kind == "video" else {0, 1024})
        assert [(time - shift, *rest) for time, *rest in found] == [(time, *rest) for time, *rest in expected]


def test_one_read_for_the_index_and_one_for_each_segment(packager: Packager, s3: EmbeddedS3) -> None:
    s3.clear()
    urls = urls_of(packager, "360p", "video")
    whole(packager, urls)
    assert len(urls) == 1 + ladder.SECONDS // ladder.SEGMENT_SECONDS
    reads = packager.reads()
    assert len(reads) == len(urls)  # the init segment is made of the index
    assert {read["status"] for read in reads} == {206}
    assert [entry["status"] for entry in s3.requests()] == [206] * len(urls)
    # What is read and not sent is the sound between the pictures, and the rest of the first read.
    sent = sum(entry["bytes"] for entry in packager.requests())
    assert sum(read["bytes"] for read in reads) < sent * 1.15 + 65_536


def test_an_index_behind_the_media(packager: Packager, s3: EmbeddedS3, files: dict[str, Path], tmp_path: Path) -> None:
    """ffmpeg's default. Two reads, and the same segments."""
    file = tmp_path / "last.mp4"
    command = ["ffmpeg", "-v", "error", "-i", str(files[f"{LADDER}/180p.mp4"]), "-c", "copy", str(file)]
    subprocess.run(command, check=True, timeout=60)
    s3.put(BUCKET, f"{LADDER}/last.mp4", file)
    made = tmp_path / "made.mp4"
    urls = urls_of(packager, "last", "video")
    assert len(packager.reads()) == 2
    made.write_bytes(whole(packager, urls))
    assert samples(made, "v") == samples(file, "v")


def test_manifests(packager: Packager) -> None:
    main = fetch(packager.port, f"/{PACKAGED}/main.m3u8").body.decode()
    assert re.findall(r"RESOLUTION=(\w+)", main) == [f"{one.width}x{one.height}" for one in RENDITIONS]
    rates = [int(rate) for rate in re.findall(r"[:,]BANDWIDTH=(\d+)", main)]
    assert all(rate > one.rate * 1000 * 0.9 for rate, one in zip(rates, RENDITIONS, strict=True))
    mpd = fetch(packager.port, f"/{PACKAGED}/manifest.mpd").body.decode()
    assert mpd.count("<Representation ") == 4
    assert mpd.count("<S ") == 4 * ladder.SECONDS // ladder.SEGMENT_SECONDS
    assert 'mediaPresentationDuration="PT40.0' in mpd
    # Whoever seeks to the beginning of a picture has its sound.
    picture, sound = (starts(packager, kind) for kind in ("video", "audio"))
    assert all(0 <= one - other < 0.03 for one, other in zip(picture, sound, strict=True))
    # DASH and HLS have the same segments.
    (url,) = re.findall(r"<BaseURL>\.\./(180p/\w+/)</BaseURL>\n<SegmentTemplate .*video", mpd)
    assert f"/{LADDER}/{url}video-1.m4s" in urls_of(packager, "180p", "video")


def starts(packager: Packager, kind: str) -> list[float]:
    """When each segment of a playlist begins."""
    playlist = fetch(packager.port, f"/{LADDER}/180p/{kind}.m3u8").body.decode()
    durations = [float(text) for text in re.findall(r"#EXTINF:([\d.]+),", playlist)]
    return [round(sum(durations[:index]), 4) for index in range(len(durations))]


def test_responses(packager: Packager) -> None:
    init, segment, *_ = urls_of(packager, "180p", "video")
    response = fetch(packager.port, segment)
    assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert response.headers["Content-Type"] == "video/iso.segment"
    assert fetch(packager.port, init).headers["Content-Type"] == "video/mp4"
    assert fetch(packager.port, f"/{PACKAGED}/main.m3u8").headers["Cache-Control"] == "public, max-age=5"
    etag = response.headers["ETag"]
    same = fetch(packager.port, segment, if_none_match=etag)
    assert (same.status, same.body, same.headers["ETag"]) == (304, b"", etag)
    part = fetch(packager.port, segment, range="bytes=5-9")
    assert (part.status, part.body) == (206, response.body[5:10])
    assert part.headers["Content-Range"] == f"bytes 5-9/{len(response.body)}"
    assert fetch(packager.port, segment, range="bytes=-7").body == response.body[-7:]
    assert fetch(packager.port, segment, range="bytes=7-").body == response.body[7:]
    assert fetch(packager.port, segment, range="bytes=5-9", if_range='"x"').body == response.body
    assert fetch(packager.port, segment, range="bytes=5-9", if_range=etag).status == 206
    beyond = fetch(packager.port, segment, range="bytes=99999999-")
    assert (beyond.status, beyond.headers["Content-Range"]) == (416, f"bytes */{len(response.body)}")
    head = fetch(packager.port, segment, "HEAD")
    assert (head.status, head.headers["Content-Length"]) == (200, str(len(response.body)))
    assert fetch(packager.port, segment, "POST").status == 405


@pytest.mark.parametrize(
    "path",
    [
        "/", "/x", "/main.m3u8", "/ladder/main.m3u8", "/ladder/none/video.m3u8", "/ladder/180p/none.m3u8",
        "/ladder/180p/000000000000/video-1.m4s", "/ladder/180p/VERSION/video-21.m4s",
        "/ladder/180p/VERSION/video-0.m4s", "/ladder/180p/VERSION/text-1.m4s", "/ladder/../ladder/180p/video.m3u8",
        "/ladder/%2e%2e/180p/video.m3u8", "/ladder%2F180p/video.m3u8", "/ladder//180p/video.m3u8",
        "/ladder/180p%00/video.m3u8", "/ladder/%zz/video.m3u8", f"/ladder/{','.join(['180p'] * 17)}/main.m3u8",
        "/ladder/180p,none/manifest.mpd",
    ],
)  # fmt: skip
def test_what_is_not_there(packager: Packager, path: str) -> None:
    version = urls_of(packager, "180p", "video")[0].split("/")[3]
    response = fetch(packager.port, path.replace("VERSION", version))
    assert (response.status, response.headers["Cache-Control"]) == (404, "public, max-age=1")


def test_many_at_once_are_one_read(packager: Packager) -> None:
    _, segment, *_ = urls_of(packager, "540p", "video")
    before = len(packager.reads())
    found = fetch_at_once(40, packager.port, [segment])
    assert {response.status for response in found} == {200}
    assert len({response.body for response in found}) == 1
    # Whoever comes after the segment was sent reads it again: the packager stores no segment.
    assert len(packager.reads()) - before < 10


def test_renditions_without_common_key_frames(
    packager: Packager, s3: EmbeddedS3, files: dict[str, Path], tmp_path: Path
) -> None:
    file = tmp_path / "other.mp4"
    command = ["ffmpeg", "-v", "error", "-ss", "1", "-t", "9", "-i", str(files[f"{LADDER}/180p.mp4"]), "-g", "70"]
    subprocess.run([*command, "-x264-params", "scenecut=0", "-c:a", "copy", str(file)], check=True, timeout=60)
    s3.put(BUCKET, f"{LADDER}/other.mp4", file)
    assert fetch(packager.port, f"/{LADDER}/other/main.m3u8").status == 200
    assert fetch(packager.port, f"/{LADDER}/180p,other/main.m3u8").status == 502


def test_an_object_that_changes(packager: Packager, s3: EmbeddedS3, files: dict[str, Path], tmp_path: Path) -> None:
    key = f"{LADDER}/changing.mp4"
    for name in ("180p", "360p"):
        s3.put(BUCKET, key, files[f"{LADDER}/{name}.mp4"])
        made = tmp_path / f"{name}.mp4"
        urls = [url.replace(f"/{name}/", "/changing/") for url in urls_of_current(packager, "changing")]
        made.write_bytes(whole(packager, urls))
        assert samples(made, "v") == samples(files[f"{LADDER}/{name}.mp4"], "v")
        if name == "180p":
            old = urls
    # The playlist of before the change names segments that are no longer there.
    assert {fetch(packager.port, url).status for url in old} == {404}
    s3.delete(BUCKET, key)
    assert fetch(packager.port, urls[1]).status == 404


def urls_of_current(packager: Packager, name: str) -> list[str]:
    """The URLs of the playlist, when the index of the packager is no longer used without a look at the object."""
    threading.Event().wait(2.2)
    return urls_of(packager, name, "video")


def test_a_bounded_number_of_indexes(httpd: Signing, files: dict[str, Path]) -> None:
    """With memory for one index, two renditions in turn are read again each time, and are right."""
    with Packager(f"http://127.0.0.1:{httpd.signing_port}/bucket/", "1") as packager:
        first_urls, second_urls = (urls_of(packager, name, "video")[1:4] for name in ("180p", "360p"))
        bodies = [fetch(packager.port, url).body for pair in zip(first_urls, second_urls, strict=True) for url in pair]
        assert len(packager.reads()) == 2 + 2 * len(bodies)
    with Packager(f"http://127.0.0.1:{httpd.signing_port}/bucket/") as packager:
        again = [fetch(packager.port, url).body for pair in zip(first_urls, second_urls, strict=True) for url in pair]
        assert len(packager.reads()) == 2 + len(bodies)
    assert again == bodies


def test_a_stop_under_load(httpd: Signing) -> None:
    """What has begun is sent whole."""
    with Packager(f"http://127.0.0.1:{httpd.signing_port}/bucket/") as packager, ThreadPoolExecutor(8) as pool:
        urls = urls_of(packager, "540p", "video")[1:9]
        expected = [fetch(packager.port, url).body for url in urls]

        def one(number: int) -> Response | None:
            try:
                return fetch(packager.port, urls[number % 8])
            except OSError:
                return None

        running = [pool.submit(one, number) for number in range(64)]
        running[9].result()
        packager.stop()
        found = [future.result() for future in running]
        assert any(found)
        assert all(
            one is None or (one.is_complete, one.body) == (True, expected[at % 8]) for at, one in enumerate(found)
        )


# --- an upstream that fails: a cache, or the server that signs

VERSION, OTHER = ("ETag", '"one"'), ("ETag", '"two"')


def part_of(data: bytes, *headers: tuple[str, str]) -> Callable[[Connection, Request], None]:
    """A step that sends the range that is asked for."""

    def step(connection: Connection, request: Request) -> None:
        connection.send(ranged(data, request, *headers))

    return step


def ranged(data: bytes, request: Request, *headers: tuple[str, str], total: int = 0) -> bytes:
    """The response with the range that is asked for."""
    begin, end = (int(number) for number in request.headers["range"].removeprefix("bytes=").split("-"))
    body = data[begin : end + 1]
    value = f"bytes {begin}-{begin + len(body) - 1}/{total or len(data)}"
    return answer(206, body, ("Content-Range", value), *(headers or (VERSION,)))


def changed(change: Callable[[bytes], bytes], data: bytes, then: Callable[[Connection, Request], None] | None) -> Step:
    """A step that changes the right response, sends it, and then calls ``then``."""

    def step(connection: Connection, request: Request) -> None:
        response = change(ranged(data, request))
        if then:
            bytes_then = first(response, then)
            assert callable(bytes_then)
            bytes_then(connection, request)
        else:
            connection.send(response)

    return step


def without(name: bytes) -> Callable[[bytes], bytes]:
    return lambda response: re.sub(rb"\r\n" + name + rb": [^\r]+", b"", response)


#: What happens instead of the read: the step for the film, and the status that the client gets.
FAILURES: dict[str, tuple[Callable[[bytes], Step], int]] = {
    "404": (lambda film: answer(404), 404),
    "403": (lambda film: answer(403), 502),
    "500": (lambda film: answer(500), 502),
    "503": (lambda film: answer(503), 502),
    "504": (lambda film: answer(504), 504),
    "redirect": (lambda film: answer(302, b"", ("Location", "/x")), 502),
    "whole object": (lambda film: answer(200, film, VERSION), 502),
    "no response": (lambda film: close, 502),
    "reset": (lambda film: reset, 502),
    "not HTTP": (lambda film: first(b"hello\r\n\r\n", close), 502),
    "truncated": (lambda film: changed(lambda response: response[:-100], film, close), 502),
    "truncated and reset": (lambda film: changed(lambda response: response[:-100], film, reset), 502),
    "no ETag": (lambda film: changed(without(b"ETag"), film, None), 502),
    "weak ETag": (lambda film: part_of(film, ("ETag", 'W/"one"')), 502),
    "no Content-Range": (lambda film: changed(without(b"Content-Range"), film, None), 502),
    "no Content-Length": (lambda film: changed(lambda it: without(b"Content-Length")(it)[:-9], film, close), 502),
    "another place": (lambda film: changed(lambda it: it.replace(b"bytes 0-", b"bytes 1-"), film, None), 502),
    "short range": (lambda film: shorter(film), 502),
    "several ranges": (lambda film: answer(206, b"--x", ("Content-Type", "multipart/byteranges"), VERSION), 502),
}


#: Those that are repeated on a connection that was used before.
ENDED = ("no response", "reset")


def shorter(film: bytes) -> Step:
    """A response with less than was asked for, which is consistent in itself."""

    def step(connection: Connection, request: Request) -> None:
        begin, end = (int(number) for number in request.headers["range"].removeprefix("bytes=").split("-"))
        end = min(end, len(film) - 1) - 1
        value = f"bytes {begin}-{end}/{len(film)}"
        connection.send(answer(206, film[begin : end + 1], ("Content-Range", value), VERSION))

    return step


@pytest.fixture
def scripted() -> Iterator[Callable[[ScriptedS3], Packager]]:
    """A function that starts a packager with a scripted upstream; the packager is stopped at the end."""
    started: list[Packager] = []

    def start(server: ScriptedS3) -> Packager:
        program = Packager(f"{server.url}/bucket")
        started.append(program.__enter__())
        return program

    yield start
    for program in started:
        program.remove()


@pytest.mark.parametrize("name", FAILURES)
def test_an_index_that_cannot_be_read(scripted: Callable[[ScriptedS3], Packager], film: bytes, name: str) -> None:
    step, status = FAILURES[name]
    with ScriptedS3(step(film), then=part_of(film)) as upstream:
        packager = scripted(upstream)
        failed = fetch(packager.port, f"/{LADDER}/180p/video.m3u8")
        assert failed.status == status
        assert failed.headers["Cache-Control"] == ("public, max-age=1" if status == 404 else "no-store")
        # Nothing of the failure is remembered.
        assert fetch(packager.port, f"/{LADDER}/180p/video.m3u8").status == 200


@pytest.mark.parametrize("name", [name for name in FAILURES if name not in {"another place", *ENDED}])
def test_a_segment_that_cannot_be_read(scripted: Callable[[ScriptedS3], Packager], film: bytes, name: str) -> None:
    step, status = FAILURES[name]
    with ScriptedS3(part_of(film), step(film), then=part_of(film)) as upstream:
        packager = scripted(upstream)
        segment = urls_of(packager, "180p", "video")[1]
        failed = fetch(packager.port, segment)
        assert (failed.status, failed.is_complete) == (status, True)
        assert fetch(packager.port, segment).status == 200


@pytest.mark.parametrize("name", ENDED)
def test_a_kept_connection_that_has_ended(scripted: Callable[[ScriptedS3], Packager], film: bytes, name: str) -> None:
    """The upstream closes the connection at the moment at which it is used again: the read is repeated."""
    with ScriptedS3(part_of(film), FAILURES[name][0](film), then=part_of(film)) as upstream:
        packager = scripted(upstream)
        assert fetch(packager.port, urls_of(packager, "180p", "video")[1]).status == 200


def test_a_new_version_between_index_and_segment(scripted: Callable[[ScriptedS3], Packager], film: bytes) -> None:
    """404 if the packager sees the new version, 502 if a cache still has the index of the old one. Never its bytes."""
    for status, steps in ((404, [part_of(film, OTHER)]), (502, [answer(304, b"", VERSION)])):
        for response in (part_of(film, OTHER), answer(412), answer(200, film, OTHER)):
            with ScriptedS3(part_of(film), response, *steps) as upstream:
                packager = scripted(upstream)
                segment = urls_of(packager, "180p", "video")[1]
                assert fetch(packager.port, segment).status == status, packager.entries()
                assert upstream.requests[1].headers["if-match"] == VERSION[1]
                upstream.forget()


def test_a_new_version_between_both_reads_of_an_index(
    scripted: Callable[[ScriptedS3], Packager], film: bytes, tmp_path: Path
) -> None:
    """The index is read again, once."""
    moov = film.index(b"moov") - 4
    size = int.from_bytes(film[moov : moov + 4], "big")
    behind = film[:moov] + film[moov + size :] + film[moov : moov + size]
    with ScriptedS3(part_of(behind), part_of(behind, OTHER), then=part_of(behind, OTHER)) as upstream:
        packager = scripted(upstream)
        assert fetch(packager.port, f"/{LADDER}/180p/video.m3u8").status == 200
        assert len(upstream.requests) == 4


def test_an_object_that_is_still_the_same(scripted: Callable[[ScriptedS3], Packager], film: bytes) -> None:
    """The index is used again after a 304."""
    with ScriptedS3(part_of(film), answer(304, b"", VERSION)) as upstream:
        packager = scripted(upstream)
        before = urls_of(packager, "180p", "video")
        assert urls_of_current(packager, "180p") == before
        assert upstream.requests[1].headers["if-none-match"] == VERSION[1]


@pytest.mark.parametrize("data", ["empty", "text", "no moov", "huge moov", "broken moov", "no samples"])
def test_what_is_not_a_film(scripted: Callable[[ScriptedS3], Packager], film: bytes, data: str) -> None:
    moov = film.index(b"moov") - 4
    size = int.from_bytes(film[moov : moov + 4], "big")
    content = {
        "empty": b"x",
        "text": b"#EXTM3U\n" * 100,
        "no moov": film[:moov] + film[moov + size :],
        "huge moov": film[:moov] + (2**31).to_bytes(4, "big") + film[moov + 4 :],
        "broken moov": film[: moov + 200] + bytes(size - 200) + film[moov + size :],
        "no samples": film[:moov] + film[moov : moov + size].replace(b"stsz", b"xxxx") + film[moov + size :],
    }[data]
    with ScriptedS3(then=part_of(content)) as upstream:
        packager = scripted(upstream)
        assert fetch(packager.port, f"/{LADDER}/180p/video.m3u8").status == 502


def test_samples_behind_the_end_of_the_file(scripted: Callable[[ScriptedS3], Packager], film: bytes) -> None:
    """A file that was uploaded in part."""
    with ScriptedS3(then=part_of(film[:-10_000])) as upstream:
        assert fetch(scripted(upstream).port, f"/{LADDER}/180p/video.m3u8").status == 502
