//! The actor on the wire.

use super::caller::Actor;
use crate::error::Error;
use crate::pb;

/// The longest id of an actor, in characters.
const MAX_ID: usize = 128;

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
        let id = actor.id();
        if id.is_empty() || id.chars().count() > MAX_ID || id.contains(char::is_control) {
            return Err(Error::invalid(
                field,
                "must be 1 to 128 characters, none of them control",
            ));
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
