//! `api`: any call, and its answer as it came.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use super::super::client::{Ask, Client, Content};
use super::super::failure::Failure;
use super::super::words::Said;
use super::body_text;

/// What we say ourselves: of the connection and of the body.
const OURS: [HeaderName; 8] = [
    header::HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::EXPECT,
];

pub(crate) fn api(client: &Client, said: &Said) -> Result<(), Failure> {
    let path = &said.operands[1];
    if !path.starts_with('/') {
        return Err(Failure::Usage("PATH: /api/v1/hosts, for example".into()));
    }
    let headers = headers(&said.all("header"))?;
    let content = match said.option("data") {
        Some(text) => Content::Json(body_text(text)?),
        None => Content::Nothing,
    };
    let method = said.operands[0].to_uppercase();
    client.pass(&Ask::raw(&method, path, &content, headers))
}

/// Reads `NAME:VALUE`. A value is never repeated: it may be a secret.
fn headers(texts: &[&str]) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    for text in texts {
        let (name, value) = text.split_once(':').unwrap_or_default();
        let parsed = name.trim().parse::<HeaderName>().ok();
        let (Some(name), Ok(value)) = (parsed, HeaderValue::from_str(value.trim())) else {
            let text = format!("--header {name:?}: NAME:VALUE is expected, in ASCII");
            return Err(Failure::Usage(text));
        };
        if [
            header::AUTHORIZATION,
            header::COOKIE,
            header::PROXY_AUTHORIZATION,
        ]
        .contains(&name)
        {
            let text = "--header: a token in a command line can be read by everybody; --token-file";
            return Err(Failure::Usage(text.into()));
        }
        if OURS.contains(&name) {
            let text = format!("--header {name}: it is said as the connection wants it");
            return Err(Failure::Usage(text));
        }
        headers.append(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_a_name_and_a_value_and_none_that_steers_the_connection_or_tells_a_secret() {
        let read = headers(&["If-Match: \"3\"", "accept:text/plain", "x-empty:"]).expect("headers");
        assert_eq!(read["if-match"], "\"3\"");
        assert_eq!(read["accept"], "text/plain");
        assert_eq!(read["x-empty"], "");
        for (text, word) in [
            ("Authorization: Bearer geheim", "--token-file"),
            ("cookie:bootserver=geheim", "--token-file"),
            ("Content-Length: 7", "content-length"),
            ("HOST: geheim", "host"),
            ("geheim", "NAME:VALUE"),
            (": geheim", "NAME:VALUE"),
            ("a b: geheim", "NAME:VALUE"),
            ("x: geheim\r\ny: z", "NAME:VALUE"),
        ] {
            let failure = headers(&[text]).expect_err(text).to_string();
            assert!(failure.contains(word), "{text}: {failure}");
            assert!(!failure.contains("geheim"), "{text}: {failure}");
        }
    }
}
