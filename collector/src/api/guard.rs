//! Who may ask: with a token where one is needed, and without one only under a name of the loopback interface. A web
//! page that makes a browser ask this machine comes under its own name, and is refused.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use edgelogger_common::auth::{self, Audience};

use super::ApiContext;
use super::problem::Problem;

/// Who asks, for the log: the subject of a token, or somebody on this machine.
#[derive(Debug, Clone)]
pub struct Caller(pub String);

/// The middleware.
pub async fn check(State(context): State<Arc<ApiContext>>, mut request: Request, next: Next) -> Response {
    let checked = if context.needs_token {
        check_token(request.headers(), &context)
    } else {
        check_host(request.headers()).map(|()| "somebody on this machine".to_owned())
    };
    match checked {
        Ok(caller) => {
            request.extensions_mut().insert(Caller(caller));
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

fn check_token(headers: &HeaderMap, context: &ApiContext) -> Result<String, Problem> {
    let header = headers
        .get(header::AUTHORIZATION)
        .map(|value| value.to_str().unwrap_or("not ASCII"));
    let claims = auth::verify(
        auth::bearer(header)?,
        &context.in_force.get().keys,
        Audience::People,
        context.time.now_ns(),
    )?;
    Ok(claims.sub)
}

fn check_host(headers: &HeaderMap) -> Result<(), Problem> {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    if is_loopback(host) {
        return Ok(());
    }
    Err(Problem::misdirected(
        "without a token only requests to localhost are answered; ask http://localhost, or set token = true in [api]",
    ))
}

fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.is_empty()
        || name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_loopback_interface_pass_without_a_token() {
        for host in [
            "localhost",
            "LOCALHOST:7480",
            "127.0.0.1:1",
            "[::1]:7480",
            "127.9.9.9",
            "",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "evil.example:7480",
            "localhost.evil.example",
            "192.0.2.1",
            "[2001:db8::1]:7480",
            "0.0.0.0",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
