//! Documents as AWS's examples have them, what AWS refuses, and where requests are sent.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

use super::*;
use proptest::prelude::*;

fn pages(rules: &str) -> String {
    format!(
        "<WebsiteConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><IndexDocument><Suffix>index.html</Suffix>\
         </IndexDocument><ErrorDocument><Key>404.html</Key></ErrorDocument>{rules}</WebsiteConfiguration>"
    )
}

fn rule(condition: &str, redirect: &str) -> String {
    format!(
        "<RoutingRules><RoutingRule>{condition}<Redirect>{redirect}</Redirect></RoutingRule></RoutingRules>"
    )
}

fn parse(text: &str) -> Result<WebsiteConfiguration, S3Error> {
    WebsiteConfiguration::parse(text.as_bytes())
}

const VISIT: Visit<'_> = Visit {
    host: "site.example:3902",
    protocol: Protocol::Http,
    key: "docs/a b.html",
};

#[test]
fn a_document_comes_back_as_it_was_put() {
    for text in [
        pages(""),
        pages(&rule(
            "<Condition><KeyPrefixEquals>docs/</KeyPrefixEquals><HttpErrorCodeReturnedEquals>404</HttpErrorCodeReturnedEquals></Condition>",
            "<Protocol>https</Protocol><HostName>x.org</HostName><ReplaceKeyPrefixWith>d/</ReplaceKeyPrefixWith><HttpRedirectCode>302</HttpRedirectCode>",
        )),
        pages(&rule("", "<ReplaceKeyWith>gone.html</ReplaceKeyWith>")),
        "<WebsiteConfiguration><RedirectAllRequestsTo><HostName>x.org</HostName></RedirectAllRequestsTo></WebsiteConfiguration>".into(),
    ] {
        let parsed = parse(&text).unwrap();
        assert_eq!(parse(&parsed.to_xml()).unwrap(), parsed, "{text}");
    }
}

#[test]
fn what_aws_refuses_is_refused_by_the_same_code() {
    let check = |text: String, code: ErrorCode| {
        assert_eq!(
            parse(&text).map_err(|error| error.code),
            Err(code),
            "{text}"
        );
    };
    let website = |inner: &str| format!("<WebsiteConfiguration>{inner}</WebsiteConfiguration>");
    let index = |suffix: &str| {
        website(&format!(
            "<IndexDocument><Suffix>{suffix}</Suffix></IndexDocument>"
        ))
    };
    check(website(""), ErrorCode::InvalidArgument);
    check(index(""), ErrorCode::InvalidArgument);
    check(index("a/b"), ErrorCode::InvalidArgument);
    check(website("<IndexDocument/>"), ErrorCode::MalformedXML);
    check(pages("<Else/>"), ErrorCode::MalformedXML);
    let all = "<RedirectAllRequestsTo><HostName>x</HostName></RedirectAllRequestsTo>";
    check(pages(all), ErrorCode::InvalidArgument);
    let host = "<RedirectAllRequestsTo><HostName>x&#13;&#10;Set-Cookie: y</HostName></RedirectAllRequestsTo>";
    check(website(host), ErrorCode::InvalidArgument);
    let redirect = |inner: &str| pages(&rule("", inner));
    check(redirect(""), ErrorCode::MalformedXML);
    check(
        redirect("<Protocol>ftp</Protocol>"),
        ErrorCode::InvalidRequest,
    );
    for code in ["200", "300", "304", "400", "-1", "x"] {
        let inner = format!("<HttpRedirectCode>{code}</HttpRedirectCode>");
        check(redirect(&inner), ErrorCode::InvalidRequest);
    }
    let both = "<ReplaceKeyWith>a</ReplaceKeyWith><ReplaceKeyPrefixWith>b</ReplaceKeyPrefixWith>";
    check(redirect(both), ErrorCode::InvalidRequest);
    check(
        pages(&rule("<Condition></Condition>", "<HostName>x</HostName>")),
        ErrorCode::InvalidRequest,
    );
    let one = "<RoutingRule><Redirect><HostName>x</HostName></Redirect></RoutingRule>";
    let many = |count: usize| {
        pages(&format!(
            "<RoutingRules>{}</RoutingRules>",
            one.repeat(count)
        ))
    };
    assert!(parse(&many(RULES_MAX)).is_ok());
    check(many(RULES_MAX + 1), ErrorCode::InvalidRequest);
}

#[test]
fn the_first_rule_that_fits_sends_elsewhere() {
    let check =
        |condition: &str, redirect: &str, status: Option<u16>, expected: Option<(u16, &str)>| {
            let website = parse(&pages(&rule(condition, redirect))).unwrap();
            let found = match status {
                None => website.before(VISIT),
                Some(status) => website.after(VISIT, status),
            };
            let found = found
                .as_ref()
                .map(|found| (found.code, found.location.as_str()));
            assert_eq!(found, expected, "{condition} {redirect}");
        };
    let docs = "<Condition><KeyPrefixEquals>docs/</KeyPrefixEquals></Condition>";
    let missing =
        "<Condition><HttpErrorCodeReturnedEquals>404</HttpErrorCodeReturnedEquals></Condition>";
    let prefix = "<ReplaceKeyPrefixWith>documents/</ReplaceKeyPrefixWith>";
    check(
        docs,
        prefix,
        None,
        Some((301, "http://site.example:3902/documents/a%20b.html")),
    );
    check(docs, prefix, Some(404), None);
    check(missing, prefix, None, None);
    let https = "<Protocol>https</Protocol><HostName>x.org</HostName><HttpRedirectCode>307</HttpRedirectCode>";
    check(
        missing,
        https,
        Some(404),
        Some((307, "https://x.org/docs/a%20b.html")),
    );
    check(missing, https, Some(403), None);
    let whole = "<ReplaceKeyWith>sorry.html</ReplaceKeyWith>";
    check(
        missing,
        whole,
        Some(404),
        Some((301, "http://site.example:3902/sorry.html")),
    );
    let images = "<Condition><KeyPrefixEquals>images/</KeyPrefixEquals></Condition>";
    check(images, whole, None, None);
}

#[test]
fn a_redirect_of_an_object_is_a_path_or_an_address() {
    for good in ["/", "/a", "http://x", "https://x/y?z"] {
        assert_eq!(check_redirect_location(good), Ok(()), "{good}");
    }
    let long = format!("/{}", "x".repeat(LOCATION_BYTES_MAX));
    for bad in ["", "a", "ftp://x", "javascript:alert(1)", &long] {
        assert_eq!(
            check_redirect_location(bad).map_err(|error| error.code),
            Err(ErrorCode::InvalidRedirectLocation),
            "{bad}"
        );
    }
}

proptest! {
    #[test]
    fn no_document_makes_the_parser_panic_and_what_it_takes_comes_back(
        parts in prop::collection::vec(prop::sample::select(vec![
            "<WebsiteConfiguration>", "</WebsiteConfiguration>", "<IndexDocument>", "<Suffix>", "i.html", "</Suffix>", "</IndexDocument>",
            "<RoutingRules>", "<RoutingRule>", "<Redirect>", "<HostName>", "é&amp;", "</HostName>", "</Redirect>", "</RoutingRule>",
            "</RoutingRules>", "<Condition>", "<KeyPrefixEquals/>", "</Condition>", "404", "]]>", "<!--", "-->", "\u{0}",
        ]), 0..24),
    ) {
        if let Ok(website) = parse(&parts.concat()) {
            prop_assert_eq!(parse(&website.to_xml()).unwrap(), website);
        }
    }

    #[test]
    fn a_location_is_ascii_without_control_characters(key in any::<String>(), new in "[a-z/]{0,9}") {
        let website = parse(&pages(&rule("", &format!("<ReplaceKeyPrefixWith>{new}</ReplaceKeyPrefixWith>")))).unwrap();
        let location = website.before(Visit { host: "h", protocol: Protocol::Https, key: &key }).unwrap().location;
        prop_assert!(location.bytes().all(|byte| byte.is_ascii_graphic()), "{location}");
    }
}
