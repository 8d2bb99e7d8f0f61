//! Hints by NATS: for more servers than PostgreSQL should be asked to pass each other's words on to.

use std::sync::{Arc, Weak};

use async_nats::{ConnectOptions, ServerAddr};
use futures_util::{FutureExt as _, StreamExt as _};

use super::{Hints, Never, keep_talking};
use crate::error::Error;

/// Tells and hears about a subject until nobody needs hints any more.
pub async fn by_nats(servers: Vec<ServerAddr>, subject: String, hints: Weak<Hints>) {
    let talk = |hints| talk(servers.clone(), subject.clone(), hints).boxed();
    keep_talking(hints, talk).await;
}

async fn talk(
    servers: Vec<ServerAddr>,
    subject: String,
    hints: Arc<Hints>,
) -> Result<Never, Error> {
    let options = ConnectOptions::new().name("communication-service");
    let client = options.connect(servers).await.map_err(Error::internal)?;
    let heard = client.subscribe(subject.clone()).await;
    let heard = heard.map_err(Error::internal)?;
    let heard = heard.map(|told| String::from_utf8_lossy(&told.payload).into_owned());
    let (client, subject) = (&client, &subject);
    let say = |words: String| {
        let telling = async move {
            let told = client.publish(subject.clone(), words.into()).await;
            told.map_err(Error::internal)?;
            client.flush().await.map_err(Error::internal)
        };
        telling.boxed()
    };
    hints.talk(heard, say).await
}
