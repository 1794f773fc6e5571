//! Uploads by an HTML form: the parts of `multipart/form-data` as they arrive, and the policy that says what a form may hold.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/RESTObjectPOST.html>, RFC 7578, RFC 2046

mod policy;
mod reader;

pub use crate::sigv4::FormSignature;
pub use policy::PostPolicy;
pub use reader::{Event, FormReader};

use crate::error::{ErrorCode, S3Error};

/// Most bytes of a form without its file (S3: 20 KB).
pub const FIELDS_BYTES_MAX: usize = 20 * 1024;

/// The boundary that `Content-Type` names.
///
/// # Errors
/// `PreconditionFailed` where the body is no form, as AWS answers it; `MalformedPOSTRequest` without a boundary.
pub fn boundary(content_type: &str) -> Result<String, S3Error> {
    let (kind, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        let error = S3Error::new(ErrorCode::PreconditionFailed);
        return Err(error.and(
            "Condition",
            "Bucket POST must be of the enclosure-type multipart/form-data",
        ));
    }
    let named = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("boundary")
            .then_some(value)
    });
    let boundary = named.unwrap_or_default().trim().trim_matches('"');
    // RFC 2046: 1 to 70 characters, of which none is a line end.
    let fine =
        (1..=70).contains(&boundary.len()) && boundary.bytes().all(|b| (b' '..=b'~').contains(&b));
    if !fine {
        return Err(ErrorCode::MalformedPOSTRequest.into());
    }
    Ok(boundary.to_owned())
}

/// The fields of a form, by their names in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// Adds one.
    ///
    /// # Errors
    /// `InvalidArgument` for a field that came already: this server and whoever made the policy could take different ones.
    pub fn add(&mut self, name: &str, value: String) -> Result<(), S3Error> {
        let name = name.to_ascii_lowercase();
        if self.get(&name).is_some() {
            let message = "POST requires exactly one value of each field";
            return Err(S3Error::argument(message, name, value));
        }
        self.0.push((name, value));
        Ok(())
    }

    /// The value of a field.
    pub fn get(&self, lower: &str) -> Option<&str> {
        let mut fields = self.0.iter();
        fields
            .find(|(name, _)| name == lower)
            .map(|(_, value)| value.as_str())
    }

    /// All of them, in the order of arrival.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The key, with the name of the file in the place of `${filename}`.
    ///
    /// # Errors
    /// `InvalidArgument` without a key.
    pub fn key(&self, filename: &str) -> Result<String, S3Error> {
        let message = "Bucket POST must contain a field named 'key'.  If it is specified, please check the order of the fields.";
        let key = self
            .get("key")
            .ok_or_else(|| S3Error::argument(message, "key", ""))?;
        // Some browsers tell the whole path.
        let name = filename.rsplit(['/', '\\']).next().unwrap_or_default();
        Ok(key.replace("${filename}", name))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails may panic")]
    use super::*;

    #[test]
    fn boundaries_are_found_or_refused() {
        assert_eq!(
            boundary("multipart/form-data; boundary=abc").unwrap(),
            "abc"
        );
        assert_eq!(
            boundary("Multipart/Form-Data; charset=x; Boundary=\"a b\"").unwrap(),
            "a b"
        );
        assert_eq!(
            boundary("text/plain").unwrap_err().code,
            ErrorCode::PreconditionFailed
        );
        assert_eq!(
            boundary("multipart/form-data").unwrap_err().code,
            ErrorCode::MalformedPOSTRequest
        );
        let long = format!("multipart/form-data; boundary={}", "x".repeat(71));
        assert!(boundary(&long).is_err());
    }

    #[test]
    fn the_key_takes_the_name_of_the_file() {
        let mut fields = Fields::default();
        assert!(fields.key("x").is_err());
        fields.add("Key", "user/${filename}".into()).unwrap();
        assert_eq!(fields.key("C:\\dir\\a.txt").unwrap(), "user/a.txt");
        assert_eq!(fields.key("../../a.txt").unwrap(), "user/a.txt");
        assert_eq!(
            fields.add("kEY", "x".into()).unwrap_err().code,
            ErrorCode::InvalidArgument
        );
    }
}
