//! The actor on the wire.

use super::caller::Actor;
use crate::error::Error;
use crate::pb;

impl TryFrom<pb::Actor> for Actor {
    type Error = Error;

    fn try_from(actor: pb::Actor) -> Result<Self, Error> {
        use pb::actor::Kind;
        let (field, actor) = match actor.kind {
            Some(Kind::UserId(id)) => ("actor.user_id", Self::User(id)),
            Some(Kind::BotId(id)) => ("actor.bot_id", Self::Bot(id)),
            Some(Kind::Service(id)) => ("actor.service", Self::Service(id)),
            None => {
                return Err(Error::invalid(
                    "actor",
                    "must name a user, a bot or a service",
                ));
            }
        };
        if !Self::may_be_called(actor.id()) {
            let form = "must be 1 to 128 characters, none of them control";
            return Err(Error::invalid(field, form));
        }
        Ok(actor)
    }
}

impl From<Actor> for pb::Actor {
    fn from(actor: Actor) -> Self {
        use pb::actor::Kind;
        let kind = match actor {
            Actor::User(id) => Kind::UserId(id),
            Actor::Bot(id) => Kind::BotId(id),
            Actor::Service(id) => Kind::Service(id),
        };
        Self { kind: Some(kind) }
    }
}
