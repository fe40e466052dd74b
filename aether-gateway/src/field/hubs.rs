//! The fields of a gateway, and which pages may use them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::counts::Refused;
use super::denied::Denied;
use super::hub::Hub;
use crate::gate::Gate;
use crate::origin::Origins;

/// The fields of a gateway, by name.
#[derive(Debug, Clone)]
pub(super) struct Hubs {
    pub(super) hubs: Arc<BTreeMap<String, Arc<Hub>>>,
    /// The field that is served at `/`, too.
    pub(super) root: Option<String>,
    pub(super) origins: Arc<Origins>,
    pub(super) gate: Arc<Gate>,
    pub(super) connections: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl Hubs {
    /// The field of a name, for a page that may use it.
    pub(super) fn hub(&self, field: &str, headers: &HeaderMap) -> Result<Arc<Hub>, Denied> {
        let Some(hub) = self.hubs.get(field) else {
            let text = format!("this gateway has no field {field:?}");
            return Err(Denied::new(StatusCode::NOT_FOUND, "field", &text));
        };
        if !hub.origins.allow(headers) {
            hub.counts.refuse(Refused::Origin);
            let text = "pages of this origin may not use the field; --field-origin allows them";
            return Err(Denied::new(StatusCode::FORBIDDEN, "origin", text));
        }
        match self.gate.may_connect_to_field(headers) {
            Ok(()) => Ok(Arc::clone(hub)),
            Err(error) => {
                hub.counts.refuse(Refused::of(&error));
                Err(error.into_response().into())
            }
        }
    }
}
