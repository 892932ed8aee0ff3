//! Small things to store.

use bootagent_protocol::Action;
use bootserver::access::password::PasswordHash;
use bootserver::access::role::Role;
use bootserver::access::scope::{HostSet, Scope};
use bootserver::access::user_name::UserName;
use bootserver::fleet::package_choice::PackageKind;
use bootserver::fleet::tags::Tags;
use bootserver::store::Store;
use bootserver::store::audit::By;
use bootserver::store::enrolment::NewEnrolmentToken;
use bootserver::store::host::{Registered, Registration, RegistrationEffect, Reported};
use bootserver::store::job::{JobGroup, JobsInserted, NewJobs};
use bootserver::store::package::PackageRow;
use bootserver::store::status::{NewEvent, Outcome, Seen, State, StateBody, StatusRecord};
use bootserver::store::user::NewUser;
use bootserver::token::{Token, TokenKind};
use serde_json::json;

/// What a newer program does to tables: it adds to them; it needs what ours knows;
/// it needs what ours does not know.
pub(crate) const NEWER: [&str; 3] = [
    "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
     VALUES (9999, 'later', TRUE, '', 1)",
    "INSERT INTO setting (key, value) VALUES ('needs_migration', '5')",
    "UPDATE setting SET value = '9999' WHERE key = 'needs_migration'",
];

pub(crate) fn tags(text: &str) -> Tags {
    Tags::parse(text).expect("valid tags")
}

/// Every host.
pub(crate) fn fleet() -> Scope {
    Scope::fleet()
}

/// The hosts with these tags.
pub(crate) fn scope(selector: &str) -> Scope {
    Scope::of([HostSet::tags(selector).expect("a selector")]).expect("one set")
}

/// Somebody who does something at this time.
pub(crate) fn by(at: i64) -> By {
    By::local(at)
}

/// An admin; the password is the name's own kind of hash, which opens nothing.
pub(crate) fn user(name: &str) -> NewUser {
    NewUser {
        id: format!("id of {name}"),
        name: UserName::parse(name).expect("a name"),
        display_name: String::new(),
        role: Role::Admin,
        scope: Scope::fleet(),
        password: PasswordHash::kept(format!("hash of {name}")),
    }
}

pub(crate) fn enrolment(id: &str, uses: Option<i64>) -> NewEnrolmentToken {
    NewEnrolmentToken {
        id: id.into(),
        name: "test".into(),
        digest: Token::generate(TokenKind::Enrolment).digest(),
        tags: tags("svc=ecs"),
        uses,
        expires: None,
        created: 1,
    }
}

pub(crate) fn registration(agentsn: &str, effect: RegistrationEffect) -> Registration {
    Registration {
        agentsn: agentsn.into(),
        effect,
        secret: Token::generate(TokenKind::Host).digest(),
        reported: Reported {
            hostname: format!("host of {agentsn}"),
            machine_id: Some(format!("machine of {agentsn}")),
            ip: vec!["10.0.0.1".into()],
            ..Reported::default()
        },
        now: 1000,
        rotate_due: i64::MAX,
    }
}

/// A host that is in the store from now on; returns its agentsn.
pub(crate) async fn host(store: &dyn Store, agentsn: &str) -> String {
    let effect = RegistrationEffect::Create {
        enrolment: None,
        tags: Tags::default(),
        copy_of: None,
    };
    let registered = store.register_host(&registration(agentsn, effect)).await;
    assert_eq!(
        registered.expect("a registration"),
        Registered::Done(Tags::default())
    );
    agentsn.to_owned()
}

pub(crate) fn status(agentsn: &str, now: i64) -> StatusRecord {
    StatusRecord {
        agentsn: agentsn.into(),
        number: 1,
        every: 600,
        now,
        seen: Seen {
            timestamp: now,
            uptime: now,
            readings: Vec::new(),
        },
        state: State {
            digest: format!("{now}"),
            hostname: format!("name at {now}"),
            version: "v".into(),
            machine_id: None,
            boot_id: Some("b".into()),
            body: StateBody {
                step: 600,
                machine_id: None,
                boot_id: Some("b".into()),
                agents: Vec::new(),
                notices: Vec::new(),
            },
        },
        results: Vec::new(),
        accepted: Vec::new(),
        events: Vec::new(),
    }
}

pub(crate) fn outcome(id: &str, errcode: u16) -> Outcome {
    let body = json!({ "id": id, "errcode": errcode });
    Outcome {
        id: id.into(),
        errcode,
        message: format!("code {errcode}"),
        body,
    }
}

/// A status the database refuses: PostgreSQL for the U+0000 of its event, SQLite
/// where `sqlite::refuse` was called.
pub(crate) fn refused(agentsn: &str) -> StatusRecord {
    let mut status = status(agentsn, 1);
    status.events.push(NewEvent {
        subject: REFUSED.into(),
        ..event(1, "\0")
    });
    status
}

/// The subject of that event.
pub(crate) const REFUSED: &str = "refused";

pub(crate) fn event(seq: i64, message: &str) -> NewEvent {
    NewEvent {
        source: "bootagent".into(),
        boot_id: "b".into(),
        seq,
        timestamp: 1,
        category: "crash".into(),
        subject: "a".into(),
        version: None,
        message: message.into(),
        tail: vec![message.into()],
    }
}

pub(crate) fn jobs(
    id: &str,
    agentsn: &str,
    package: Option<&str>,
    expires: Option<i64>,
) -> NewJobs {
    NewJobs {
        action: Action::Stop,
        name: Some("a".into()),
        expires,
        created: 1,
        groups: vec![JobGroup {
            body: json!({ "action": "stop", "name": "a" }),
            version: None,
            package: package.map(str::to_owned),
            hosts: vec![(id.into(), agentsn.into())],
        }],
    }
}

/// A job that is in the store from now on.
pub(crate) async fn job(store: &dyn Store, id: &str, agentsn: &str) {
    let inserted = store
        .insert_jobs(&jobs(id, agentsn, None, None), &fleet(), &by(1))
        .await;
    assert_eq!(inserted.expect("an insert"), JobsInserted::Done);
}

pub(crate) fn package(id: &str, version: &str, sha256: &str) -> PackageRow {
    PackageRow {
        id: id.into(),
        name: "a".into(),
        version: version.into(),
        os: "linux".into(),
        arch: "x86_64".into(),
        kind: PackageKind::Bundle,
        file: format!("a/a-{version}"),
        size: 1,
        sha256: sha256.into(),
        created: 1,
        signature: None,
    }
}
