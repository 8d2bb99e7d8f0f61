//! Hints by the notifications of PostgreSQL, over one connection of its own.
//!
//! A notification takes a lock of the whole database server until its commit, so none is sent with a
//! change: what was changed meanwhile is told together, behind the commits.

use std::sync::{Arc, Weak};

use futures_util::FutureExt as _;

use super::{Hints, Never, keep_talking};
use crate::database::dial::Dialer;
use crate::error::Error;

/// Tells and hears until nobody needs hints any more.
pub async fn by_postgres(service: Dialer, hints: Weak<Hints>) {
    let service = service.aside("hints");
    let talk = |hints| talk(service.clone(), hints).boxed();
    keep_talking(hints, talk).await;
}

async fn talk(service: Dialer, hints: Arc<Hints>) -> Result<Never, Error> {
    let (client, heard) = service.listen().await.map_err(Error::internal)?;
    let listening = client.batch_execute("LISTEN communication_hints").await;
    listening.map_err(Error::internal)?;
    // It changes nothing that a crash could take back. For this statement alone: behind a pooler the
    // session may be anybody's afterwards.
    let tell = client.prepare(
        "SELECT set_config('synchronous_commit', 'off', true), pg_notify('communication_hints', $1)",
    );
    let tell = tell.await.map_err(Error::internal)?;
    let (client, tell) = (&client, &tell);
    let say = |words: String| {
        let telling = async move {
            let told = client.execute(tell, &[&words]).await;
            told.map(drop).map_err(Error::internal)
        };
        telling.boxed()
    };
    hints.talk(heard, say).await
}
