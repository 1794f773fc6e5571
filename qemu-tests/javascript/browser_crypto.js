// The two functions of Node's `crypto` that `aws4` uses.
exports.createHash = require("create-hash");
exports.createHmac = require("create-hmac");
