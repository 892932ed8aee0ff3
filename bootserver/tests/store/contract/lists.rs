//! Lists of hosts are the same, whichever way they are found.

use bootagent_protocol::{AgentReport, AgentState};
use bootserver::fleet::presence::Presence;
use bootserver::fleet::selector::Selector;
use bootserver::store::Store;
use bootserver::store::group::{GroupStored, GroupTerms, Naming};
use bootserver::store::host::{
    AgentCondition, Direction, HostQuery, HostSort, Reach, RegistrationEffect, Removal, SortKey,
};
use bootserver::store::page::{Count, Total};
use bootserver::token::{Token, TokenKind};

use super::limit;
use crate::make;

const HOSTS: usize = 40;
/// Pages of nine hosts.
const ROWS: u32 = 9;

/// A host as it was made.
struct Made {
    agentsn: String,
    hostname: String,
    number: usize,
    state: Presence,
}

impl Made {
    fn new(number: usize) -> Self {
        // Some have the same name, and some a name that sorts otherwise in small letters.
        let name = number * 7 % HOSTS / 2;
        let hostname = match name % 3 {
            0 => format!("Rack-{name:02}"),
            1 => format!("rack-{name:02}"),
            _ => format!("node\n{name:02}"),
        };
        let state = match number % 8 {
            0 => Presence::Revoked,
            1 => Presence::Deleted,
            2..=4 => Presence::New,
            _ => Presence::Online,
        };
        Self {
            agentsn: format!("sn-{number:02}"),
            hostname,
            number,
            state,
        }
    }

    fn ip(&self) -> String {
        format!("10.0.{}.{}", self.number / 10, self.number)
    }

    fn os(&self) -> &'static str {
        ["debian 12", "rhel 9"][self.number % 2]
    }

    fn tags(&self) -> String {
        match self.number % 5 {
            0 => String::new(),
            1 => "svc=ecs".into(),
            _ => "svc=ecs,region=cn".into(),
        }
    }

    fn agent(&self) -> AgentState {
        match self.number % 3 {
            0 => AgentState::Fatal,
            _ => AgentState::Running,
        }
    }

    async fn store(&self, store: &dyn Store) {
        let mut new = make::registration(
            &self.agentsn,
            RegistrationEffect::Create {
                enrolment: None,
                tags: make::tags(&self.tags()),
                copy_of: None,
            },
        );
        new.now = 1000 - i64::try_from(self.number).expect("small") / 3;
        new.reported.hostname.clone_from(&self.hostname);
        new.reported.ip = vec![self.ip()];
        new.reported.os = self.os().into();
        new.reported.version = "v".into();
        store.register_host(&new).await.expect("a write");
        if self.state == Presence::Online {
            let now = 2000 + i64::try_from(self.number).expect("small") / 2;
            let mut status = make::status(&self.agentsn, now);
            status.state.hostname.clone_from(&self.hostname);
            status.state.body.agents = vec![AgentReport {
                name: "flux".into(),
                version: "1".into(),
                status: self.agent(),
                uptime: 1,
                wanted: None,
                detail: None,
                retry_in: None,
                anomalies: None,
                message: None,
                pid: None,
                limits: None,
            }];
            store.record_statuses(&[status]).await.expect("a batch");
        }
        if matches!(self.state, Presence::Revoked | Presence::Deleted) {
            let removal = Removal {
                agentsn: self.agentsn.clone(),
                to: self.state,
                nobody: Token::generate(TokenKind::Host).digest(),
                revision: None,
            };
            store
                .remove_host(&removal, &make::fleet(), &make::by(3000))
                .await
                .expect("a write");
        }
    }
}

/// Who fits a query.
type Fits = fn(&Made) -> bool;

fn queries() -> Vec<(HostQuery, Fits)> {
    let all = HostQuery::default;
    let text = |text: &str| Some(text.to_owned());
    let selector = |text: &str| Selector::parse(text).expect("a selector");
    let fatal = AgentCondition {
        state: text("fatal"),
        ..AgentCondition::default()
    };
    let state = |state| HostQuery {
        state: Some(state),
        ..all()
    };
    let is_online = |host: &Made| host.state == Presence::Online;
    let has_region = |host: &Made| host.number % 5 > 1;
    vec![
        (all(), |_| true),
        (state(Presence::Online), is_online),
        (state(Presence::New), |host| host.state == Presence::New),
        (state(Presence::Deleted), |host| {
            host.state == Presence::Deleted
        }),
        (
            HostQuery {
                os: text("rhel 9"),
                ..all()
            },
            |host| host.number % 2 == 1,
        ),
        (
            HostQuery {
                os: text("rhel 9"),
                ..state(Presence::Revoked)
            },
            |_| false,
        ),
        (
            HostQuery {
                version: text("v"),
                hostname: text("Rack"),
                ..all()
            },
            |host| host.hostname.starts_with("Rack"),
        ),
        (
            HostQuery {
                hostname: text("rack"),
                ..all()
            },
            |host| host.hostname.starts_with("rack"),
        ),
        (
            HostQuery {
                search: text("rack"),
                ..all()
            },
            |host| !host.hostname.starts_with("node"),
        ),
        (
            HostQuery {
                search: text("10.0.1."),
                ..state(Presence::Online)
            },
            |host| host.number / 10 == 1 && host.state == Presence::Online,
        ),
        (
            HostQuery {
                ip: text("10.0.2.22"),
                ..all()
            },
            |host| host.number == 22,
        ),
        (
            HostQuery {
                agent: fatal,
                ..all()
            },
            |host| host.state == Presence::Online && host.number % 3 == 0,
        ),
        (
            HostQuery {
                selector: selector("region=cn"),
                ..all()
            },
            has_region,
        ),
        (
            HostQuery {
                selector: selector("svc"),
                search: text("node"),
                ..all()
            },
            |host| host.number % 5 > 0 && host.hostname.starts_with("node"),
        ),
        (
            HostQuery {
                selector: selector("svc=ecs,!region"),
                ..all()
            },
            |host| host.number % 5 == 1,
        ),
        (
            HostQuery {
                selector: selector("!region"),
                ..all()
            },
            |host| host.number % 5 < 2,
        ),
        (
            HostQuery {
                scope: make::scope("region=cn"),
                ..state(Presence::Online)
            },
            |host| host.number % 5 > 1 && host.state == Presence::Online,
        ),
        (
            HostQuery {
                group: text("g"),
                ..all()
            },
            |host| host.number == 10 || host.number % 5 > 1,
        ),
    ]
}

/// One group: a host that is named, and those in a region.
async fn group(store: &dyn Store) {
    let terms = GroupTerms {
        id: "g".into(),
        name: "g".into(),
        description: String::new(),
        selector: Some(Selector::parse("region=cn").expect("a selector")),
        groups: std::collections::BTreeSet::new(),
        now: 7,
    };
    let inserted = store.insert_group(&terms, &make::by(7)).await;
    assert!(matches!(inserted.expect("a write"), GroupStored::Done(_)));
    let naming = Naming {
        id: "g".into(),
        add: vec!["sn-10".into()],
        remove: Vec::new(),
    };
    store
        .name_hosts(&naming, &make::by(7))
        .await
        .expect("a write");
}

/// All hosts of a query, page by page.
async fn pages(store: &dyn Store, mut query: HostQuery) -> (Vec<String>, Option<Total>) {
    query.limit = limit(ROWS);
    query.count = Count::All;
    let mut all = Vec::new();
    let mut total = None;
    loop {
        let page = store.hosts(&query).await.expect("a list");
        all.extend(page.items.into_iter().map(|host| host.agentsn));
        total = total.or(page.total);
        query.count = Count::Not;
        let Some(next) = page.next else {
            return (all, total);
        };
        query.after = Some(serde_json::from_str(&next).expect("a key"));
    }
}

pub(crate) async fn a_list_is_the_same_whichever_way_it_is_found(store: &dyn Store) {
    let hosts: Vec<Made> = (0..HOSTS).map(Made::new).collect();
    for host in &hosts {
        host.store(store).await;
    }
    group(store).await;
    let usual = Reach::default();
    let ways = [
        ("the usual one", usual),
        ("looked up at once", Reach { few: 1000, ..usual }),
        (
            "gone through",
            Reach {
                few: -1,
                steps: 1000,
                many: -1,
            },
        ),
        (
            "looked up after one step",
            Reach {
                few: -1,
                steps: 0,
                many: 1000,
            },
        ),
        (
            "gone on after one step",
            Reach {
                few: -1,
                steps: 0,
                many: -1,
            },
        ),
        (
            "looked up where ten do not fill a page",
            Reach {
                few: -1,
                steps: 1,
                many: 1000,
            },
        ),
    ];
    let orders = [
        (SortKey::Hostname, Direction::Up),
        (SortKey::Hostname, Direction::Down),
        (SortKey::Created, Direction::Down),
        (SortKey::Since, Direction::Up),
    ];
    for (query, fits) in queries() {
        let is_listed = |host: &&Made| {
            let is_there = query.state.is_some() || host.state != Presence::Deleted;
            is_there && fits(host)
        };
        let mut expected: Vec<&Made> = hosts.iter().filter(is_listed).collect();
        expected.sort_by_key(|host| (&host.hostname, &host.agentsn));
        let mut expected: Vec<&str> = expected.iter().map(|host| &*host.agentsn).collect();
        for (key, direction) in orders {
            let sort = HostSort { key, direction };
            let mut former: Option<Vec<String>> = None;
            for (way, reach) in ways {
                let query = HostQuery {
                    sort,
                    reach,
                    ..query.clone()
                };
                let told = format!("{query:?}, {way}");
                let (listed, total) = pages(store, query).await;
                assert_eq!(total, Some(Total::of(listed.len())), "{told}");
                let former = former.get_or_insert_with(|| listed.clone());
                assert_eq!(*former, listed, "{told}");
            }
            let mut listed = former.unwrap_or_default();
            if key != SortKey::Hostname {
                // In an order of their own, the same for all ways.
                listed.sort();
                expected.sort_unstable();
            }
            assert_eq!(listed, expected, "{query:?} by {sort:?}");
            expected.reverse();
        }
    }
}
