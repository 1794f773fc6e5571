"""The requests that the other tests sign by hand are signed right: AWS's published examples."""

from datetime import datetime, timezone

from wire import SIGNED_CHUNKS, SIGNED_CHUNKS_TRAILER, Chunks, Key, Request

KEY = Key("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
FRIDAY = datetime(2013, 5, 24, tzinfo=timezone.utc)


def upload(payload, **more):
    return Request("PUT", "/examplebucket/chunkObject.txt", headers={
        "Host": "s3.amazonaws.com", "x-amz-storage-class": "REDUCED_REDUNDANCY", "Content-Encoding": "aws-chunked",
        "x-amz-decoded-content-length": "66560", **more,
    }).sign(KEY, payload, FRIDAY)


def test_signed_chunks_are_those_of_the_documentation():
    request = upload(SIGNED_CHUNKS, **{"Content-Length": "66824"})
    assert request.signature == "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
    body = Chunks(request, KEY).body(b"a" * 66560)
    assert len(body) == 66824
    assert b"10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n" in body
    assert b"400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n" in body
    assert body.endswith(b"0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n")


def test_signed_trailer_is_that_of_the_documentation():
    request = upload(SIGNED_CHUNKS_TRAILER, **{"x-amz-trailer": "x-amz-checksum-crc32c"})
    assert request.signature == "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e"
    body = Chunks(request, KEY).body(b"a" * 66560, trailer=("x-amz-checksum-crc32c", "sOO8/Q=="))
    assert b"0;chunk-signature=2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992\r\n" in body
    assert b"x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n" in body
