//! CORS: which web pages may ask a bucket from a browser, and the headers that say so.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/ManageCorsUsing.html>, <https://fetch.spec.whatwg.org/#http-cors-protocol>

use super::{once, rules};
use crate::error::{ErrorCode, S3Error};
use crate::xml::Document;
use crate::xml::pull::{Pull, malformed};

/// Most rules of a bucket.
const RULES_MAX: usize = 100;
/// Longest name of a rule, in characters.
const ID_MAX: usize = 255;
/// The methods that a rule may name.
const METHODS: [&str; 5] = ["GET", "PUT", "POST", "DELETE", "HEAD"];
/// What decides over an answer, for caches.
const VARY: &str = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method";

/// The `CORSConfiguration` document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CorsConfiguration {
    /// 1 to 100; the first that fits decides.
    pub rules: Vec<CorsRule>,
}

/// One rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CorsRule {
    /// The user's name for it.
    pub id: Option<String>,
    /// With at most one `*` each.
    pub allowed_origins: Vec<String>,
    /// Of [`METHODS`].
    pub allowed_methods: Vec<String>,
    /// With at most one `*` each; judged for preflights.
    pub allowed_headers: Vec<String>,
    /// What the page may read of an answer.
    pub expose_headers: Vec<String>,
    /// How long a browser may remember a preflight.
    pub max_age_seconds: Option<u32>,
}

/// A preflight's question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preflight<'a> {
    /// `Origin`.
    pub origin: &'a str,
    /// `Access-Control-Request-Method`.
    pub method: &'a str,
    /// `Access-Control-Request-Headers`; empty for none.
    pub headers: &'a str,
}

impl<'a> Preflight<'a> {
    /// From the headers of an OPTIONS request.
    ///
    /// # Errors
    /// `BadRequest` in AWS's words where one is missing.
    pub fn new(
        origin: Option<&'a str>,
        method: Option<&'a str>,
        headers: Option<&'a str>,
    ) -> Result<Self, S3Error> {
        let Some(origin) = origin else {
            let message = "Insufficient information. Origin request header needed.";
            return Err(S3Error::with(ErrorCode::BadRequest, message));
        };
        match method {
            Some(method) if METHODS.contains(&method) => Ok(Self {
                origin,
                method,
                headers: headers.unwrap_or_default(),
            }),
            other => {
                let message = format!(
                    "Invalid Access-Control-Request-Method: {}",
                    other.unwrap_or("null")
                );
                Err(S3Error::with(ErrorCode::BadRequest, message))
            }
        }
    }

    fn header_names(&self) -> impl Iterator<Item = String> + use<'a> {
        let names = self.headers.split(',').map(str::trim);
        names
            .filter(|name| !name.is_empty())
            .map(str::to_ascii_lowercase)
    }
}

impl CorsConfiguration {
    /// Parses a body.
    ///
    /// # Errors
    /// `MalformedXML`; `InvalidRequest` for a method or wildcards that cannot be.
    pub fn parse(body: &[u8]) -> Result<CorsConfiguration, S3Error> {
        let rules = rules(body, "CORSConfiguration", "CORSRule", RULES_MAX, rule)?;
        Ok(CorsConfiguration { rules })
    }

    /// The document.
    pub fn to_xml(&self) -> String {
        let mut document = Document::new("CORSConfiguration");
        for rule in &self.rules {
            document.open("CORSRule");
            document.optional("ID", rule.id.as_deref());
            let lists = [
                ("AllowedHeader", &rule.allowed_headers),
                ("AllowedMethod", &rule.allowed_methods),
                ("AllowedOrigin", &rule.allowed_origins),
                ("ExposeHeader", &rule.expose_headers),
            ];
            for (name, list) in lists {
                list.iter().for_each(|text| document.text(name, text));
            }
            if let Some(seconds) = rule.max_age_seconds {
                document.number("MaxAgeSeconds", u64::from(seconds));
            }
            document.close();
        }
        document.finish()
    }

    /// The headers of the answer to a preflight; `None` if no rule allows it.
    pub fn preflight(&self, asked: &Preflight<'_>) -> Option<Vec<(&'static str, String)>> {
        let allows = |rule: &&CorsRule| {
            rule.origin(asked.origin).is_some()
                && rule.allows_method(asked.method)
                && asked.header_names().all(|name| rule.allows_header(&name))
        };
        let rule = self.rules.iter().find(allows)?;
        let mut headers = rule.headers(asked.origin)?;
        let names: Vec<String> = asked.header_names().collect();
        if !names.is_empty() {
            headers.push(("access-control-allow-headers", names.join(", ")));
        }
        Some(headers)
    }

    /// The headers that any other answer gets; `None` if no rule allows the origin and method.
    pub fn answer(&self, origin: &str, method: &str) -> Option<Vec<(&'static str, String)>> {
        let allows = |rule: &&CorsRule| rule.origin(origin).is_some() && rule.allows_method(method);
        self.rules.iter().find(allows)?.headers(origin)
    }
}

impl CorsRule {
    /// The pattern that allows `origin`.
    fn origin(&self, origin: &str) -> Option<&str> {
        let mut patterns = self.allowed_origins.iter().map(String::as_str);
        patterns.find(|pattern| has_form(pattern, origin))
    }

    fn allows_method(&self, method: &str) -> bool {
        self.allowed_methods.iter().any(|allowed| allowed == method)
    }

    fn allows_header(&self, lower: &str) -> bool {
        let mut patterns = self.allowed_headers.iter();
        patterns.any(|pattern| has_form(&pattern.to_ascii_lowercase(), lower))
    }

    fn headers(&self, origin: &str) -> Option<Vec<(&'static str, String)>> {
        let everybody = self.origin(origin)? == "*";
        let allowed = if everybody { "*" } else { origin };
        let mut headers = vec![
            ("access-control-allow-origin", allowed.to_owned()),
            (
                "access-control-allow-methods",
                self.allowed_methods.join(", "),
            ),
        ];
        if !everybody {
            headers.push(("access-control-allow-credentials", "true".to_owned()));
        }
        if !self.expose_headers.is_empty() {
            let exposed = self.expose_headers.join(", ");
            headers.push(("access-control-expose-headers", exposed));
        }
        if let Some(seconds) = self.max_age_seconds {
            headers.push(("access-control-max-age", seconds.to_string()));
        }
        headers.push(("vary", VARY.to_owned()));
        Some(headers)
    }
}

/// `*` is any text; `?` is itself here.
fn has_form(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some(("", "")) => true,
        Some((start, end)) => {
            text.len() >= start.len() + end.len() && text.starts_with(start) && text.ends_with(end)
        }
    }
}

fn rule(pull: &mut Pull<'_>) -> Result<CorsRule, S3Error> {
    let (mut rule, mut seconds) = (CorsRule::default(), None);
    pull.children(|pull, name| {
        let text = pull.text()?;
        match name {
            "ID" if text.chars().count() <= ID_MAX => once(&mut rule.id, text),
            "AllowedOrigin" => one_wildcard(name, &mut rule.allowed_origins, text),
            "AllowedHeader" => one_wildcard(name, &mut rule.allowed_headers, text),
            "AllowedMethod" if METHODS.contains(&text.as_str()) => {
                rule.allowed_methods.push(text);
                Ok(())
            }
            "AllowedMethod" => Err(S3Error::with(
                ErrorCode::InvalidRequest,
                format!("Found unsupported HTTP method in CORS config. Unsupported method is {text}"),
            )),
            "ExposeHeader" if is_header_name(&text) => {
                rule.expose_headers.push(text);
                Ok(())
            }
            "ExposeHeader" => Err(S3Error::with(
                ErrorCode::InvalidRequest,
                format!("ExposeHeader \"{text}\" contains wildcard. We currently do not support wildcard for ExposeHeader."),
            )),
            "MaxAgeSeconds" => once(&mut seconds, text.trim().parse().map_err(|_| malformed())?),
            _ => Err(malformed()),
        }
    })?;
    rule.max_age_seconds = seconds;
    if rule.allowed_origins.is_empty() || rule.allowed_methods.is_empty() {
        return Err(malformed());
    }
    Ok(rule)
}

fn is_header_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_graphic() && !b"*,;:\"".contains(&b))
}

fn one_wildcard(name: &str, list: &mut Vec<String>, text: String) -> Result<(), S3Error> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(malformed());
    }
    if text.matches('*').count() > 1 {
        let message = format!("{name} \"{text}\" can not have more than one wildcard.");
        return Err(S3Error::with(ErrorCode::InvalidRequest, message));
    }
    list.push(text);
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails may panic")]
    use super::*;
    use crate::policy::matches;
    use proptest::prelude::*;

    const DOCUMENT: &[u8] = b"<CORSConfiguration>\
        <CORSRule><ID>first</ID><AllowedOrigin>https://*.example.com</AllowedOrigin><AllowedMethod>PUT</AllowedMethod>\
        <AllowedMethod>GET</AllowedMethod><AllowedHeader>x-amz-*</AllowedHeader><AllowedHeader>Content-Type</AllowedHeader>\
        <ExposeHeader>ETag</ExposeHeader><MaxAgeSeconds>3000</MaxAgeSeconds></CORSRule>\
        <CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>";

    fn ask(origin: &str, method: &str, headers: &str) -> Option<Vec<(&'static str, String)>> {
        let preflight = Preflight::new(Some(origin), Some(method), Some(headers)).unwrap();
        CorsConfiguration::parse(DOCUMENT)
            .unwrap()
            .preflight(&preflight)
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let headers = ask("https://a.example.com", "PUT", "x-amz-date, CONTENT-TYPE").unwrap();
        assert_eq!(
            headers,
            [
                (
                    "access-control-allow-origin",
                    "https://a.example.com".to_owned()
                ),
                ("access-control-allow-methods", "PUT, GET".to_owned()),
                ("access-control-allow-credentials", "true".to_owned()),
                ("access-control-expose-headers", "ETag".to_owned()),
                ("access-control-max-age", "3000".to_owned()),
                ("vary", VARY.to_owned()),
                (
                    "access-control-allow-headers",
                    "x-amz-date, content-type".to_owned()
                ),
            ]
        );
        let everybody = ask("http://elsewhere", "GET", "").unwrap();
        assert_eq!(everybody.first().unwrap().1, "*");
        assert!(
            !everybody
                .iter()
                .any(|(name, _)| name.ends_with("credentials"))
        );
    }

    #[test]
    fn what_no_rule_allows_is_not_allowed() {
        assert_eq!(ask("http://a.example.com", "PUT", ""), None);
        assert_eq!(ask("https://example.com", "PUT", ""), None);
        assert_eq!(ask("https://a.example.com", "DELETE", ""), None);
        assert_eq!(ask("https://a.example.com", "PUT", "x-other"), None);
        assert_eq!(ask("http://elsewhere", "GET", "x-amz-date"), None);
        assert!(Preflight::new(None, Some("GET"), None).is_err());
        assert!(Preflight::new(Some("a"), Some("PATCH"), None).is_err());
    }

    #[test]
    fn documents_that_cannot_be_are_refused() {
        let code = |rule: &str| {
            let text =
                format!("<CORSConfiguration><CORSRule>{rule}</CORSRule></CORSConfiguration>");
            CorsConfiguration::parse(text.as_bytes()).unwrap_err().code
        };
        assert_eq!(code(""), ErrorCode::MalformedXML);
        assert_eq!(
            code("<AllowedOrigin>*</AllowedOrigin>"),
            ErrorCode::MalformedXML
        );
        let method = "<AllowedMethod>GET</AllowedMethod>";
        assert_eq!(
            code(&format!("{method}<AllowedOrigin>*a*</AllowedOrigin>")),
            ErrorCode::InvalidRequest
        );
        assert_eq!(
            code("<AllowedOrigin>*</AllowedOrigin><AllowedMethod>PATCH</AllowedMethod>"),
            ErrorCode::InvalidRequest
        );
        assert_eq!(
            code(&format!("{method}<AllowedOrigin>a\nb</AllowedOrigin>")),
            ErrorCode::MalformedXML
        );
        let exposed =
            format!("{method}<AllowedOrigin>*</AllowedOrigin><ExposeHeader>x-*</ExposeHeader>");
        assert_eq!(code(&exposed), ErrorCode::InvalidRequest);
        assert!(CorsConfiguration::parse(b"<CORSConfiguration></CORSConfiguration>").is_err());
    }

    #[test]
    fn what_is_written_is_read_again() {
        let parsed = CorsConfiguration::parse(DOCUMENT).unwrap();
        assert_eq!(
            CorsConfiguration::parse(parsed.to_xml().as_bytes()).unwrap(),
            parsed
        );
    }

    proptest! {
        #[test]
        fn a_form_with_one_wildcard_matches_as_patterns_do(pattern in "[ab]{0,3}\\*?[ab]{0,3}", text in "[ab]{0,8}") {
            prop_assert_eq!(has_form(&pattern, &text), matches(&pattern, &text));
        }

        #[test]
        fn no_document_makes_the_reader_panic(text in any::<String>()) {
            let _ = CorsConfiguration::parse(text.as_bytes());
        }
    }
}
