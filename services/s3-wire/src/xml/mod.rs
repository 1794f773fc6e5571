//! S3's XML: one struct per answer with `to_xml`, and strict parsers of the documents that requests
//! carry.
//!
//! Answers are written by hand into one string: a listing has thousands of elements, all of known
//! names. Requests are read by quick-xml, within bounds, without document types or entities of
//! their own.

mod attributes;
mod bucket;
mod listing;
mod lock;
mod multipart;
mod object;
pub(crate) mod pull;
mod requests;
mod tagging;
mod versions;

pub use attributes::{GetObjectAttributesResponse, ObjectParts, ObjectPartsPage};
pub use bucket::{BucketEntry, ListBucketsResult, LocationConstraint, VersioningConfiguration};
pub use listing::{EncodingType, ListObjectsResult, ListObjectsV2Result, ListedObject};
pub use lock::{
    LOCK_BYTES_MAX, LegalHold, LockMode, LockSpan, ObjectLockConfiguration, RETENTION_DAYS_MAX,
    RETENTION_YEARS_MAX, Retention,
};
pub use multipart::{
    CompleteMultipartUploadResult, InitiateMultipartUploadResult, ListMultipartUploadsResult,
    ListPartsResult, ListedPart, ListedUpload,
};
pub use object::{CopyObjectResult, CopyPartResult, DeleteError, DeleteResult, Deleted};
pub use requests::{
    COMPLETE_BYTES_MAX, CREATE_BUCKET_BYTES_MAX, CompleteMultipartUpload, CompletedPart,
    CreateBucketConfiguration, DELETE_BYTES_MAX, DELETE_OBJECTS_MAX, DeleteObject, DeleteRequest,
    PARTS_MAX,
};
pub use tagging::{TAGGING_BYTES_MAX, Tagging};
pub use versions::{ListVersionsResult, ListedVersion, ListedVersionObject};

use crate::checksum::Checksum;
use crate::dates::write_iso8601;
use std::fmt::Write;

/// The namespace of all documents but `Error`.
pub const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// Who owns a bucket, an object or an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner<'a> {
    /// An opaque identity.
    pub id: &'a str,
    /// A name for people.
    pub display_name: &'a str,
}

/// A document under construction. Element names are ours and need no escaping; texts are escaped.
#[derive(Debug)]
pub struct Document {
    out: String,
    open: Vec<&'static str>,
}

impl Document {
    /// A document in S3's namespace.
    pub fn new(root: &'static str) -> Document {
        Document::with_capacity(root, 512)
    }

    /// The same with room for `bytes`.
    pub fn with_capacity(root: &'static str, bytes: usize) -> Document {
        let mut document = Document::begin(bytes);
        for part in ["<", root, " xmlns=\"", NAMESPACE, "\">"] {
            document.out.push_str(part);
        }
        document.open.push(root);
        document
    }

    /// A document without a namespace, which only `Error` is.
    pub fn without_namespace(root: &'static str) -> Document {
        let mut document = Document::begin(512);
        document.open(root);
        document
    }

    fn begin(bytes: usize) -> Document {
        let mut out = String::with_capacity(bytes);
        out.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        Document {
            out,
            open: Vec::with_capacity(4),
        }
    }

    /// Opens an element.
    pub fn open(&mut self, name: &'static str) {
        for part in ["<", name, ">"] {
            self.out.push_str(part);
        }
        self.open.push(name);
    }

    /// Opens an element with attributes of ours.
    pub fn open_with(&mut self, name: &'static str, attributes: &'static str) {
        for part in ["<", name, " ", attributes, ">"] {
            self.out.push_str(part);
        }
        self.open.push(name);
    }

    /// Closes the element that was opened last.
    pub fn close(&mut self) {
        if let Some(name) = self.open.pop() {
            for part in ["</", name, ">"] {
                self.out.push_str(part);
            }
        }
    }

    /// Adds text to the open element.
    pub fn content(&mut self, text: &str) {
        escape_into(&mut self.out, text);
    }

    /// An element with text.
    pub fn text(&mut self, name: &'static str, text: &str) {
        self.around(name, |out| escape_into(out, text));
    }

    /// An element with text, when there is one.
    pub fn optional(&mut self, name: &'static str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    /// An element with a number.
    pub fn number(&mut self, name: &'static str, number: u64) {
        // Writing to a string cannot fail.
        self.around(name, |out| _ = write!(out, "{number}"));
    }

    /// An element with `true` or `false`.
    pub fn boolean(&mut self, name: &'static str, value: bool) {
        self.text(name, if value { "true" } else { "false" });
    }

    /// An element with a date, in milliseconds since 1970.
    pub fn date(&mut self, name: &'static str, unix_ms: u64) {
        self.around(name, |out| write_iso8601(out, unix_ms));
    }

    /// An `ETag` element; `etag` comes without quotes and leaves with them.
    pub fn etag(&mut self, etag: &str) {
        self.around("ETag", |out| {
            out.push_str("&quot;");
            escape_into(out, etag);
            out.push_str("&quot;");
        });
    }

    /// The element of a checksum.
    pub fn checksum(&mut self, checksum: &Checksum) {
        self.text(checksum.algorithm().element(), &checksum.to_base64());
    }

    /// An owner, in an element of the given name.
    pub fn owner(&mut self, name: &'static str, owner: &Owner<'_>) {
        self.open(name);
        self.text("ID", owner.id);
        self.text("DisplayName", owner.display_name);
        self.close();
    }

    /// An element with what `content` writes, which must be safe in XML.
    fn around(&mut self, name: &'static str, content: impl FnOnce(&mut String)) {
        for part in ["<", name, ">"] {
            self.out.push_str(part);
        }
        content(&mut self.out);
        for part in ["</", name, ">"] {
            self.out.push_str(part);
        }
    }

    /// Closes what is open and returns the document.
    pub fn finish(mut self) -> String {
        while !self.open.is_empty() {
            self.close();
        }
        self.out
    }
}

/// Appends text with everything escaped that is not safe in an XML text.
///
/// Control characters become character references, as AWS writes them. XML 1.0 allows that only for
/// tab and the line ends; a client that meets others (they can only come from keys) needs
/// `encoding-type=url`, which SDKs ask for by themselves. Replacing them would name an object that
/// does not exist.
fn escape_into(out: &mut String, text: &str) {
    let mut rest = text;
    while let Some(at) = rest
        .bytes()
        .position(|byte| SPECIAL.get(usize::from(byte)) == Some(&true))
    {
        // Special bytes are ASCII or begin a character, so `at` is the beginning of a character.
        let (plain, from) = rest.split_at(at);
        out.push_str(plain);
        let mut characters = from.chars();
        match characters.next() {
            Some('&') => out.push_str("&amp;"),
            Some('<') => out.push_str("&lt;"),
            Some('>') => out.push_str("&gt;"),
            Some('"') => out.push_str("&quot;"),
            Some(other) if other.is_control() || matches!(other, '\u{FFFE}' | '\u{FFFF}') => {
                let _ = write!(out, "&#x{:x};", u32::from(other));
            }
            Some(other) => out.push(other),
            None => {}
        }
        rest = characters.as_str();
    }
    out.push_str(rest);
}

/// For each byte whether it must be looked at: markup, control characters, and the first bytes of
/// U+0080 to U+00BF (the first half of them are control characters) and of U+F000 to U+FFFF (the
/// last two are no characters in XML).
const SPECIAL: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    loop {
        #[allow(clippy::indexing_slicing, reason = "a byte is smaller than 256")]
        {
            table[byte as usize] =
                byte < 32 || matches!(byte, b'&' | b'<' | b'>' | b'"' | 0x7F | 0xC2 | 0xEF);
        }
        if byte == u8::MAX {
            break table;
        }
        byte += 1;
    }
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped() {
        let check = |text: &str, expected: &str| {
            let mut out = String::new();
            escape_into(&mut out, text);
            assert_eq!(out, expected);
        };
        check("plain ü 😀", "plain ü 😀");
        check("<a & \"b\">", "&lt;a &amp; &quot;b&quot;&gt;");
        check("a\r\n\tb\u{1}\u{FFFF}", "a&#xd;&#xa;&#x9;b&#x1;&#xffff;");
        check("'", "'");
        check(
            "\u{7F}\u{85}\u{A0}\u{B5}\u{F000}\u{FEFF}",
            "&#x7f;&#x85;\u{A0}\u{B5}\u{F000}\u{FEFF}",
        );
    }
}
