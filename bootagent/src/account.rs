//! Users and groups by name.
//!
//! The local files first: the accounts of agents are local, and a directory
//! service that hangs must not hold up a start. Only a name they do not know
//! is asked of the system's other sources.

use std::ffi::CString;

use nix::unistd::{Gid, Group, User};

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups, the primary one among them.
    pub groups: Vec<u32>,
}

/// The user `name`, with `gid` instead of its own group if that is given.
pub fn user(name: &str, gid: Option<u32>) -> Option<Account> {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let group = std::fs::read_to_string("/etc/group").unwrap_or_default();
    user_in(&passwd, &group, name, gid).or_else(|| {
        let user = User::from_name(name).ok().flatten()?;
        let gid = gid.map_or(user.gid, Gid::from_raw);
        let name = CString::new(name).ok()?;
        let groups = nix::unistd::getgrouplist(&name, gid).unwrap_or_else(|_| vec![gid]);
        let groups = groups.iter().map(|group| group.as_raw()).collect();
        Some(Account {
            uid: user.uid.as_raw(),
            gid: gid.as_raw(),
            groups,
        })
    })
}

/// The id of the group `name`.
pub fn group(name: &str) -> Option<u32> {
    let group = std::fs::read_to_string("/etc/group").unwrap_or_default();
    group_in(&group, name).or_else(|| Some(Group::from_name(name).ok().flatten()?.gid.as_raw()))
}

fn user_in(passwd: &str, group: &str, name: &str, gid: Option<u32>) -> Option<Account> {
    let mut fields = line_of(passwd, name)?.split(':').skip(2);
    let uid = fields.next()?.parse().ok()?;
    let own = fields.next()?.parse().ok()?;
    let gid = gid.unwrap_or(own);
    let mut groups = vec![gid];
    for line in group.lines() {
        let mut fields = line.split(':').skip(2);
        let (Some(id), Some(members)) = (fields.next(), fields.next()) else {
            continue;
        };
        let is_member = members.split(',').any(|member| member == name);
        if let (true, Ok(id)) = (is_member, id.parse())
            && !groups.contains(&id)
        {
            groups.push(id);
        }
    }
    Some(Account { uid, gid, groups })
}

fn group_in(group: &str, name: &str) -> Option<u32> {
    line_of(group, name)?.split(':').nth(2)?.parse().ok()
}

fn line_of<'a>(file: &'a str, name: &str) -> Option<&'a str> {
    file.lines()
        .find(|line| line.split(':').next() == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33:web:/:/bin/false\nbad:x:y\n";
    const GROUP: &str = "root:x:0:\nweb:x:33:\nlog:x:4:web,syslog\ntls:x:99:syslog,web\nodd\n";

    #[test]
    fn a_local_user_has_its_groups_and_may_get_another_primary_one() {
        let web = user_in(PASSWD, GROUP, "web", None).expect("known");
        assert_eq!((web.uid, web.gid, web.groups), (33, 33, vec![33, 4, 99]));
        let moved = user_in(PASSWD, GROUP, "web", Some(4)).expect("known");
        assert_eq!((moved.gid, moved.groups), (4, vec![4, 99]));
    }

    #[test]
    fn an_unknown_or_damaged_line_is_nobody() {
        assert_eq!(user_in(PASSWD, GROUP, "we", None), None);
        assert_eq!(user_in(PASSWD, GROUP, "bad", None), None);
        assert_eq!(group_in(GROUP, "log"), Some(4));
        assert_eq!(group_in(GROUP, "odd"), None);
    }

    #[test]
    fn the_system_agrees_about_root() {
        let root = user("root", None).expect("root exists everywhere");
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(group("root"), Some(0));
        assert_eq!(user("no-such-user", None), None);
    }
}
