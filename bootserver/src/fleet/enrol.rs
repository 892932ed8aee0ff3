//! What comes of a registration: whose identity the host gets.

/// What stands behind the token a registration carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// An enrolment token in force.
    Enrolment {
        /// Its id.
        id: String,
        /// Whether it may bring in another host.
        room: Room,
    },
    /// A host's own secret.
    Host {
        /// The host it belongs to.
        agentsn: String,
    },
}

/// Whether an enrolment token has uses left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// Another host may come.
    Left,
    /// It has brought in all it may.
    UsedUp,
}

/// A host the store knows under the agentsn that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownHost {
    /// The machine it was last registered from, if it said so.
    pub machine_id: Option<String>,
    /// The enrolment token that brought it in.
    pub enrolment: Option<String>,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// A host nobody knows: takes the agentsn it asked for.
    Accept,
    /// The same machine again: keeps its agentsn, gets a new secret.
    Renew,
    /// Another machine has this agentsn: a new one is issued.
    Reissue,
    /// Not with this token.
    Refuse(Refusal),
}

/// Why a registration is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The enrolment token has no uses left.
    UsedUp,
    /// A host's secret opens only its own identity.
    OtherHost,
}

/// Decides a registration:
/// 1. a host's secret speaks only for its own agentsn;
/// 2. the same agentsn from the same machine is a renewal, and uses nothing up,
///    so that a lost reply can be asked for again; but a token that is used
///    up renews only the hosts it brought in;
/// 3. the same agentsn from another machine gets a new agentsn;
/// 4. everything that makes a host needs a token with room.
///
/// A bare 002 agent names no machine: it is the same one while neither side
/// knows better, and a machine_id that appears later is taken as its first.
pub fn decide(credential: &Credential, known: Option<&KnownHost>, asked: Asked<'_>) -> Decision {
    let same_machine = known.map(|host| match (&host.machine_id, asked.machine_id) {
        (Some(stored), Some(given)) => stored == given,
        (Some(_), None) => false,
        (None, _) => true,
    });
    match credential {
        Credential::Host { agentsn } if agentsn != asked.agentsn => {
            Decision::Refuse(Refusal::OtherHost)
        }
        Credential::Host { .. } => match same_machine {
            Some(false) => Decision::Reissue,
            Some(true) | None => Decision::Renew,
        },
        Credential::Enrolment { id, room } => {
            let brought_in = known.is_some_and(|host| host.enrolment.as_ref() == Some(id));
            match (same_machine, room) {
                (Some(true), Room::Left) => Decision::Renew,
                (Some(true), Room::UsedUp) if brought_in => Decision::Renew,
                (_, Room::UsedUp) => Decision::Refuse(Refusal::UsedUp),
                (Some(false), Room::Left) => Decision::Reissue,
                (None, Room::Left) => Decision::Accept,
            }
        }
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The identity it would like.
    pub agentsn: &'a str,
    /// The machine it runs on, if it says so.
    pub machine_id: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        credential: &str,
        known: Option<(Option<&str>, &str)>,
        machine: Option<&str>,
    ) -> Decision {
        let credential = match credential {
            "room" => Credential::Enrolment {
                id: "e1".into(),
                room: Room::Left,
            },
            "used up" => Credential::Enrolment {
                id: "e1".into(),
                room: Room::UsedUp,
            },
            host => Credential::Host {
                agentsn: host.into(),
            },
        };
        let known = known.map(|(machine_id, enrolment)| KnownHost {
            machine_id: machine_id.map(str::to_owned),
            enrolment: Some(enrolment.to_owned()),
        });
        decide(
            &credential,
            known.as_ref(),
            Asked {
                agentsn: "sn",
                machine_id: machine,
            },
        )
    }

    #[test]
    fn a_new_host_needs_a_token_with_room() {
        assert_eq!(check("room", None, Some("m1")), Decision::Accept);
        assert_eq!(
            check("used up", None, Some("m1")),
            Decision::Refuse(Refusal::UsedUp)
        );
    }

    #[test]
    fn the_same_machine_again_is_a_renewal() {
        assert_eq!(
            check("room", Some((Some("m1"), "e1")), Some("m1")),
            Decision::Renew
        );
        assert_eq!(
            check("room", Some((None, "e1")), Some("m1")),
            Decision::Renew
        );
        assert_eq!(check("room", Some((None, "e1")), None), Decision::Renew);
    }

    #[test]
    fn a_lost_reply_may_be_asked_for_again_though_the_token_is_used_up() {
        assert_eq!(
            check("used up", Some((Some("m1"), "e1")), Some("m1")),
            Decision::Renew
        );
        assert_eq!(
            check("used up", Some((Some("m1"), "e2")), Some("m1")),
            Decision::Refuse(Refusal::UsedUp)
        );
    }

    #[test]
    fn another_machine_never_takes_over_an_identity() {
        assert_eq!(
            check("room", Some((Some("m1"), "e1")), Some("m2")),
            Decision::Reissue
        );
        assert_eq!(
            check("room", Some((Some("m1"), "e1")), None),
            Decision::Reissue
        );
        assert_eq!(
            check("used up", Some((Some("m1"), "e1")), Some("m2")),
            Decision::Refuse(Refusal::UsedUp)
        );
    }

    #[test]
    fn a_hosts_secret_speaks_for_itself_only() {
        assert_eq!(
            check("sn", Some((Some("m1"), "e1")), Some("m1")),
            Decision::Renew
        );
        assert_eq!(
            check("sn", Some((Some("m1"), "e1")), Some("m2")),
            Decision::Reissue
        );
        assert_eq!(
            check("other", Some((Some("m1"), "e1")), Some("m1")),
            Decision::Refuse(Refusal::OtherHost)
        );
    }
}
