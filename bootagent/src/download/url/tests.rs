use super::*;

fn parse(text: &str) -> Url {
    Url::parse(text, None).expect(text)
}

fn server(text: &str) -> Server {
    text.parse().expect("a server")
}

#[test]
fn nothing_secret_is_shown() {
    for text in [
        "ftp://user:hunter2@host:2121/a/b.rpm",
        "https://user:hunter2@host:2121/a/b.rpm?signature=hunter2",
        "http://hunter2@host:2121/a/b.rpm?hunter2#hunter2",
        "http://hunter2@x@host:2121/a/b.rpm",
    ] {
        let url = parse(text);
        for shown in [url.to_string(), format!("{url:?}").replace(&url.path, "")] {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
        assert!(url.to_string().ends_with("://host:2121/a/b.rpm"), "{url}");
    }
    let error = Url::parse("http://user:hunter2@ho st/", None).expect_err("a blank");
    assert!(!error.to_string().contains("hunter2"));
}

#[test]
fn a_login_is_decoded() {
    let login = parse("ftp://us%40er:p%3Aw%20d@host/x")
        .login
        .expect("a login");
    assert_eq!(
        (login.user.expose(), login.password.expose()),
        ("us@er", "p:w d")
    );
    assert!(Url::parse("ftp://a%0d%0aDELE:b@host/x", None).is_err());
}

#[test]
fn a_relative_url_is_at_the_server_that_gave_the_job() {
    let base = server("https://boot.example:8443");
    let url = Url::parse("/packages/a?x=1", Some(&base)).expect("joined");
    assert_eq!(
        url.without_login(),
        "https://boot.example:8443/packages/a?x=1"
    );
    assert!(Url::parse("/packages/a", None).is_err());
    assert!(Url::parse("//elsewhere/a", Some(&base)).is_err());
}

#[test]
fn the_token_goes_to_the_very_server_only() {
    let own = server("https://boot.example");
    for (text, is_own) in [
        ("https://BOOT.example/p", true),
        ("https://boot.example:443/p", true),
        ("http://boot.example/p", false),
        ("https://boot.example:444/p", false),
        ("https://boot.example.evil/p", false),
        ("https://boot.example@evil/p", false),
    ] {
        assert_eq!(parse(text).is_on(&own), is_own, "{text}");
    }
}

#[test]
fn a_redirect_is_read_as_browsers_do() {
    let from = parse("http://u:p@host:8080/a/b?c");
    for (location, to) in [
        ("/x", "http://host:8080/x"),
        ("x", "http://host:8080/a/x"),
        ("?y", "http://host:8080/a/b?y"),
        ("//other/x", "http://other/x"),
        ("https://other/x", "https://other/x"),
    ] {
        let joined = from.join(location).expect(location);
        assert_eq!((joined.without_login().as_str(), joined.login), (to, None));
    }
    assert!(from.join("gopher://x/").is_err());
}

#[test]
fn files_and_paths_are_decoded_once() {
    let path = parse("file:///var/a%20b%2525").file_path().expect("a path");
    assert_eq!(path, PathBuf::from("/var/a b%25"));
    assert_eq!(
        parse("file://localhost/x").file_path().expect("a path"),
        PathBuf::from("/x")
    );
    assert!(Url::parse("file://host/x", None).is_err());
    assert!(parse("ftp://h/a%0aDELE").decoded_path().is_err());
    assert_eq!(
        parse("ftp://h/%2Fetc/x").decoded_path().as_deref(),
        Ok("//etc/x")
    );
    for bad in ["file:///%", "file:///%4", "file:///%zz", "file:///%ff"] {
        assert!(parse(bad).file_path().is_err(), "{bad}");
    }
}

#[test]
fn what_is_no_url_is_refused() {
    let long = format!("http://host/{}", "x".repeat(2048));
    for bad in [
        "",
        "x",
        "http:/host/x",
        "http:///x",
        "http://:80/x",
        "http://h:0/",
        "http://h:x/",
        "http://h:70000/",
        "http://[::1/x",
        "http://[x]/",
        "http://[::1]x/",
        "ssh://h/",
        "http://h\\x/",
        &long,
    ] {
        assert!(Url::parse(bad, None).is_err(), "{bad:?}");
    }
    let url = parse("http://[::1]:8080");
    assert_eq!(
        (url.host.as_str(), url.port, url.path.as_str()),
        ("::1", 8080, "/")
    );
    assert_eq!(url.without_login(), "http://[::1]:8080/");
}
