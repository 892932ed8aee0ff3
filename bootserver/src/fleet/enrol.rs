//! What comes of a registration: whose identity the host gets.

use super::clone::{Pusher, Sightings};

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
    /// How it stands.
    pub standing: Standing,
    /// Who pushed with its identity lately.
    pub sightings: Sightings,
}

/// How a known host stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Registered, and no status of it was ever stored.
    Silent,
    /// Part of the fleet.
    Active,
    /// An operator took its secret away.
    Revoked,
    /// An operator deleted it.
    Deleted,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// A host nobody knows: takes the agentsn it asked for.
    Accept,
    /// The same machine again: keeps its agentsn, gets a new secret.
    Renew,
    /// The same machine again, brought in anew: keeps its agentsn, and nothing
    /// that was ordered of it before.
    Reenrol,
    /// A host that was deleted comes back under its agentsn, as a new one.
    Revive,
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
    /// An operator took this host's secret away.
    Revoked,
}

/// Decides a registration:
/// 1. a host's secret speaks only for its own agentsn;
/// 2. the same agentsn from the same machine is a renewal, and uses nothing up,
///    so that a lost reply can be asked for again; but a token that is used
///    up renews only the hosts it brought in;
/// 3. the same agentsn from another machine, or from one that was found to be
///    a copy, gets a new agentsn;
/// 4. everything that makes a host needs a token with room;
/// 5. with an enrolment token a host that was at work begins anew: what was
///    ordered of it before was ordered of somebody else;
/// 6. a revoked host stays out until it is deleted, a deleted one is new.
///
/// A bare 002 agent names no machine: it is the same one while neither side
/// knows better, and a machine_id that appears later is taken as its first.
pub fn decide(credential: &Credential, known: Option<&KnownHost>, asked: Asked<'_>) -> Decision {
    let same_machine = known.map(|host| host.is_same_machine(asked));
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
            let standing = known.map(|host| host.standing);
            match (standing, same_machine, room) {
                (Some(Standing::Revoked), Some(true), _) => Decision::Refuse(Refusal::Revoked),
                (Some(Standing::Deleted), _, Room::Left) => Decision::Revive,
                (Some(Standing::Deleted), _, Room::UsedUp) => Decision::Refuse(Refusal::UsedUp),
                (Some(Standing::Active), Some(true), Room::Left) => Decision::Reenrol,
                (Some(Standing::Active), Some(true), Room::UsedUp) if brought_in => {
                    Decision::Reenrol
                }
                (_, Some(true), Room::Left) => Decision::Renew,
                (_, Some(true), Room::UsedUp) if brought_in => Decision::Renew,
                (_, _, Room::UsedUp) => Decision::Refuse(Refusal::UsedUp),
                (_, Some(false), Room::Left) => Decision::Reissue,
                (_, None, Room::Left) => Decision::Accept,
            }
        }
    }
}

impl KnownHost {
    fn is_same_machine(&self, asked: Asked<'_>) -> bool {
        let is_same = match (self.machine_id.as_deref(), asked.machine_id) {
            (Some(stored), Some(given)) => stored == given,
            (Some(_), None) => false,
            (None, _) => true,
        };
        let pusher = Pusher {
            machine_id: asked.machine_id.map(str::to_owned),
            boot_id: asked.boot_id.map(str::to_owned),
        };
        is_same && self.sightings.may_keep(&pusher)
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The identity it would like.
    pub agentsn: &'a str,
    /// The machine it runs on, if it says so.
    pub machine_id: Option<&'a str>,
    /// The boot it is in, if it says so.
    pub boot_id: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(text: &str) -> Credential {
        let enrolment = |room| Credential::Enrolment {
            id: "e1".into(),
            room,
        };
        match text {
            "room" => enrolment(Room::Left),
            "used up" => enrolment(Room::UsedUp),
            host => Credential::Host {
                agentsn: host.into(),
            },
        }
    }

    fn known(machine: Option<&str>, enrolment: &str, standing: Standing) -> KnownHost {
        KnownHost {
            machine_id: machine.map(str::to_owned),
            enrolment: Some(enrolment.to_owned()),
            standing,
            sightings: Sightings::default(),
        }
    }

    /// A known host that was never heard, as `(machine, enrolment token)`.
    fn check(token: &str, host: Option<(Option<&str>, &str)>, machine: Option<&str>) -> Decision {
        let host = host.map(|(stored, id)| known(stored, id, Standing::Silent));
        check_known(token, host.as_ref(), machine)
    }

    fn check_known(token: &str, host: Option<&KnownHost>, machine: Option<&str>) -> Decision {
        let asked = Asked {
            agentsn: "sn",
            machine_id: machine,
            boot_id: Some("b1"),
        };
        decide(&credential(token), host, asked)
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
        for (stored, given) in [(Some("m1"), Some("m1")), (None, Some("m1")), (None, None)] {
            assert_eq!(check("room", Some((stored, "e1")), given), Decision::Renew);
        }
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

    #[test]
    fn a_copy_that_registers_gets_an_identity_of_its_own_and_the_original_keeps_its() {
        let mut host = known(Some("m1"), "e1", Standing::Active);
        let boot = |boot: &str| Pusher {
            machine_id: Some("m1".into()),
            boot_id: Some(boot.into()),
        };
        for (at, who) in [(0, "b1"), (1, "b2"), (2, "b1"), (3, "b2")] {
            host.sightings.observe(&boot(who), Some("m1"), at, 600);
        }
        let from = |boot_id| {
            let asked = Asked {
                agentsn: "sn",
                machine_id: Some("m1"),
                boot_id: Some(boot_id),
            };
            decide(&credential("sn"), Some(&host), asked)
        };
        assert_eq!(from("b2"), Decision::Reissue);
        assert_eq!(from("b1"), Decision::Renew);
    }

    #[test]
    fn a_host_at_work_that_enrols_again_begins_anew() {
        let host = known(Some("m1"), "e1", Standing::Active);
        assert_eq!(
            check_known("room", Some(&host), Some("m1")),
            Decision::Reenrol
        );
        assert_eq!(
            check_known("used up", Some(&host), Some("m1")),
            Decision::Reenrol
        );
        assert_eq!(check_known("sn", Some(&host), Some("m1")), Decision::Renew);
        assert_eq!(
            check_known("room", Some(&host), Some("m2")),
            Decision::Reissue
        );
    }

    #[test]
    fn a_revoked_host_stays_out_and_a_deleted_one_may_come_back_as_new() {
        let revoked = known(Some("m1"), "e1", Standing::Revoked);
        let refused = Decision::Refuse(Refusal::Revoked);
        assert_eq!(check_known("room", Some(&revoked), Some("m1")), refused);
        assert_eq!(
            check_known("room", Some(&revoked), Some("m2")),
            Decision::Reissue
        );
        let deleted = known(Some("m1"), "e1", Standing::Deleted);
        assert_eq!(
            check_known("room", Some(&deleted), Some("m2")),
            Decision::Revive
        );
        assert_eq!(
            check_known("used up", Some(&deleted), Some("m1")),
            Decision::Refuse(Refusal::UsedUp)
        );
    }
}
