"""Web sites: the configuration by boto3, and what a browser sees that comes by the host name."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from home import Home, until
from samples import KIB, MIB, bytes_of, refused

DOMAIN = "sites.example.org"
PAGES = {"IndexDocument": {"Suffix": "index.html"}, "ErrorDocument": {"Key": "error.html"}}


@pytest.fixture(scope="module")
def home():
    with Home.start(web_domains=[DOMAIN]) as home:
        before = home.restarts()
        yield home
        assert home.restarts() == before, f"a process was restarted during these tests: {home.services()}"


def publish(s3, bucket, website=PAGES):
    """Makes a bucket a public web site."""
    statement = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket}/*"}
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    s3.put_bucket_website(Bucket=bucket, WebsiteConfiguration=website)


@pytest.fixture
def site(s3, bucket):
    """A public web site of a few pages; gives its host."""
    for key in ("index.html", "docs/index.html", "error.html", "page.html"):
        s3.put_object(Bucket=bucket, Key=key, Body=f"<p>{key}</p>".encode(), ContentType="text/html", CacheControl="max-age=60", Metadata={"by": "me"})
    publish(s3, bucket)
    return f"{bucket}.{DOMAIN}"


def fields(answer):
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


@pytest.mark.parametrize("website", [
    {"IndexDocument": {"Suffix": "i.html"}},
    PAGES | {"RoutingRules": [
        {"Condition": {"KeyPrefixEquals": "a/", "HttpErrorCodeReturnedEquals": "404"}, "Redirect": {"HostName": "x.org", "Protocol": "https", "ReplaceKeyPrefixWith": "b/", "HttpRedirectCode": "302"}},
        {"Redirect": {"ReplaceKeyWith": "c"}},
    ]},
    {"RedirectAllRequestsTo": {"HostName": "x.org", "Protocol": "https"}},
])
def test_a_configuration_is_kept_and_deleted(s3, bucket, website):
    s3.put_bucket_website(Bucket=bucket, WebsiteConfiguration=website)
    assert fields(s3.get_bucket_website(Bucket=bucket)) == website
    s3.delete_bucket_website(Bucket=bucket)
    with refused("NoSuchWebsiteConfiguration", 404):
        s3.get_bucket_website(Bucket=bucket)
    s3.delete_bucket_website(Bucket=bucket)


@pytest.mark.parametrize("website, code", [
    ({}, "InvalidArgument"), ({"IndexDocument": {"Suffix": "a/b"}}, "InvalidArgument"),
    (PAGES | {"RedirectAllRequestsTo": {"HostName": "x"}}, "InvalidArgument"),
    (PAGES | {"RoutingRules": [{"Redirect": {"HttpRedirectCode": "200"}}]}, "InvalidRequest"),
    (PAGES | {"RoutingRules": [{"Redirect": {"HostName": "x", "ReplaceKeyWith": "a", "ReplaceKeyPrefixWith": "b"}}]}, "InvalidRequest"),
])
def test_what_aws_refuses_is_refused(s3, bucket, website, code):
    with refused(code, 400):
        s3.put_bucket_website(Bucket=bucket, WebsiteConfiguration=website)


def test_pages_come_with_their_own_headers(home, s3, site):
    status, headers, body = home.visit(site)
    assert (status, body) == (200, b"<p>index.html</p>")
    assert headers["Content-Type"] == "text/html" and headers["Cache-Control"] == "max-age=60" and headers["x-amz-meta-by"] == "me"
    assert headers["ETag"] and headers["Last-Modified"]
    assert home.visit(site, "/docs/")[2] == b"<p>docs/index.html</p>"
    assert home.visit(site, "/page.html?versionId=none&x-id=GetObject")[2] == b"<p>page.html</p>"
    status, headers, body = home.visit(site, "/page.html", "HEAD")
    assert (status, headers["Content-Length"], body) == (200, "16", b"")


def test_a_directory_without_its_slash_is_sent_to_it(home, s3, bucket, site):
    s3.put_object(Bucket=bucket, Key="a b/ü/index.html", Body=b"")
    for path, location in (("/docs", "/docs/"), ("/a%20b/%C3%BC", "/a%20b/%C3%BC/")):
        status, headers, _ = home.visit(site, path)
        assert (status, headers["Location"]) == (302, location)
        assert home.visit(site, location)[0] == 200


def test_what_is_missing_is_shown_by_the_error_document(home, s3, bucket, site):
    status, headers, body = home.visit(site, "/none")
    assert (status, body, headers["x-amz-error-code"]) == (404, b"<p>error.html</p>", "NoSuchKey")
    assert home.visit(site, "/none", Range="bytes=0-1", If_None_Match="*")[0] == 404, "the conditions are not about the error document"
    s3.delete_object(Bucket=bucket, Key="error.html")
    status, headers, body = home.visit(site, "/%3Cscript%3E")
    assert status == 404 and headers["Content-Type"].startswith("text/html")
    assert b"Code: NoSuchKey" in body and b"Custom Error Document" in body and b"<script>" not in body


def test_what_is_not_public_is_forbidden(home, s3, bucket, site):
    statement = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": [f"arn:aws:s3:::{bucket}/docs/*", f"arn:aws:s3:::{bucket}/error.html"]}
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    assert home.visit(site, "/docs/")[0] == 200
    for path in ("/", "/page.html", "/none"):
        status, _, body = home.visit(site, path)
        assert (status, body) == (403, b"<p>error.html</p>"), path
    s3.delete_bucket_policy(Bucket=bucket)
    status, headers, body = home.visit(site, "/docs/")
    assert (status, headers["x-amz-error-code"]) == (403, "AccessDenied") and b"Code: AccessDenied" in body


def test_pages_that_the_node_encrypts_are_shown_and_those_under_a_clients_key_are_not(home, s3, bucket, site):
    body = bytes_of(5 * MIB)
    s3.put_object(Bucket=bucket, Key="film", Body=body, ServerSideEncryption="AES256")
    s3.put_object(Bucket=bucket, Key="theirs", Body=b"secret", SSECustomerAlgorithm="AES256", SSECustomerKey=bytes(32))
    assert home.visit(site, "/film")[2] == body
    status, _, part = home.visit(site, "/film", Range="bytes=65519-65521")
    assert (status, part) == (206, body[65519:65522])
    status, _, body = home.visit(site, "/theirs")
    assert status == 400 and b"secret" not in body


def test_ranges_and_conditions_are_judged(home, s3, bucket, site):
    body = bytes_of(5 * MIB + 77 * KIB)
    s3.put_object(Bucket=bucket, Key="film", Body=body)
    status, headers, part = home.visit(site, "/film", Range="bytes=4194300-4194399")
    assert (status, part) == (206, body[4194300:4194400]) and headers["Content-Range"] == f"bytes 4194300-4194399/{len(body)}"
    assert home.visit(site, "/film")[2] == body
    tag, modified = headers["ETag"], headers["Last-Modified"]
    for conditions in ({"If_None_Match": tag}, {"If_Modified_Since": modified}):
        status, headers, rest = home.visit(site, "/film", **conditions)
        assert (status, rest, headers["ETag"]) == (304, b"", tag)
    assert home.visit(site, "/film", Range="bytes=0-9", If_Range=tag)[0] == 206
    assert home.visit(site, "/film", Range="bytes=0-9", If_Range='"other"')[2] == body
    assert home.visit(site, "/film", If_Match='"other"')[0] == 412
    assert home.visit(site, "/film", Range="bytes=99999999-")[0] == 416


def test_what_is_encrypted_at_rest_is_shown_and_what_needs_the_clients_key_is_not(home, s3, bucket, site):
    body = bytes_of(200 * KIB)
    s3.put_object(Bucket=bucket, Key="sealed", Body=body, ServerSideEncryption="AES256")
    assert home.visit(site, "/sealed")[2] == body
    assert home.visit(site, "/sealed", Range="bytes=70000-70009")[2] == body[70000:70010]
    s3.put_object(Bucket=bucket, Key="own", Body=body, SSECustomerAlgorithm="AES256", SSECustomerKey=b"k" * 32)
    status, headers, shown = home.visit(site, "/own")
    assert (status, headers["x-amz-error-code"], shown) == (400, "InvalidRequest", b"<p>error.html</p>")


def test_rules_send_elsewhere(home, s3, bucket, site):
    rules = [
        {"Condition": {"KeyPrefixEquals": "old/"}, "Redirect": {"ReplaceKeyPrefixWith": "new/"}},
        {"Condition": {"HttpErrorCodeReturnedEquals": "404", "KeyPrefixEquals": "shop/"}, "Redirect": {"HostName": "shop.org", "Protocol": "https", "HttpRedirectCode": "307"}},
    ]
    s3.put_bucket_website(Bucket=bucket, WebsiteConfiguration=PAGES | {"RoutingRules": rules})
    for path, code, location in (
        ("/old/a%20b", 301, f"http://{site}/new/a%20b"), ("/shop/x", 307, "https://shop.org/shop/x"),
    ):
        status, headers, _ = home.visit(site, path)
        assert (status, headers["Location"]) == (code, location)
    assert home.visit(site, "/old/x", X_Forwarded_Proto="https")[1]["Location"] == f"https://{site}/new/x"
    assert home.visit(site, "/none")[0] == 404
    s3.put_bucket_website(Bucket=bucket, WebsiteConfiguration={"RedirectAllRequestsTo": {"HostName": "x.org"}})
    status, headers, _ = home.visit(site, "/any/page")
    assert (status, headers["Location"]) == (301, "http://x.org/any/page")


def test_objects_are_redirects(home, s3, bucket, site):
    to = "/page.html"
    s3.put_object(Bucket=bucket, Key="put", Body=b"", WebsiteRedirectLocation=to)
    upload = s3.create_multipart_upload(Bucket=bucket, Key="parts", WebsiteRedirectLocation=to)["UploadId"]
    part = s3.upload_part(Bucket=bucket, Key="parts", UploadId=upload, PartNumber=1, Body=b"x")
    s3.complete_multipart_upload(Bucket=bucket, Key="parts", UploadId=upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})
    source = {"Bucket": bucket, "Key": "put"}
    s3.copy_object(Bucket=bucket, Key="plain-copy", CopySource=source)
    s3.copy_object(Bucket=bucket, Key="copy", CopySource=source, WebsiteRedirectLocation="https://x.org/")
    for key, location in (("put", to), ("parts", to), ("copy", "https://x.org/")):
        assert s3.head_object(Bucket=bucket, Key=key)["WebsiteRedirectLocation"] == location
        status, headers, body = home.visit(site, f"/{key}")
        assert (status, headers["Location"], body) == (301, location, b"")
    assert "WebsiteRedirectLocation" not in s3.head_object(Bucket=bucket, Key="plain-copy")
    s3.copy_object(Bucket=bucket, Key="put", CopySource=source, WebsiteRedirectLocation="/docs/")
    assert home.visit(site, "/put")[1]["Location"] == "/docs/"
    with refused("InvalidRedirectLocation", 400):
        s3.put_object(Bucket=bucket, Key="k", Body=b"", WebsiteRedirectLocation="javascript:x")


def test_a_change_of_the_configuration_counts_at_once(home, s3, bucket, site):
    for number in range(20):
        s3.put_object(Bucket=bucket, Key=f"{number}.html", Body=str(number).encode())
        s3.put_bucket_website(Bucket=bucket, WebsiteConfiguration={"IndexDocument": {"Suffix": f"{number}.html"}})
        assert [home.visit(site)[2] for _ in range(3)] == [str(number).encode()] * 3
    s3.delete_bucket_website(Bucket=bucket)
    status, headers, _ = home.visit(site)
    assert (status, headers["x-amz-error-code"]) == (404, "NoSuchWebsiteConfiguration")


def test_a_site_is_found_by_each_of_its_names(home, s3, bucket, site):
    alias = f"www.{bucket}.org"
    assert home.visit(alias)[1]["x-amz-error-code"] == "NoSuchBucket"
    home.ask("bucket", "alias", "add", bucket, alias)
    for host in (site, bucket, f"{bucket}:80", f"{bucket}.localhost", f"{bucket}.web.localhost:3902", alias, f"{alias.upper()}:8080"):
        assert home.visit(host)[2] == b"<p>index.html</p>", host
    home.ask("bucket", "alias", "remove", bucket, alias)
    for host in (alias, "127.0.0.1", DOMAIN, "[::1]"):
        assert home.visit(host)[1]["x-amz-error-code"] == "NoSuchBucket", host


def test_rules_for_pages_of_others_count(home, s3, bucket, site):
    rule = {"AllowedOrigins": ["https://app.org"], "AllowedMethods": ["GET"], "AllowedHeaders": ["range"]}
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule]})
    assert home.visit(site, Origin="https://app.org")[1]["Access-Control-Allow-Origin"] == "https://app.org"
    assert home.visit(site, Origin="https://other.org")[1]["Access-Control-Allow-Origin"] is None
    asked = {"Origin": "https://app.org", "Access_Control_Request_Method": "GET"}
    assert home.visit(site, "/", "OPTIONS", **asked)[0] == 200
    assert home.visit(site, "/", "OPTIONS", **(asked | {"Origin": "https://other.org"}))[0] == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_changed(home, site, method):
    status, headers, _ = home.visit(site, "/page.html", method)
    assert (status, headers["Allow"]) == (405, "GET, HEAD, OPTIONS")
    assert home.visit(site, "/page.html")[0] == 200


def test_an_operator_makes_a_site_in_one_step(home, s3, bucket):
    s3.put_object(Bucket=bucket, Key="start.htm", Body=b"hello")
    home.ask("bucket", "website", bucket, "--public", "--index", "start.htm", "--error", "none.htm")
    assert home.visit(f"{bucket}.localhost")[2] == b"hello"
    assert home.ask("bucket", "info", bucket)["website"] == {"index": "start.htm", "error": "none.htm", "routing_rules": 0}
    assert s3.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"]["IsPublic"]
    home.ask("bucket", "website", bucket, "--none")
    assert home.visit(f"{bucket}.localhost")[0] == 404
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration={"BlockPublicPolicy": True})
    assert home.trousseau("bucket", "website", bucket, "--public").returncode == 1


def test_a_hundred_visitors_get_what_they_ask_for(home, s3, bucket, site, report):
    bodies = {f"{size}": bytes_of(size) for size in (100, 4 * KIB, 40 * KIB, 300 * KIB)}
    for key, body in bodies.items():
        s3.put_object(Bucket=bucket, Key=key, Body=body)

    def visit(number):
        return all(home.visit(site, f"/{key}")[2] == body for key, body in bodies.items() for _ in range(2))

    with ThreadPoolExecutor(100) as visitors:
        assert all(visitors.map(visit, range(100)))


def test_where_nobody_asked_for_it_the_service_does_not_run(own_home):
    assert "web" not in own_home.services()
    assert own_home.ask("status")["ready"]


def test_killed_it_comes_back_and_shows_the_same():
    with Home.start(web_domains=[]) as home:
        home.put("index.html", b"here", bucket="pages")
        publish(home.s3, "pages")
        for name in ("web", "metadata", "block-store", "bus"):
            home.kill(name)
            until(lambda: shows(home, "pages.localhost", b"here"), 60, f"the page is shown after the end of {name}")


def shows(home, host, body):
    try:
        return home.visit(host)[2] == body
    except OSError:
        return False
