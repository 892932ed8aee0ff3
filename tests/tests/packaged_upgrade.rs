//! Promise: an rpm or deb of a sub-agent that fails is put back by the host's
//! package manager, whatever happens meanwhile; one that hangs, waits or finds
//! no room ends the job with its code and holds nothing else up; and where keys
//! are trusted, only what they signed is installed.
//!
//! The machines are those of the packaging tests; the programs in them are
//! those of this build. The one rule: a scenario that cannot run here says
//! `SKIPPED` and why.

#[path = "packaged_upgrade/full.rs"]
mod full;
#[path = "packaged_upgrade/put_back.rs"]
mod put_back;
#[path = "packaged_upgrade/signed.rs"]
mod signed;
#[path = "packaged_upgrade/stage.rs"]
mod stage;
#[path = "packaged_upgrade/waits.rs"]
mod waits;
