// MinIO's client for JavaScript. Arguments: address, bucket, a large file to read.
"use strict";
const assert = require("node:assert/strict");
const fs = require("node:fs");
const Minio = require("minio");

async function bytesOf(stream) {
  return Buffer.concat(await stream.toArray());
}

async function main([endpoint, bucket, large]) {
  const { hostname, port } = new URL(endpoint);
  const { AWS_ACCESS_KEY_ID: accessKey, AWS_SECRET_ACCESS_KEY: secretKey } = process.env;
  const minio = new Minio.Client({ endPoint: hostname, port: Number(port), useSSL: false, accessKey, secretKey });

  const other = `${bucket}-minio`;
  await minio.makeBucket(other); // it asks for the bucket's region first
  assert.ok(await minio.bucketExists(other));
  assert.ok((await minio.listBuckets()).some(({ name }) => name === other));

  await minio.putObject(other, "a b/ü", "hello", 5, { "Content-Type": "text/plain", "X-Amz-Meta-Who": "me" });
  assert.equal((await bytesOf(await minio.getObject(other, "a b/ü"))).toString(), "hello");
  const about = await minio.statObject(other, "a b/ü");
  assert.equal(about.size, 5);
  assert.equal(about.metaData.who, "me");

  await minio.fPutObject(other, "large", large); // in parts
  assert.ok((await bytesOf(await minio.getObject(other, "large"))).equals(fs.readFileSync(large)));
  const part = await bytesOf(await minio.getPartialObject(other, "large", 6_000_000, 10));
  assert.ok(part.equals(fs.readFileSync(large).subarray(6_000_000, 6_000_010)));
  await minio.copyObject(other, "copy", `/${other}/large`);

  const listed = await minio.listObjectsV2(other, "", true).toArray();
  assert.deepEqual(listed.map(({ name }) => name), ["a b/ü", "copy", "large"]);

  const address = await minio.presignedGetObject(other, "a b/ü", 60);
  assert.equal(await (await fetch(address)).text(), "hello");
  const policy = minio.newPostPolicy();
  policy.setBucket(other);
  policy.setKey("posted");
  policy.setExpires(new Date(Date.now() + 60_000));
  const { postURL, formData } = await minio.presignedPostPolicy(policy);
  const form = new FormData();
  Object.entries(formData).forEach(([name, value]) => form.append(name, value));
  form.append("file", new Blob(["by a form"]));
  assert.equal((await fetch(postURL, { method: "POST", body: form })).status, 204);
  assert.equal((await bytesOf(await minio.getObject(other, "posted"))).toString(), "by a form");

  await minio.removeObjects(other, ["a b/ü", "copy", "large", "posted"]);
  assert.deepEqual(await minio.listObjectsV2(other, "", true).toArray(), []);
  await minio.removeBucket(other);
}

main(process.argv.slice(2));
