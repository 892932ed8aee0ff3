//! What becomes of one target: a host in a rollout.

use bootagent_protocol::ErrorCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How long after its success a child that ends abnormally counts as one that
/// does not stay up, in milliseconds: what BootAgent calls an anomaly.
pub const CRASH_LOOP_MILLIS: i64 = 900_000;
/// The categories of events that say so.
const ABNORMAL_ENDS: [&str; 3] = ["crash", "killed", "fatal"];

/// Where a target stands.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum TargetState {
    /// Nothing is ordered.
    Waiting,
    /// Its job waits for the host's next status.
    Ordered,
    /// The host was given the job.
    Running,
    /// Done.
    Succeeded,
    /// Ended with an error code.
    Failed,
    /// Ended with one that says that time ran out.
    TimedOut,
    /// The new version did not stay up, and the one before is back.
    RolledBack,
    /// It succeeded, and the child did not stay up after all.
    CrashLooped,
    /// Nobody knows how it ended.
    Lost,
    /// It did not begin in time.
    Expired,
    /// Its job was withdrawn.
    Cancelled,
    /// Nothing was ordered of it, and nothing will be.
    Skipped,
}

impl TargetState {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Waiting,
        Self::Ordered,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::TimedOut,
        Self::RolledBack,
        Self::CrashLooped,
        Self::Lost,
        Self::Expired,
        Self::Cancelled,
        Self::Skipped,
    ];

    /// The word in the API and in the store.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Ordered => "ordered",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::RolledBack => "rolled_back",
            Self::CrashLooped => "crash_looped",
            Self::Lost => "lost",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
        }
    }

    /// The state a word means.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }

    /// Whether its host may have something else than before: a job that failed may have
    /// changed something, and one that is lost, too.
    pub const fn may_have_changed(self) -> bool {
        match self {
            Self::Running
            | Self::Succeeded
            | Self::Failed
            | Self::TimedOut
            | Self::CrashLooped
            | Self::Lost => true,
            Self::Waiting
            | Self::Ordered
            | Self::RolledBack
            | Self::Expired
            | Self::Cancelled
            | Self::Skipped => false,
        }
    }

    /// Whether it has not ended.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Waiting | Self::Ordered | Self::Running)
    }
}

/// What is heard of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// A job was made.
    Ordered,
    /// The job is in a reply to its host.
    Sent,
    /// The job was taken back before it was in one.
    Recalled,
    /// The job has its result.
    Result(JobEnd),
    /// The child did not stay up, as [`is_crash_loop`] says.
    CrashLoop,
    /// The rollout does not wait for its host any longer.
    GivenUp,
    /// Its host left the fleet.
    HostGone,
    /// The rollout ended, or another one took the host, before it was ordered.
    Passed,
    /// The rollout expired before it was ordered.
    Expired,
}

/// A result, with the times that say what it means. In milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobEnd {
    /// How the job ended.
    pub errcode: ErrorCode,
    /// When that was known.
    pub at: i64,
    /// When the job expired: with the rollout, or with its window.
    pub begin_before: i64,
    /// When the rollout expires.
    pub expires: i64,
}

/// The state after some news; none when it says nothing new. What came late is
/// true nevertheless: who was given up may still succeed.
pub fn after(state: TargetState, news: News) -> Option<TargetState> {
    use TargetState::{CrashLooped, Expired, Lost, Ordered, Running, Skipped, Succeeded, Waiting};
    match (state, news) {
        (Waiting, News::Ordered) => Some(Ordered),
        (Ordered, News::Sent) => Some(Running),
        (Ordered, News::Recalled) => Some(Waiting),
        // A result says that it was sent, whoever missed that.
        (Ordered | Running, News::Result(end)) => Some(ended(end)),
        (Lost, News::Result(end)) => Some(outcome(end.errcode)).filter(|state| *state != Lost),
        (Succeeded, News::CrashLoop) => Some(CrashLooped),
        (Ordered | Running, News::GivenUp) => Some(Lost),
        (Waiting | Ordered, News::HostGone | News::Passed) => Some(Skipped),
        // It may have done it before it left.
        (Running, News::HostGone) => Some(Lost),
        (Waiting, News::Expired) => Some(Expired),
        _ => None,
    }
}

/// What a result makes of a target that was under way. One that came to nothing
/// because its window closed has another chance. One that its host calls expired
/// while it was not has none: such a host has the wrong time, and would say so
/// for ever.
fn ended(end: JobEnd) -> TargetState {
    let is_window_over = end.begin_before <= end.at && end.at < end.expires;
    match outcome(end.errcode) {
        TargetState::Expired if is_window_over => TargetState::Waiting,
        state => state,
    }
}

/// What an error code means for its target.
pub fn outcome(errcode: ErrorCode) -> TargetState {
    match errcode {
        ErrorCode::SUCCESS => TargetState::Succeeded,
        ErrorCode::EXPIRED => TargetState::Expired,
        ErrorCode::CANCELLED => TargetState::Cancelled,
        ErrorCode::LOST | ErrorCode::RESTORED | ErrorCode::RUN_LOST => TargetState::Lost,
        ErrorCode::ROLLED_BACK => TargetState::RolledBack,
        ErrorCode::DOWNLOAD_TIMED_OUT
        | ErrorCode::INSTALLER_TIMED_OUT
        | ErrorCode::SCRIPT_TIMED_OUT => TargetState::TimedOut,
        _ => TargetState::Failed,
    }
}

/// What a rollout put on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Installed<'a> {
    /// The agent.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
    /// When its success arrived, in milliseconds.
    pub since: i64,
}

/// An event of the same host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Happened<'a> {
    /// What kind of thing.
    pub category: &'a str,
    /// The agent it happened to.
    pub subject: &'a str,
    /// That one's version then.
    pub version: Option<&'a str>,
    /// When it arrived, in milliseconds.
    pub received: i64,
}

/// Whether this kind of event is the end of a child that nobody wanted.
pub fn is_abnormal_end(category: &str) -> bool {
    ABNORMAL_ENDS.contains(&category)
}

/// Whether an event says that what was installed does not stay up:
/// 1. it is an abnormal end of that agent in that version;
/// 2. it came after the success, and within 15 min of it. One that came along
///    with the result is older than it: a new version that ends while it is
///    watched is taken back and no success.
pub fn is_crash_loop(installed: Installed<'_>, event: Happened<'_>) -> bool {
    let is_its_end = is_abnormal_end(event.category)
        && event.subject == installed.name
        && event.version == Some(installed.version);
    let age = event.received.saturating_sub(installed.since);
    is_its_end && age > 0 && age <= CRASH_LOOP_MILLIS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(state: TargetState, code: u16, at: i64) -> Option<TargetState> {
        let end = JobEnd {
            errcode: ErrorCode(code),
            at,
            begin_before: 100,
            expires: 1000,
        };
        after(state, News::Result(end))
    }

    #[test]
    fn a_result_ends_a_target_by_its_code() {
        let check = |code| result(TargetState::Running, code, 50);
        assert_eq!(check(0), Some(TargetState::Succeeded));
        assert_eq!(check(3001), Some(TargetState::Failed));
        assert_eq!(check(9999), Some(TargetState::Failed));
        assert_eq!(check(4002), Some(TargetState::TimedOut));
        assert_eq!(check(4006), Some(TargetState::RolledBack));
        assert_eq!(check(1006), Some(TargetState::Cancelled));
        assert_eq!(check(1007), Some(TargetState::Lost));
        assert_eq!(check(1008), Some(TargetState::Lost));
    }

    #[test]
    fn who_missed_the_window_waits_for_the_next_but_a_wrong_clock_does_not() {
        let check = |at| result(TargetState::Running, 1005, at);
        assert_eq!(check(100), Some(TargetState::Waiting));
        assert_eq!(check(99), Some(TargetState::Expired), "its clock is ahead");
        assert_eq!(check(1000), Some(TargetState::Expired), "all is over");
        assert_eq!(
            result(TargetState::Ordered, 1005, 500),
            Some(TargetState::Waiting)
        );
    }

    #[test]
    fn a_late_result_corrects_what_was_lost_and_nothing_else() {
        assert_eq!(
            result(TargetState::Lost, 0, 5000),
            Some(TargetState::Succeeded)
        );
        assert_eq!(
            result(TargetState::Lost, 1005, 500),
            Some(TargetState::Expired)
        );
        assert_eq!(result(TargetState::Lost, 1008, 5000), None);
        for ended in [
            TargetState::Succeeded,
            TargetState::Failed,
            TargetState::Skipped,
        ] {
            assert_eq!(result(ended, 5001, 50), None, "{ended:?}");
        }
    }

    #[test]
    fn only_what_was_sent_may_have_changed_a_host_and_one_that_rolled_back_has_not() {
        let changed = TargetState::ALL.into_iter();
        let changed: Vec<_> = changed.filter(|state| state.may_have_changed()).collect();
        use TargetState::{CrashLooped, Failed, Lost, Running, Succeeded, TimedOut};
        assert_eq!(
            changed,
            [Running, Succeeded, Failed, TimedOut, CrashLooped, Lost]
        );
    }

    #[test]
    fn what_was_sent_is_not_recalled() {
        assert_eq!(
            after(TargetState::Ordered, News::Recalled),
            Some(TargetState::Waiting)
        );
        assert_eq!(after(TargetState::Running, News::Recalled), None);
        assert_eq!(after(TargetState::Running, News::Passed), None);
        assert_eq!(after(TargetState::Running, News::Expired), None);
    }

    #[test]
    fn a_host_that_leaves_ends_its_target() {
        for (state, then) in [
            (TargetState::Waiting, Some(TargetState::Skipped)),
            (TargetState::Ordered, Some(TargetState::Skipped)),
            (TargetState::Running, Some(TargetState::Lost)),
            (TargetState::Succeeded, None),
        ] {
            assert_eq!(after(state, News::HostGone), then);
        }
    }

    #[test]
    fn only_an_end_of_that_version_soon_after_success_is_a_crash_loop() {
        let installed = Installed {
            name: "flux",
            version: "2.0",
            since: 1000,
        };
        let check = |category, subject, version, received| {
            let event = Happened {
                category,
                subject,
                version,
                received,
            };
            is_crash_loop(installed, event)
        };
        let end = 1000 + CRASH_LOOP_MILLIS;
        assert!(check("crash", "flux", Some("2.0"), 1001));
        assert!(check("fatal", "flux", Some("2.0"), end));
        assert!(!check("crash", "flux", Some("2.0"), end + 1), "too late");
        assert!(
            !check("crash", "flux", Some("2.0"), 1000),
            "came with the result"
        );
        assert!(
            !check("crash", "flux", Some("1.0"), 1001),
            "another version"
        );
        assert!(!check("crash", "flux", None, 1001), "no version");
        assert!(!check("crash", "other", Some("2.0"), 1001), "another agent");
        assert!(!check("forks", "flux", Some("2.0"), 1001), "no end");
    }

    #[test]
    fn every_state_reads_back_from_its_word_and_has_its_place() {
        for (place, state) in TargetState::ALL.into_iter().enumerate() {
            assert_eq!(TargetState::parse(state.word()), Some(state));
            assert_eq!(state as usize, place);
        }
    }
}
