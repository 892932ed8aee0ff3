//! POST /agent/register: a host gets its identity and its secret.

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use bootagent_protocol::{RegisterReply, RegisterRequest};
use uuid::Uuid;

use crate::app::App;
use crate::auth::{bearer, host, random};
use crate::clock::unix_millis;
use crate::extract::HostBody;
use crate::fleet::enrol::{Asked, Credential, Decision, KnownHost, Refusal, Room, decide};
use crate::fleet::secret;
use crate::fleet::tags::Tags;
use crate::openapi::{BadBody, Guarded, RegisterReplySchema, RegisterRequestSchema};
use crate::problem::Problem;
use crate::store::host::{OpenOrders, Registered, Registration, RegistrationEffect};
use crate::token::{Token, TokenKind};
use crate::wire;

/// How often a decision is made anew because its facts changed meanwhile.
const ATTEMPTS: usize = 3;

/// Who may register: a host with an enrolment token or with its own secret.
#[derive(Debug)]
pub struct Registrant {
    /// What it showed.
    token: Token,
    credential: Credential,
    tags: Tags,
}

impl FromRequestParts<App> for Registrant {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        Self::of(app, bearer(parts)?).await
    }
}

impl Registrant {
    /// As the token stands now.
    async fn of(app: &App, token: Token) -> Result<Self, Problem> {
        if let Some(found) = app.store.enrolment_token(&token.digest()).await? {
            let over = found
                .expires
                .is_some_and(|expires| expires <= unix_millis());
            if over || found.revoked.is_some() {
                return Err(Problem::unauthorized(
                    "the enrolment token is expired or revoked",
                ));
            }
            let used_up = found.uses.is_some_and(|uses| found.used >= uses);
            let room = if used_up { Room::UsedUp } else { Room::Left };
            let tags = Tags::parse(&found.tags).unwrap_or_default();
            return Ok(Self {
                token,
                credential: Credential::Enrolment { id: found.id, room },
                tags,
            });
        }
        match host(app, &token).await? {
            Some(host) => Ok(Self {
                token,
                credential: Credential::Host {
                    agentsn: host.agentsn,
                },
                tags: Tags::default(),
            }),
            None => Err(Problem::unauthorized(
                "the token is no enrolment token and no host's secret; ask an operator for one",
            )),
        }
    }
}

/// Registers a host, or renews its secret.
#[utoipa::path(
    operation_id = "register_host",
    post, path = "/agent/register", tag = "agent",
    request_body(content = RegisterRequestSchema, content_type = "application/json"),
    responses(
        (status = 200, description = "Accepted", body = RegisterReplySchema), BadBody, Guarded
    ),
    security(("enrolment" = []), ("host" = []))
)]
pub async fn register(
    mut registrant: Registrant,
    State(app): State<App>,
    HostBody(request): HostBody<RegisterRequest>,
) -> Result<Json<RegisterReply>, Problem> {
    let asked = wire::agentsn(&request.agentsn).map_err(|error| invalid(&error))?;
    let reported = wire::reported(&request).map_err(|error| invalid(&error))?;
    for _ in 0..ATTEMPTS {
        let known = app.store.known_host(&asked).await?;
        let machine_id = reported.machine_id.as_deref();
        let asked = Asked {
            agentsn: &asked,
            machine_id,
            boot_id: reported.boot_id.as_deref(),
        };
        let decision = decide(&registrant.credential, known.as_ref(), asked);
        let (agentsn, effect) = match decision {
            Decision::Accept => (asked.agentsn.to_owned(), create(&registrant, None)),
            Decision::Reissue => {
                let copy_of = asked.agentsn.to_owned();
                (
                    Uuid::new_v4().to_string(),
                    create(&registrant, Some(copy_of)),
                )
            }
            Decision::Renew => renew(&registrant, known.as_ref(), asked, OpenOrders::Stay),
            Decision::Reenrol => renew(&registrant, known.as_ref(), asked, OpenOrders::End),
            Decision::Revive => (asked.agentsn.to_owned(), revive(&registrant)?),
            Decision::Refuse(refusal) => return Err(refused(refusal)),
        };
        let token = Token::generate(TokenKind::Host);
        let registration = Registration {
            agentsn: agentsn.clone(),
            effect,
            secret: token.digest(),
            reported: reported.clone(),
            now: unix_millis(),
            rotate_due: secret::rotate_due(unix_millis(), random()),
        };
        if let Registered::Done(tags) = app.store.register_host(&registration).await? {
            let hostname = &reported.hostname;
            tracing::info!(agentsn, hostname, ?decision, "a host registered");
            return Ok(Json(RegisterReply {
                status: 0,
                agentsn: Some(agentsn),
                tags: Some(tags.to_string()),
                token: Some(token.expose().to_owned()),
                message: None,
            }));
        }
        // Others may have taken the last of its uses.
        registrant = Registrant::of(&app, registrant.token).await?;
    }
    Err(Problem::unavailable(
        "others register with the same identity or token; try again",
    ))
}

/// The tags of the token that brought the host in were given then: an operator may
/// have taken some away since.
fn renew(
    registrant: &Registrant,
    known: Option<&KnownHost>,
    asked: Asked<'_>,
    orders: OpenOrders,
) -> (String, RegistrationEffect) {
    let brought_in = known.and_then(|known| known.enrolment.as_ref());
    let tags = match &registrant.credential {
        Credential::Enrolment { id, .. } if brought_in == Some(id) => Tags::default(),
        Credential::Enrolment { .. } | Credential::Host { .. } => registrant.tags.clone(),
    };
    let effect = RegistrationEffect::Renew { tags, orders };
    (asked.agentsn.to_owned(), effect)
}

fn revive(registrant: &Registrant) -> Result<RegistrationEffect, Problem> {
    match &registrant.credential {
        Credential::Enrolment { id, .. } => Ok(RegistrationEffect::Revive {
            enrolment: id.clone(),
            tags: registrant.tags.clone(),
        }),
        // Its secret went when it was deleted, a moment ago.
        Credential::Host { .. } => Err(refused(Refusal::OtherHost)),
    }
}

fn create(registrant: &Registrant, copy_of: Option<String>) -> RegistrationEffect {
    let enrolment = match &registrant.credential {
        Credential::Enrolment { id, .. } => Some(id.clone()),
        // A clone that shows its original's secret was let in with it.
        Credential::Host { .. } => None,
    };
    RegistrationEffect::Create {
        enrolment,
        tags: registrant.tags.clone(),
        copy_of,
    }
}

fn refused(refusal: Refusal) -> Problem {
    match refusal {
        Refusal::UsedUp => Problem::unauthorized(
            "the enrolment token has no uses left; ask an operator for another",
        ),
        Refusal::Revoked => Problem::unauthorized(
            "an operator revoked this host; it may enrol again once it is deleted there",
        ),
        Refusal::OtherHost => Problem::unauthorized("the secret belongs to another agentsn"),
    }
}

fn invalid(error: &wire::WireError) -> Problem {
    Problem::invalid(&error.to_string())
}
