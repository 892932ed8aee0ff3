//! The manifest of a sub-agent.
#![no_main]

use bootagent_protocol::Manifest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(manifest) = Manifest::parse(data) else {
        return;
    };
    // Its name becomes a path, its words the argv of a process.
    let name = manifest.name.as_str();
    assert!(!name.contains(['/', '.', '\0']) && !name.is_empty());
    assert!(!manifest.version.as_str().contains(['/', '\0']));
    for argv in [Some(&manifest.exec), manifest.check.as_ref()]
        .into_iter()
        .flatten()
    {
        assert!(!argv.is_empty() && argv.iter().all(|word| !word.contains('\0')));
    }
    let written = serde_json::to_vec(&manifest).expect("keys are strings");
    // Escapes may make it longer than a manifest may be.
    if let Ok(again) = Manifest::parse(&written) {
        assert!(again == manifest);
    } else {
        assert!(written.len() > data.len(), "valid once, not twice");
    }
});
