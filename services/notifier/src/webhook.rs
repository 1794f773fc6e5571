//! What the settings say of a webhook: whom a request is for, and what stands in its head.

use crate::Error;
use http::HeaderValue;
use http::uri::PathAndQuery;
use protocol::metadata::is_webhook_name;

/// One webhook. Its address is the bus's to know.
pub(crate) struct Webhook {
    /// The operator's name for it.
    pub(crate) name: String,
    /// The header `Host`.
    pub(crate) host: HeaderValue,
    /// What is asked for.
    pub(crate) target: PathAndQuery,
    /// The header `Authorization`, if there is one. Never shown.
    pub(crate) authorization: Option<HeaderValue>,
}

/// The setting `webhooks`: a line `NAME HOST TARGET CREDENTIALS` for each, the last of them `-` where there are none.
///
/// # Errors
/// [`Error::Webhook`] with the number of the first line that is something else.
pub(crate) fn parse(setting: &str) -> Result<Vec<Webhook>, Error> {
    let lines = setting.lines().enumerate();
    lines
        .map(|(at, line)| webhook(line).ok_or(Error::Webhook(at + 1)))
        .collect()
}

fn webhook(line: &str) -> Option<Webhook> {
    let mut words = line.split(' ');
    let name = words.next().filter(|name| is_webhook_name(name))?;
    let (host, target, credentials) = (words.next()?, words.next()?, words.next()?);
    let authorization = match credentials {
        "-" => None,
        credentials => {
            let mut value = HeaderValue::try_from(format!("Basic {credentials}")).ok()?;
            value.set_sensitive(true);
            Some(value)
        }
    };
    words.next().is_none().then_some(Webhook {
        name: name.to_owned(),
        host: HeaderValue::try_from(host).ok()?,
        target: PathAndQuery::try_from(target).ok()?,
        authorization,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::*;

    #[test]
    fn a_line_is_a_webhook_and_a_wrong_one_is_named_without_its_text() {
        let all = parse(
            "a 10.0.0.5:80 /x?y - \nb [::1] / dTpw\n"
                .replace(" \n", "\n")
                .as_str(),
        );
        let all = all.unwrap();
        assert_eq!(
            (all[0].name.as_str(), all[0].target.as_str()),
            ("a", "/x?y")
        );
        assert_eq!(
            (all[1].host.as_bytes(), all[0].authorization.is_none()),
            (&b"[::1]"[..], true)
        );
        assert_eq!(all[1].authorization.as_ref().unwrap(), "Basic dTpw");
        assert!(parse("").unwrap().is_empty());
        for wrong in [
            "",
            "a",
            "a b /",
            "a b / seSame more",
            "a:b h / seSame",
            "a b no\x7fpath seSame",
        ] {
            let error = parse(&format!("a h / -\n{wrong}\n"))
                .err()
                .unwrap()
                .to_string();
            assert!(
                error.contains("line 2") && !error.contains("seSame"),
                "{error}"
            );
        }
    }
}
