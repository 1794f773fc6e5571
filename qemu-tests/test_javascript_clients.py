"""The AWS SDK and MinIO's client for JavaScript, and a page in a browser that signs for itself."""

import http.server
import json
import shutil
import subprocess
import threading
import urllib.parse

import pytest

from clients import JAVASCRIPT, big, environment, need, run  # noqa: F401 - fixtures
from home import REPOSITORY

PROGRAMS = REPOSITORY / "qemu-tests/javascript"


@pytest.mark.parametrize("client", ["aws_sdk", "minio"])
def test_a_program_of_javascript_uses_the_store(run, home, bucket, big, client):
    """What it asserts is in the program of that name."""
    run("node", PROGRAMS / f"{client}.js", home.url, bucket, big)


class Origin(http.server.ThreadingHTTPServer):
    """The page's own server: another origin than the store's. Keeps what the page reports."""

    def __init__(self, script):
        super().__init__(("127.0.0.1", 0), Page)
        self.script = script
        self.reported = threading.Event()
        self.result = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *failure):
        self.shutdown()
        self.server_close()


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"<!doctype html><script>" + self.server.script + b"</script>" if self.path.startswith("/?") else b""
        self.send_response(200 if body else 404)
        self.send_header("content-type", "text/html; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.server.result = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.reported.set()
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def script():
    """The page's script with aws4 in it, as a browser can run it."""
    need("node")
    aliases = ["--alias:crypto=./browser_crypto.js", "--alias:querystring=querystring-es3", "--alias:stream=readable-stream"]
    # The files lie beside the installed modules, where the bundler looks for them.
    for name in ["page.js", "browser_crypto.js", "browser_shim.js"]:
        shutil.copy(PROGRAMS / name, JAVASCRIPT)
    bundle = [JAVASCRIPT / "node_modules/.bin/esbuild", "page.js", "--bundle", "--platform=browser", "--charset=utf8", *aliases]
    bundle += ["--inject:browser_shim.js", "--define:global=globalThis", "--log-level=warning"]
    return subprocess.run(bundle, cwd=JAVASCRIPT, check=True, stdout=subprocess.PIPE, timeout=120).stdout


def test_a_page_in_a_browser_signs_for_itself_and_gets_what_cors_allows(home, s3, bucket, script, tmp_path):
    need("chromium")
    with Origin(script) as origin:
        rule = {"AllowedOrigins": [origin.url], "AllowedMethods": ["GET", "PUT"], "AllowedHeaders": ["*"], "ExposeHeaders": ["ETag"]}
        s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule]})
        asked = {
            "endpoint": home.url, "bucket": bucket, "region": home.ready["region"],
            "accessKeyId": home.ready["access_key"], "secretAccessKey": home.ready["secret_key"],
        }
        browser = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={tmp_path}/profile"]
        with (tmp_path / "browser.log").open("wb") as log:
            started = subprocess.Popen(
                [*browser, "--remote-debugging-port=0", f"{origin.url}/?{urllib.parse.urlencode(asked)}"],
                env=environment(home, tmp_path), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )
        try:
            assert origin.reported.wait(180), (tmp_path / "browser.log").read_text(errors="replace")[-4000:]
        finally:
            started.terminate()
            started.wait(60)
    result = origin.result
    assert "failed" not in result, result
    stored = s3.get_object(Bucket=bucket, Key="from a page")
    assert stored["Body"].read() == b"written by a browser"
    assert result["put"] == {"status": 200, "etag": stored["ETag"], "text": ""}
    assert result["keys"] == ["from a page"]
    assert (result["got"]["status"], result["got"]["text"]) == (200, "written by a browser")
    assert result["removed"] == "TypeError", "no rule allows DELETE: the browser does not even ask"
