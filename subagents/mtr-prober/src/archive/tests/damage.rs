//! What crashes and bad disks leave: it is read as far as it is whole, and nothing is made up.

use super::*;

#[test]
fn an_end_torn_anywhere_costs_what_was_not_yet_synced() {
    let state = folder();
    let mut archive = fresh(state.path(), Options::default());
    let (first, second) = (report(START, 1, 0), report(START, 2, 5));
    keep(&mut archive, &first);
    let whole = archive.tail.bytes();
    let waiting = accepted(&second);
    archive
        .commit(&[Write::Accepted(&waiting)], START)
        .expect("written");
    let waits = archive.tail.bytes();
    keep(&mut archive, &second);
    drop(archive);
    let path = state.path().join("reports/2026-11-22/0000000001.seg");
    let bytes = std::fs::read(&path).expect("readable");
    for length in usize::try_from(whole).expect("short")..bytes.len() {
        std::fs::remove_dir_all(state.path().join("reports")).expect("removable");
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("writable");
        std::fs::write(&path, &bytes[..length]).expect("writable");
        let (archive, interrupted) = open(state.path(), Options::default());
        let is_accepted = length as u64 >= waits;
        assert_eq!(
            interrupted.len(),
            usize::from(is_accepted),
            "cut at {length}"
        );
        let kept = |id| archive.lookup(id).expect("readable");
        assert_eq!(kept(&first.id), Lookup::Report(Box::new(first.clone())));
        let second = kept(&second.id);
        match is_accepted {
            true => assert!(matches!(second, Lookup::Report(it) if it.state == State::Interrupted)),
            false => assert_eq!(second, Lookup::Unknown),
        }
        let ends = [whole, waits];
        let end = ends
            .into_iter()
            .rfind(|end| *end <= length as u64)
            .expect("the first");
        assert_eq!(archive.status().kept.torn_bytes, length as u64 - end);
    }
}

#[test]
fn damage_costs_what_it_hit_and_is_counted() {
    let state = folder();
    let mut archive = fresh(state.path(), Options::default());
    let all: Vec<Report> = (0..3).map(|number| report(START, number, 0)).collect();
    all.iter().for_each(|it| keep(&mut archive, it));
    let middle = archive.tail.entries[1].at;
    drop(archive);
    let path = state.path().join("reports/2026-11-22/0000000001.seg");
    let mut bytes = std::fs::read(&path).expect("readable");
    bytes[usize::try_from(middle).expect("short") + 500] ^= 1;
    std::fs::write(&path, bytes).expect("writable");
    let (mut archive, _) = open(state.path(), Options::default());
    let found = |archive: &Archive, it: &Report| archive.lookup(&it.id).expect("readable");
    assert_eq!(found(&archive, &all[1]), Lookup::Unknown);
    assert_eq!(
        found(&archive, &all[2]),
        Lookup::Report(Box::new(all[2].clone()))
    );
    assert_eq!(archive.status().kept.damaged, 1);

    // Of a complete file the index knows what is missing.
    let next = report(START + DAY, 9, 0);
    keep(&mut archive, &next);
    let mut bytes = std::fs::read(&path).expect("readable");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).expect("writable");
    assert_eq!(found(&archive, &all[2]), Lookup::Damaged);
    let uploads = archive.uploads(10).expect("readable");
    let ids: Vec<Uuid> = uploads.iter().map(|it| it.id).collect();
    assert_eq!(ids, [next.id, all[0].id], "it does not stand in the way");
    assert_eq!(archive.status().kept.damaged, 2);
}

#[test]
fn a_lost_or_damaged_index_is_made_again() {
    let state = folder();
    let mut archive = fresh(state.path(), SMALL);
    let all: Vec<Report> = (0..30).map(|number| report(START, number, 0)).collect();
    all.iter().for_each(|it| keep(&mut archive, it));
    drop(archive);
    let folder = state.path().join("reports/2026-11-22");
    std::fs::remove_file(folder.join("0000000001.idx")).expect("there");
    std::fs::write(folder.join("0000000002.idx"), b"nonsense").expect("writable");
    let (archive, _) = open(state.path(), SMALL);
    for it in &all {
        assert!(matches!(
            archive.lookup(&it.id).expect("readable"),
            Lookup::Report(_)
        ));
    }
    assert!(folder.join("0000000001.idx").exists());
}

#[test]
fn a_file_half_forgotten_by_a_crash_is_forgotten() {
    let state = folder();
    let mut archive = fresh(state.path(), SMALL);
    let all: Vec<Report> = (0..12).map(|number| report(START, number, 0)).collect();
    all.iter().for_each(|it| keep(&mut archive, it));
    let first = archive.segments[0].clone();
    drop(archive);
    std::fs::rename(first.path("idx"), first.path(segment::GONE)).expect("there");
    let (archive, _) = open(state.path(), SMALL);
    assert_eq!(archive.lookup(&all[0].id).expect("readable"), Lookup::Gone);
    assert!(!first.path(segment::REPORTS).exists());
}

/// Every file of an archive but its lock.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("readable").flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false if path.ends_with("lock") => {}
            false => found.push(path),
        }
    }
    found.sort();
    found
}

#[test]
fn whatever_is_done_to_its_files_it_opens_goes_on_and_tells_no_lies() {
    let mut chance = Chance(11);
    let mut below = |bound: usize| (chance.share() * bound as f64) as usize;
    for round in 0..60 {
        let state = folder();
        let mut archive = fresh(state.path(), SMALL);
        let all: Vec<Report> = (0..14).map(|number| report(START, number, 0)).collect();
        all.iter().for_each(|it| keep(&mut archive, it));
        let uploaded: Vec<Uuid> = all[..6].iter().map(|it| it.id).collect();
        archive.acknowledge(&uploaded).expect("written");
        archive.keep().expect("written");
        drop(archive);

        let files = files(state.path());
        let path = &files[below(files.len())];
        let mut bytes = std::fs::read(path).expect("readable");
        let at = below(bytes.len());
        match round % 5 {
            0 => bytes[at] ^= 1 << below(8),
            1 => bytes.truncate(at),
            2 => bytes.extend((0..at % 300).map(|it| it as u8)),
            3 => bytes[at..].fill(0),
            _ => {
                let part = bytes[at / 2..at].to_vec();
                bytes.splice(at..at, part);
            }
        }
        std::fs::write(path, bytes).expect("writable");

        let (mut archive, interrupted) = open(state.path(), SMALL);
        assert_eq!(interrupted, [], "round {round}");
        let mut lost = 0;
        for it in &all {
            match archive.lookup(&it.id).expect("readable") {
                Lookup::Report(found) => assert_eq!(*found, *it, "round {round}"),
                Lookup::Unknown | Lookup::Damaged => lost += 1,
                other => panic!("round {round}: {other:?}"),
            }
        }
        // What is cut, zeroed or moved is all that is behind it in one file; else it is what was hit.
        let most = if matches!(round % 5, 0 | 2) { 1 } else { 4 };
        assert!(lost <= most, "round {round}: {lost}");
        let new = report(START + DAY, 99, 0);
        keep(&mut archive, &new);
        assert_eq!(
            archive.lookup(&new.id).expect("readable"),
            Lookup::Report(Box::new(new))
        );
        archive
            .query(&Query {
                limit: 100,
                ..Query::default()
            })
            .expect("readable");
        archive.uploads(100).expect("readable");
    }
}
