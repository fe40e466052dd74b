//! The answer to a client that does not get what it asked for over plain HTTP.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::answer;

/// The answer. It is large, and most requests get another one.
#[derive(Debug)]
pub(super) struct Denied(Box<Response>);

impl Denied {
    pub(super) fn new(code: StatusCode, reason: &str, text: &str) -> Self {
        answer::problem(code, reason, text).into()
    }
}

impl From<Response> for Denied {
    fn from(response: Response) -> Self {
        Self(Box::new(response))
    }
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        *self.0
    }
}
