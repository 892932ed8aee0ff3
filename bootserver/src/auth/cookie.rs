//! The cookie of a session in a browser.
//!
//! Scripts of the page do not see it (HttpOnly), other sites do not send it
//! (SameSite=Strict). Older browsers know neither in full, so a change that
//! comes with a cookie must also carry a header no other site can set.

use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};

use crate::config::Scheme;
use crate::problem::Problem;
use crate::token::Token;

/// The cookie's name.
pub const NAME: &str = "bootserver_session";
/// The header a page sends with each change; its value does not matter.
pub const HEADER: &str = "x-requested-with";
/// What takes the cookie away again.
pub const GONE: &str = "bootserver_session=; Path=/api/v1; HttpOnly; SameSite=Strict; Max-Age=0";

/// The value of Set-Cookie for a session that lasts so many seconds.
pub fn set(token: &Token, scheme: Scheme, seconds: i64) -> String {
    let secure = match scheme {
        Scheme::Https => "; Secure",
        Scheme::Http => "",
    };
    let token = token.expose();
    format!("{NAME}={token}; Path=/api/v1; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}")
}

/// The session's token, if the request has a cookie with one.
pub fn token(headers: &HeaderMap) -> Option<Token> {
    headers
        .get_all(header::COOKIE)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == NAME)
        .and_then(|(_, value)| Token::parse(value))
}

/// Refuses a change that another site made the browser send.
pub fn refuse_forged(parts: &Parts) -> Result<(), Problem> {
    let reads = [Method::GET, Method::HEAD, Method::OPTIONS];
    match reads.contains(&parts.method) || parts.headers.contains_key(HEADER) {
        true => Ok(()),
        false => Err(Problem::forbidden(
            "a change with a session's cookie needs the header X-Requested-With",
        )),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderValue, Request};

    use super::*;
    use crate::token::TokenKind;

    #[test]
    fn the_cookie_that_is_set_is_found_again_among_others() {
        let token = Token::generate(TokenKind::Session);
        let set = set(&token, Scheme::Https, 60);
        assert!(set.contains("; HttpOnly; SameSite=Strict") && set.ends_with("; Secure"));
        let pair = set.split(';').next().expect("a pair");
        let mut headers = HeaderMap::new();
        let text = format!("a=b; {pair}; x{NAME}=no");
        headers.insert(header::COOKIE, HeaderValue::from_str(&text).expect("text"));
        assert!(self::token(&headers) == Some(token));
        assert!(self::token(&HeaderMap::new()).is_none());
    }

    #[test]
    fn without_tls_a_browser_may_send_it_all_the_same() {
        let token = Token::generate(TokenKind::Session);
        assert!(!set(&token, Scheme::Http, 60).contains("Secure"));
    }

    #[test]
    fn a_change_needs_a_header_no_other_site_can_set() {
        let parts = |method: &str, header: Option<&str>| {
            let mut request = Request::builder().method(method);
            if let Some(header) = header {
                request = request.header(header, "console");
            }
            request.body(()).expect("a request").into_parts().0
        };
        assert!(refuse_forged(&parts("GET", None)).is_ok());
        assert!(refuse_forged(&parts("POST", None)).is_err());
        assert!(refuse_forged(&parts("DELETE", Some("Origin"))).is_err());
        assert!(refuse_forged(&parts("POST", Some(HEADER))).is_ok());
    }
}
