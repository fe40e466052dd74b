//! The demos, where a program serves them: pages that share the field `demo`.

use axum::Router;
use axum::extract::Path;
use axum::http::HeaderMap;
use axum::response::Redirect;
use axum::routing::get;

use crate::assets;

pub(crate) fn routes() -> Router {
    let index = async |headers: HeaderMap| assets::served("demos/", "index.html", &headers);
    let file = async |Path(path): Path<String>, headers: HeaderMap| assets::served("demos/", &path, &headers);
    let folder = async || Redirect::permanent("/demos/");
    Router::new().route("/demos", get(folder)).route("/demos/", get(index)).route("/demos/{*path}", get(file))
}
