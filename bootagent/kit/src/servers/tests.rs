use super::*;

fn urls(text: &str) -> Vec<String> {
    let list = ServerList::parse(text).expect("a list");
    let again = ServerList::parse(&list.to_string()).expect("its own text");
    assert_eq!(again, list, "Display of {text:?} does not round-trip");
    list.iter().map(Server::base_url).collect()
}

#[test]
fn the_documents_examples_are_read() {
    assert_eq!(
        urls("booter.cargo.com:8080,192.168.9.1:9090"),
        ["http://booter.cargo.com:8080", "http://192.168.9.1:9090"]
    );
    // 002 writes a trailing comma in its config job.
    assert_eq!(urls("192.168.9.1:1234,"), ["http://192.168.9.1:1234"]);
    assert_eq!(
        urls("booter.cargo.com,127.0.0.1:8090"),
        ["http://booter.cargo.com", "http://127.0.0.1:8090"]
    );
}

#[test]
fn schemes_ports_blanks_and_brackets_are_understood() {
    assert_eq!(
        urls(" a , ,https://B , https://c:8443/,http://d:80,[::1]:9,https://[2001:db8::1]"),
        [
            "http://a",
            "https://b",
            "https://c:8443",
            "http://d",
            "http://[::1]:9",
            "https://[2001:db8::1]"
        ]
    );
    assert_eq!(urls(" ,,\t"), Vec::<String>::new());
}

#[test]
fn a_repeated_server_stays_repeated() {
    assert_eq!(urls("a,b,a").len(), 3);
    let list = ServerList::parse("a").expect("a list");
    assert_eq!(list.clone().followed_by(&list).to_string(), "a,a");
}

#[test]
fn a_wrong_entry_is_named_with_what_is_expected() {
    for (text, expected) in [
        ("a,b:0", "1 to 65535"),
        ("b:65536", "1 to 65535"),
        ("b:+80", "1 to 65535"),
        ("b:", "1 to 65535"),
        (":80", "missing"),
        ("ftp://b", "http://"),
        ("b/path", "letters"),
        ("a b", "letters"),
        ("::1", "brackets"),
        ("[::1", "] is missing"),
        ("[x]:1", "IPv6"),
        ("[::1]x", "follow"),
        ("a\0b", "letters"),
        ("https://", "missing"),
    ] {
        let error = ServerList::parse(text).expect_err(text).to_string();
        assert!(error.contains(expected), "{text:?}: {error}");
    }
    let long = "x".repeat(254);
    assert!(ServerList::parse(&long).is_err());
    assert!(ServerList::parse(&long[1..]).is_ok());
    let many = "a,".repeat(MAX_SERVERS + 1);
    assert_eq!(ServerList::parse(&many), Err(ServerListError::TooMany));
}

#[test]
fn a_password_in_an_entry_is_not_repeated_in_the_error() {
    let error = ServerList::parse("http://user:hunter2@host").expect_err("refused");
    assert!(!error.to_string().contains("hunter2"), "{error}");
}
