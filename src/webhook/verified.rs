//! The proof that a body is what a provider sent, as a type.

use std::ops::Deref;

use bytes::Bytes;
use http::HeaderMap;

use crate::ids::AppId;
use crate::provider::meta;
use crate::tenant::App;

/// Bytes that an app of ours has signed. Only this file can make one, and only of such bytes.
#[derive(Debug, Clone)]
pub struct Verified<T> {
    content: T,
    app: AppId,
}

impl<T> Verified<T> {
    /// The app that signed.
    pub fn app(&self) -> AppId {
        self.app
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.content
    }
}

/// Finds the app whose secret signed the body, over its raw bytes.
pub fn verify(apps: &[App], headers: &HeaderMap, body: Bytes) -> Option<Verified<Bytes>> {
    let signature = meta::signature(headers)?;
    let app = apps.iter().find(|app| {
        let secrets = [&app.secrets.app_secret, &app.secrets.previous_app_secret];
        secrets
            .into_iter()
            .any(|secret| meta::is_signed_by(secret, &body, &signature))
    })?;
    Some(Verified {
        content: body,
        app: app.id,
    })
}

/// Takes a body out of our own keeping, where only verified ones are put.
pub fn kept(app: AppId, body: Bytes) -> Verified<Bytes> {
    Verified { content: body, app }
}
