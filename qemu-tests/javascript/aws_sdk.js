// The AWS SDK for JavaScript, version 3, as an application uses it. Arguments: address, bucket, a large file to read.
"use strict";
const assert = require("node:assert/strict");
const fs = require("node:fs");
const {
  S3Client, CopyObjectCommand, DeleteObjectsCommand, GetObjectCommand, HeadObjectCommand, PutObjectCommand, PutObjectTaggingCommand,
  GetObjectTaggingCommand, paginateListObjectsV2,
} = require("@aws-sdk/client-s3");
const { Upload } = require("@aws-sdk/lib-storage");
const { getSignedUrl } = require("@aws-sdk/s3-request-presigner");

async function main([endpoint, Bucket, large]) {
  const s3 = new S3Client({ endpoint, region: process.env.AWS_DEFAULT_REGION, forcePathStyle: true, maxAttempts: 1 });

  const Key = "a b/ü + 日本.txt";
  const put = await s3.send(new PutObjectCommand({ Bucket, Key, Body: "hello", ContentType: "text/plain", Metadata: { who: "me" } }));
  assert.ok(put.ChecksumCRC32, "today's default checksum was sent and stored");
  const got = await s3.send(new GetObjectCommand({ Bucket, Key }));
  assert.equal(await got.Body.transformToString(), "hello"); // it checks the checksum on the way
  assert.equal(got.Metadata.who, "me");
  const part = await s3.send(new GetObjectCommand({ Bucket, Key, Range: "bytes=1-3" }));
  assert.equal(await part.Body.transformToString(), "ell");

  // A stream of unknown length goes up in parts.
  const upload = new Upload({ client: s3, params: { Bucket, Key: "large", Body: fs.createReadStream(large) }, partSize: 5 << 20 });
  await upload.done();
  const back = await s3.send(new GetObjectCommand({ Bucket, Key: "large" }));
  assert.ok(Buffer.from(await back.Body.transformToByteArray()).equals(fs.readFileSync(large)));

  await s3.send(new CopyObjectCommand({ Bucket, Key: "copy", CopySource: encodeURIComponent(`${Bucket}/${Key}`) }));
  await s3.send(new PutObjectTaggingCommand({ Bucket, Key: "copy", Tagging: { TagSet: [{ Key: "k", Value: "v" }] } }));
  const tags = await s3.send(new GetObjectTaggingCommand({ Bucket, Key: "copy" }));
  assert.deepEqual(tags.TagSet, [{ Key: "k", Value: "v" }]);

  const keys = [];
  for await (const page of paginateListObjectsV2({ client: s3, pageSize: 2 }, { Bucket })) {
    keys.push(...(page.Contents ?? []).map((object) => object.Key));
  }
  assert.deepEqual(keys, [Key, "copy", "large"]);

  const forReading = await getSignedUrl(s3, new GetObjectCommand({ Bucket, Key }), { expiresIn: 60 });
  assert.equal(await (await fetch(forReading)).text(), "hello");
  const forWriting = await getSignedUrl(s3, new PutObjectCommand({ Bucket, Key: "presigned" }), { expiresIn: 60 });
  assert.equal((await fetch(forWriting, { method: "PUT", body: "by fetch" })).status, 200);
  assert.equal((await s3.send(new HeadObjectCommand({ Bucket, Key: "presigned" }))).ContentLength, 8);

  const absent = s3.send(new PutObjectCommand({ Bucket, Key, Body: "x", IfNoneMatch: "*" }));
  await assert.rejects(absent, { name: "PreconditionFailed" });
  await assert.rejects(s3.send(new GetObjectCommand({ Bucket, Key: "absent" })), { name: "NoSuchKey" });

  const Objects = [...keys, "presigned"].map((Key) => ({ Key }));
  const deleted = await s3.send(new DeleteObjectsCommand({ Bucket, Delete: { Objects } }));
  assert.equal(deleted.Deleted.length, 4);
}

main(process.argv.slice(2));
