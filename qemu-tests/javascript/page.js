// A page in a browser that signs its own requests by `aws4` and speaks to the store of another origin, as CORS allows it.
// What happened goes to the page's own server, as the body of a POST to /result.
const aws4 = require("aws4");

const { endpoint, bucket, accessKeyId, secretAccessKey, region } = Object.fromEntries(new URLSearchParams(location.search));

async function s3(method, path, body) {
  const { host } = new URL(endpoint);
  const asked = { service: "s3", region, method, host, path, body, headers: { "X-Amz-Content-Sha256": "UNSIGNED-PAYLOAD" } };
  const { Host, "Content-Length": _, ...headers } = aws4.sign(asked, { accessKeyId, secretAccessKey }).headers; // the browser says these two
  const answer = await fetch(endpoint + path, { method, headers, body });
  return { status: answer.status, etag: answer.headers.get("etag"), text: await answer.text() };
}

async function main() {
  const put = await s3("PUT", `/${bucket}/from%20a%20page`, "written by a browser");
  const listed = await s3("GET", `/${bucket}?list-type=2`);
  const keys = new DOMParser().parseFromString(listed.text, "text/xml").getElementsByTagName("Key");
  const got = await s3("GET", `/${bucket}/from%20a%20page`);
  const removed = await s3("DELETE", `/${bucket}/not%20allowed`).then((answer) => answer.status, (error) => error.name);
  return { put, keys: [...keys].map((key) => key.textContent), got, removed };
}

main()
  .catch((error) => ({ failed: String(error) }))
  .then((result) => fetch("/result", { method: "POST", body: JSON.stringify(result) }));
