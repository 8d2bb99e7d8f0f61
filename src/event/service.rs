//! The calls of `EventService`.

use std::sync::Arc;

use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use super::audience::Viewer;
use super::entry;
use super::feed::Feeds;
use super::filter::{Customer, Filter};
use super::log;
use super::subscription::{Frame, Start, Subscription};
use super::wire::Tokens;
use crate::chat;
use crate::error::{Conflict, Error};
use crate::pb;
use crate::pb::event_service_server::EventService;
use crate::tenant::{TenantDirectory, TenantScope};

/// Serves the events of tenants.
#[derive(Clone)]
pub struct Events {
    tenants: TenantDirectory,
    feeds: Arc<Feeds>,
    stopping: watch::Receiver<bool>,
}

impl Events {
    /// Serves the tenants of a directory, until the server stops.
    pub fn new(tenants: TenantDirectory, stopping: watch::Receiver<bool>) -> Self {
        Self {
            tenants,
            feeds: Arc::default(),
            stopping,
        }
    }

    /// Streams what concerns a customer.
    pub fn of_customer(
        &self,
        scope: &TenantScope,
        start: Start,
        customer: Customer,
    ) -> BoxStream<'static, Result<Frame, Error>> {
        let filter = Filter::Customer(customer);
        self.subscription(scope, start, filter).frames().boxed()
    }

    fn subscription(&self, scope: &TenantScope, start: Start, filter: Filter) -> Subscription {
        let feed = self.feeds.of(&self.tenants, scope);
        let facts = scope.facts();
        let user = facts.actor.user_id();
        let viewer = Viewer {
            actor: facts.actor.clone(),
            own: user.map(|user| feed.memberships().of(user)),
            unrestricted: facts.unrestricted.is_some(),
        };
        Subscription {
            tenants: self.tenants.clone(),
            scope: scope.clone(),
            feed,
            start,
            filter,
            viewer,
            stopping: self.stopping.clone(),
        }
    }
}

#[tonic::async_trait]
impl EventService for Events {
    async fn get_head(
        &self,
        request: Request<pb::GetHeadRequest>,
    ) -> Result<Response<pb::GetHeadResponse>, Status> {
        let (tenant, _) = self.tenants.enter(request).await?;
        let mut conn = tenant.conn().await?;
        let settled = log::settled(&mut conn).await?;
        // Somebody has been writing for seconds, and will end or be ended.
        let settled = settled.ok_or(Error::Aborted(Conflict::Transaction))?;
        let head = entry::last(&mut conn, settled).await?.unwrap_or_default();
        let token = Tokens::of(&tenant, self.tenants.page_sealer()).token(head)?;
        Ok(Response::new(pb::GetHeadResponse { token }))
    }

    type SubscribeStream = BoxStream<'static, Result<pb::SubscribeResponse, Status>>;

    async fn subscribe(
        &self,
        request: Request<pb::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let (scope, request) = self.tenants.enter(request).await?;
        let tokens = Tokens::of(&scope, self.tenants.page_sealer());
        let (start, filter) = tokens.asked(request)?;
        if scope.facts().unrestricted.is_some() {
            chat::note_list(&mut scope.conn().await?).await?;
        }
        let frames = self.subscription(&scope, start, filter).frames();
        let frames = frames.and_then(move |frame| std::future::ready(tokens.frame(frame)));
        Ok(Response::new(frames.map_err(Status::from).boxed()))
    }
}
