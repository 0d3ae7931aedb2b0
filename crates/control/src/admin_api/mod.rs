//! What can be administered, and how is it asked for? The table of contents of `/admin/v1`.
//!
//! One file a noun: its verbs (see [`Verb`]), what they look like on the wire, and their handlers, which are a line each. The
//! OpenAPI document is generated from the handlers' own types, and a test holds it to the table below.

mod accounts;
mod configuration;
mod decisions;
mod desk;
mod error;
mod health;
mod keys;
mod limits;
mod prices;
mod tasks;
mod usage;
mod verb;
mod whoami;
mod wire;

use axum::handler::Handler;
use axum::routing::{MethodFilter, MethodRouter, on};
use http::Method;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

pub use self::accounts::{
    AccountView, ChangeAccount, CloseAccount, CreateAccount, Kind, ListAccounts, ShowAccount, UpdateAccount,
};
pub use self::configuration::{Configuration, RefusedConfiguration, ShowConfiguration};
pub use self::decisions::{
    AttemptView, CandidateView, DecisionList, DecisionLog, DecisionQuery, DecisionView, ListDecisions, ShowDecision,
    VerdictWord,
};
pub use self::desk::{Actor, Desk};
pub use self::error::{AdminError, ErrorBody, ErrorDetail};
pub use self::health::{CheckIntegrity, Integrity};
pub use self::keys::{
    CreateKey, KeyView, ListKeys, NewSecret, ReplaceKey, RevokeKey, RoleWord, RotateKey, ScopeLists,
    ScopePattern, ShowKey, StateWord,
};
pub use self::limits::{EndLimit, LimitView, ListLimits, SetLimit, StandingView};
pub use self::prices::{ListPrices, PriceView, SetPrices};
pub use self::tasks::{ApproveTask, ListTasks, ShowTask, StopTask, TaskList, TaskView, TaskWord};
pub use self::usage::{ShowUsage, Usage};
pub use self::verb::{Call, Verb};
pub use self::whoami::{AskWhoAmI, WhoAmI};
pub use self::wire::Page;

/// One row of the table of contents, to be put behind the gateway's door.
pub struct AdminRoute {
    pub method: Method,
    pub path: &'static str,
    /// Whether it takes no key. What every other one takes is decided by its verb.
    pub is_open: bool,
    pub handler: MethodRouter,
}

pub fn contents(desk: &Desk) -> Vec<AdminRoute> {
    let get = Method::GET;
    let post = Method::POST;
    vec![
        AdminRoute::open(&get, "/admin/v1/openapi.json", print_document, desk),
        AdminRoute::of(&get, "/admin/v1/whoami", whoami::show, desk),
        AdminRoute::of(&get, "/admin/v1/accounts", accounts::list, desk),
        AdminRoute::of(&post, "/admin/v1/accounts", accounts::create, desk),
        AdminRoute::of(&get, "/admin/v1/accounts/{account}", accounts::show, desk),
        AdminRoute::of(&Method::PATCH, "/admin/v1/accounts/{account}", accounts::change, desk),
        AdminRoute::of(&post, "/admin/v1/accounts/{account}/close", accounts::close, desk),
        AdminRoute::of(&post, "/admin/v1/accounts/{account}/reopen", accounts::reopen, desk),
        AdminRoute::of(&get, "/admin/v1/keys", keys::list, desk),
        AdminRoute::of(&post, "/admin/v1/keys", keys::create, desk),
        AdminRoute::of(&get, "/admin/v1/keys/{id}", keys::show, desk),
        AdminRoute::of(&post, "/admin/v1/keys/{id}/rotate", keys::rotate, desk),
        AdminRoute::of(&post, "/admin/v1/keys/{id}/revoke", keys::revoke, desk),
        AdminRoute::of(&get, "/admin/v1/limits", limits::list, desk),
        AdminRoute::of(&post, "/admin/v1/limits", limits::set, desk),
        AdminRoute::of(&post, "/admin/v1/limits/end", limits::end, desk),
        AdminRoute::of(&get, "/admin/v1/prices", prices::list, desk),
        AdminRoute::of(&post, "/admin/v1/prices", prices::set, desk),
        AdminRoute::of(&get, "/admin/v1/tasks", tasks::list, desk),
        AdminRoute::of(&get, "/admin/v1/tasks/tree", tasks::show, desk),
        AdminRoute::of(&post, "/admin/v1/tasks/approve", tasks::approve, desk),
        AdminRoute::of(&post, "/admin/v1/tasks/stop", tasks::stop, desk),
        AdminRoute::of(&get, "/admin/v1/usage", usage::show, desk),
        AdminRoute::of(&get, "/admin/v1/decisions", decisions::list, desk),
        AdminRoute::of(&get, "/admin/v1/decisions/{request}", decisions::show, desk),
        AdminRoute::of(&get, "/admin/v1/configuration", configuration::show, desk),
        AdminRoute::of(&get, "/admin/v1/integrity", health::check, desk),
    ]
}

/// Returns the OpenAPI document: the same for every server of this version.
pub fn document() -> String {
    Document::openapi().to_pretty_json().expect("the document is plain data")
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Baseload admin API", description = "Accounts, keys, limits, prices, usage, tasks and decisions of a Baseload server."),
    paths(
        whoami::show,
        accounts::list, accounts::create, accounts::show, accounts::change, accounts::close, accounts::reopen,
        keys::list, keys::create, keys::show, keys::rotate, keys::revoke,
        limits::list, limits::set, limits::end,
        prices::list, prices::set,
        usage::show,
        tasks::list, tasks::show, tasks::approve, tasks::stop,
        decisions::list, decisions::show,
        configuration::show,
        health::check
    ),
    tags(
        (name = "accounts", description = "Paths such as `acme/research/chatbot`: who pays, and whose limits hold"),
        (name = "keys", description = "How callers prove who pays; shown once, narrowed by scopes, rotated, revoked at once"),
        (name = "limits", description = "How much of what may be used, by whom, until when"),
        (name = "prices", description = "What models cost, since when"),
        (name = "usage", description = "What was used, and what it cost"),
        (name = "tasks", description = "What agents do, what it costs, and who lets them go on"),
        (name = "decisions", description = "Who answered a request, and why not another"),
        (name = "server", description = "What this server was told to do"),
        (name = "ledger", description = "Whether the book balances")
    ),
    servers((url = "/", description = "The server that this document comes from")),
    security(("key" = [])),
    modifiers(&Key)
)]
struct Document;

struct Key;

impl Modify for Key {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A key with a role: `baseload admin keys create --name me --role owner`"));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("key", SecurityScheme::Http(scheme.build()));
    }
}

async fn print_document() -> ([(http::HeaderName, &'static str); 1], String) {
    ([(http::header::CONTENT_TYPE, "application/json")], document())
}

impl AdminRoute {
    fn of<H: Handler<T, Desk>, T: 'static>(
        method: &Method,
        path: &'static str,
        handler: H,
        desk: &Desk,
    ) -> Self {
        let filter = MethodFilter::try_from(method.clone()).expect("a route has one of the usual methods");
        let handler = on(filter, handler).with_state(desk.clone());
        Self { method: method.clone(), path, is_open: false, handler }
    }

    fn open<H: Handler<T, Desk>, T: 'static>(
        method: &Method,
        path: &'static str,
        handler: H,
        desk: &Desk,
    ) -> Self {
        Self { is_open: true, ..Self::of(method, path, handler, desk) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[tokio::test]
    async fn the_document_describes_every_route_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let journal = ledger::Journal::open(&folder.path().join("ledger.sqlite")).await.unwrap();
        let document: Value = serde_json::from_str(&document()).unwrap();
        let mut described = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                described.insert((method.to_uppercase(), path.clone()));
                assert!(
                    operation["operationId"].is_string() && operation["summary"].is_string(),
                    "{method} {path}"
                );
            }
        }
        let served = contents(&Desk::new(journal))
            .into_iter()
            .filter(|route| !route.is_open)
            .map(|route| (route.method.to_string(), route.path.to_owned()));
        assert_eq!(served.collect::<BTreeSet<_>>(), described);
    }

    #[test]
    fn every_reference_of_the_document_leads_somewhere() {
        let document: Value = serde_json::from_str(&document()).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        let text = document.to_string();
        let references = text.split("\"$ref\":\"#").skip(1).map(|rest| rest.split('"').next().unwrap());
        let mut seen = 0;
        for reference in references {
            assert!(document.pointer(reference).is_some(), "{reference} leads nowhere");
            seen += 1;
        }
        assert!(seen > 10);
    }
}
