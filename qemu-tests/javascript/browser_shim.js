// What `aws4` takes for granted of Node and a browser has not.
export { Buffer } from "buffer";
export * as process from "process/browser";
