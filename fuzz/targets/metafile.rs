//! The metafile beside a good previous copy: one of both, and no third identity.
#![no_main]

use std::sync::OnceLock;

use bootagent::metafile::{Metafile, MetafileError, Origin};
use bootagent_kit::fs::previous_path;
use libfuzzer_sys::fuzz_target;

const SN: &str = "0190a0a0-0000-7000-8000-000000000001";

fuzz_target!(|data: &[u8]| {
    static PREPARED: OnceLock<()> = OnceLock::new();
    let path = fuzz::folder().join("metafile.json");
    PREPARED.get_or_init(|| {
        let good = Metafile::first(SN.into(), "a:1".into(), 600);
        std::fs::write(previous_path(&path), good.to_bytes()).expect("writable");
    });
    std::fs::write(&path, data).expect("writable");
    match Metafile::load(&path) {
        Ok((Some(metafile), Origin::Previous(_))) => assert_eq!(metafile.agentsn, SN),
        Ok((Some(metafile), Origin::File)) => {
            assert!(uuid::Uuid::parse_str(&metafile.agentsn).is_ok());
            std::fs::write(&path, metafile.to_bytes()).expect("writable");
            let again = Metafile::load(&path).expect("what we write we read");
            assert!(again == (Some(metafile), Origin::File));
        }
        Ok((found, origin)) => panic!("{origin:?}, there: {}", found.is_some()),
        Err(MetafileError::Newer { .. }) => {}
        Err(error) => panic!("{error}"),
    }
});
