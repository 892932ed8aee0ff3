//! What the end-to-end tests share.
//!
//! [`tree`] makes throwaway Debian machines, [`lab`] boots whole ones. The other modules run the real
//! programs on this machine, each in a folder of its own: [`server`] the
//! platform, [`agent`] a host, [`fake_server`] a platform that says what a
//! test wants said, [`bundle`] sub-agents around the program in `bin/child.rs`,
//! [`native`] the same as rpm and deb, [`own_package`] packages of BootAgent itself, [`ftp`] a real vsftpd,
//! [`haproxy`] a real HAProxy as we configure it,
//! [`minisign`] its signatures, [`disk`] a disk that can be full. The tests themselves are one file per
//! promise in `tests/`. The rule: everything a test starts ends with it.

pub mod agent;
pub mod binaries;
pub mod bundle;
pub mod control_group;
pub mod disk;
pub mod fake_server;
pub mod ftp;
pub mod haproxy;
pub mod http;
pub mod lab;
pub mod minisign;
pub mod native;
pub mod own_package;
pub mod process;
pub mod server;
pub mod tree;
pub mod wait;
