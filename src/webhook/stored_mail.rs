//! Mails that SES keeps in S3: of those with more than 150 KB it only tells.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::json;

use super::applied::Applied;
use super::delivery::Delivery;
use super::new_delivery::NewDelivery;
use super::verified::asked_for;
use super::webhooks::Webhooks;
use crate::error::Error;
use crate::inbox::Effect;
use crate::provider::email::{StoredMail, ses};
use crate::tenant::Route;

/// Why a mail is not brought.
pub(super) enum NoMail {
    /// An error of ours, or one that may pass.
    Error(Error),
    /// It needs somebody who sees to it; the words say to what.
    Refused(String),
}

impl From<Error> for NoMail {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl Webhooks {
    /// Keeps a mail that a delivery tells of as a delivery of its own, from where it is applied: so
    /// that one delivery may be applied within another, this is boxed.
    pub(super) fn bring_stored<'a>(
        &'a self,
        delivery: &'a Delivery,
        place: &'a StoredMail,
        route: &'a Route,
    ) -> BoxFuture<'a, Applied> {
        let keeping = async move {
            match self.keep_stored(delivery, place, route).await {
                // What tells of it says nothing else.
                Ok(()) => Applied::Done(Effect::Known),
                Err(NoMail::Error(error)) => Applied::not(error),
                Err(NoMail::Refused(words)) => Applied::Failed(words),
            }
        };
        keeping.boxed()
    }

    async fn keep_stored(
        &self,
        delivery: &Delivery,
        place: &StoredMail,
        route: &Route,
    ) -> Result<(), NoMail> {
        let access = self.0.tenants.account_access(route.account).await?;
        let mail = self.0.amazon.mail(place, &access.access_token).await?;
        let apps = self.apps(delivery.channel, Some(route.app.0)).await?;
        let app = apps.iter().find(|app| app.id == route.app);
        let app = app.ok_or_else(|| Error::internal("the account has no app"))?;
        let body = ses::completed(&delivery.body, &mail);
        let body = body.ok_or_else(|| Error::internal("the delivery tells of no mail"))?;
        let new = NewDelivery {
            app: app.clone(),
            channel: delivery.channel,
            headers: json!({"content-type": "application/json"}),
            body: asked_for(route.app, body.into()),
            correlation_id: delivery.correlation_id.clone(),
        };
        Ok(self.take(new).await?)
    }
}
