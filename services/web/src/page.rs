//! Pages of errors, in the form of S3's website endpoint: HTML for people, and headers that say the same to programs.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/CustomErrorDocSupport.html>

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, StatusCode};
use object_http::answer::{self, Answer, AnswerBody, Chunk};
use s3_wire::error::S3Error;
use std::fmt::Write;

/// The page of `error`; `of_page` is why the site's own page for it could not be shown.
pub(crate) fn page(
    error: &S3Error,
    of_page: Option<&S3Error>,
    request_id: &str,
    method: &Method,
) -> Answer {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let html = html(status, error, of_page, request_id);
    let length = html.len();
    let mut answer = answer::empty(status);
    if *method == Method::HEAD {
        answer::set(&mut answer, "content-length", &length.to_string());
    } else {
        *answer.body_mut() = AnswerBody::of(Chunk::Bytes(html.into()));
    }
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, html);
    answer::set(&mut answer, "x-amz-error-code", error.code.as_str());
    answer::set(&mut answer, "x-amz-error-message", &error.message);
    for (name, value) in &error.headers {
        answer::set(&mut answer, name, value);
    }
    answer
}

fn html(
    status: StatusCode,
    error: &S3Error,
    of_page: Option<&S3Error>,
    request_id: &str,
) -> String {
    let title = format!(
        "{} {}",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default()
    );
    let mut html =
        format!("<html>\n<head><title>{title}</title></head>\n<body>\n<h1>{title}</h1>\n<ul>\n");
    list(&mut html, error);
    item(&mut html, "RequestId", request_id);
    html.push_str("</ul>\n");
    if let Some(of_page) = of_page {
        html.push_str("<h3>An Error Occurred While Attempting to Retrieve a Custom Error Document</h3>\n<ul>\n");
        list(&mut html, of_page);
        html.push_str("</ul>\n");
    }
    html.push_str("<hr/>\n</body>\n</html>\n");
    html
}

fn list(html: &mut String, error: &S3Error) {
    item(html, "Code", error.code.as_str());
    item(html, "Message", &error.message);
    for (name, value) in &error.extra {
        item(html, name, value);
    }
}

fn item(html: &mut String, name: &str, value: &str) {
    let _ = writeln!(html, "<li>{name}: {}</li>", escaped(value)); // a String takes everything
}

/// Text that is nothing but text in HTML: what a visitor asked for must not become a part of the page.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use s3_wire::error::ErrorCode;

    #[test]
    fn what_a_visitor_asked_for_never_becomes_html() {
        let error = S3Error::new(ErrorCode::NoSuchKey).and("Key", "<script>alert('&\")</script>");
        let page = html(StatusCode::NOT_FOUND, &error, Some(&error), "R");
        assert!(!page.contains("<script"), "{page}");
        assert!(page.contains("<title>404 Not Found</title>"), "{page}");
        assert!(
            page.contains("<li>Key: &lt;script&gt;alert(&#39;&amp;&quot;)&lt;/script&gt;</li>"),
            "{page}"
        );
    }
}
