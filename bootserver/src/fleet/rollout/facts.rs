//! What is known of a target under way, and the state that follows from it.
//!
//! The one rule: facts are as they are now, not what happened in which order, so
//! whoever looks at them twice finds nothing new the second time.

use bootagent_protocol::ErrorCode;

use super::target::{Happened, Installed, JobEnd, News, TargetState, after, is_crash_loop};

/// How a target's host stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostStanding {
    /// It may push.
    Here,
    /// It has not for a while.
    Offline,
    /// It was revoked or deleted.
    Gone,
}

/// What is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts<'a> {
    /// Whether its job was in a reply to its host.
    pub is_sent: bool,
    /// How its job ended, if it did.
    pub end: Option<JobEnd>,
    /// Its host.
    pub host: HostStanding,
    /// What its job installed, in which version, if it did.
    pub installed: Option<(&'a str, &'a str)>,
    /// Ends of children that are new.
    pub events: Vec<Happened<'a>>,
}

/// Where a target stands by what is known:
/// 1. it is sent before it ends;
/// 2. what was withdrawn because its host left is of a host that left;
/// 3. what was not sent to a host that is offline is taken back;
/// 4. a success may prove to be a crash-loop.
pub fn stands(state: TargetState, facts: &Facts<'_>) -> TargetState {
    let is_gone = facts.host == HostStanding::Gone;
    let mut now = state;
    let mut hear = |news| now = after(now, news).unwrap_or(now);
    if facts.is_sent {
        hear(News::Sent);
    }
    match facts.end {
        Some(end) if is_gone && end.errcode == ErrorCode::CANCELLED => hear(News::HostGone),
        Some(end) => hear(News::Result(end)),
        None if is_gone => hear(News::HostGone),
        None if facts.host == HostStanding::Offline && !facts.is_sent => hear(News::Recalled),
        None => {}
    }
    // One that goes on waiting, because its window closed, does so for ever.
    if is_gone {
        hear(News::HostGone);
    }
    let since = facts.end.map(|end| end.at);
    if let (Some((name, version)), Some(since)) = (facts.installed, since) {
        let installed = Installed {
            name,
            version,
            since,
        };
        if facts.events.iter().any(|it| is_crash_loop(installed, *it)) {
            hear(News::CrashLoop);
        }
    }
    now
}

#[cfg(test)]
mod tests {
    use super::*;
    use TargetState::{
        Cancelled, CrashLooped, Lost, Ordered, Running, Skipped, Succeeded, Waiting,
    };

    const NOTHING: Facts<'_> = Facts {
        is_sent: false,
        end: None,
        host: HostStanding::Here,
        installed: None,
        events: Vec::new(),
    };

    fn end(code: ErrorCode) -> Option<JobEnd> {
        Some(JobEnd {
            errcode: code,
            at: 10,
            begin_before: 100,
            expires: 100,
        })
    }

    #[test]
    fn a_target_goes_where_its_job_is() {
        assert_eq!(stands(Ordered, &NOTHING), Ordered);
        let sent = Facts {
            is_sent: true,
            ..NOTHING
        };
        assert_eq!(stands(Ordered, &sent), Running);
        let ended = Facts {
            end: end(ErrorCode::SUCCESS),
            ..sent
        };
        assert_eq!(stands(Ordered, &ended), Succeeded);
        assert_eq!(stands(Succeeded, &ended), Succeeded);
        assert_eq!(stands(Lost, &ended), Succeeded);
    }

    #[test]
    fn a_host_that_left_or_is_offline_gives_its_place_free() {
        let gone = Facts {
            host: HostStanding::Gone,
            ..NOTHING
        };
        assert_eq!(stands(Waiting, &gone), Skipped);
        let withdrawn = Facts {
            end: end(ErrorCode::CANCELLED),
            ..gone.clone()
        };
        assert_eq!(stands(Ordered, &withdrawn), Skipped);
        let was_sent = Facts {
            is_sent: true,
            ..withdrawn
        };
        assert_eq!(stands(Running, &was_sent), Lost);
        let by_operator = Facts {
            end: end(ErrorCode::CANCELLED),
            ..NOTHING
        };
        assert_eq!(stands(Ordered, &by_operator), Cancelled);
        let offline = Facts {
            host: HostStanding::Offline,
            ..NOTHING
        };
        assert_eq!(stands(Ordered, &offline), Waiting);
        let silent = Facts {
            is_sent: true,
            ..offline
        };
        assert_eq!(stands(Ordered, &silent), Running);
    }

    #[test]
    fn a_crash_soon_after_success_is_a_failure() {
        let crash = Happened {
            category: "crash",
            subject: "flux",
            version: Some("2"),
            received: 20,
        };
        let facts = Facts {
            is_sent: true,
            end: end(ErrorCode::SUCCESS),
            installed: Some(("flux", "2")),
            events: vec![crash],
            ..NOTHING
        };
        assert_eq!(stands(Running, &facts), CrashLooped);
        let with_result = Facts {
            events: vec![Happened {
                received: 10,
                ..crash
            }],
            ..facts
        };
        assert_eq!(stands(Running, &with_result), Succeeded);
    }
}
